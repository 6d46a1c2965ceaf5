package sequence

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/integration/sequence/ent"
	"github.com/credent-go/credent/integration/sequence/ent/note"
)

// operation is one call of ent, and what should come of it.
type operation struct {
	name string
	// run calls ent.
	run func(ctx context.Context, client *ent.Client) error
	// apply changes the table, or returns the outcome to expect instead.
	apply func(table) error
}

// choose makes up an operation, given the notes that exist.
func (w *world) choose(s *source, now table) operation {
	switch s.n(12) {
	case 0, 1:
		return w.create(s)
	case 2:
		return w.bulk(s)
	case 3, 4, 5:
		return w.upsert(s)
	case 6, 7:
		return w.updateOne(s, now)
	case 8:
		return w.updateMany(s)
	case 9:
		return w.modify(s)
	case 10:
		return w.raw(s, now)
	}
	return w.remove(s)
}

func newRow(s *source) (string, row) {
	return pick(s, titles), row{
		owner: pick(s, owners), body: s.text(bodies), email: s.text(emails),
		code: s.text(codes),
	}
}

// builder returns the Create of a row. An absent secret isn't set, or set to
// an absent one.
func builder(client *ent.Client, title string, r row, explicit bool) *ent.NoteCreate {
	c := client.Note.Create().SetTitle(title).SetOwnerID(r.owner)
	if r.body != nil || explicit {
		c.SetBody(secret(r.body))
	}
	if r.email != nil || explicit {
		c.SetEmail(secret(r.email))
	}
	if r.code != nil || explicit {
		c.SetCode(bytesOf(r.code))
	}
	return c
}

func insert(t table, title string, r row) error {
	if _, ok := t[title]; ok || t.taken(title, r.code) {
		return errTaken
	}
	t[title] = r
	return nil
}

func (w *world) create(s *source) operation {
	title, r := newRow(s)
	explicit := s.n(2) == 0
	return operation{
		name: fmt.Sprintf("create %s: %s", title, r),
		run: func(ctx context.Context, client *ent.Client) error {
			return builder(client, title, r, explicit).Exec(ctx)
		},
		apply: func(t table) error { return insert(t, title, r) },
	}
}

func (w *world) bulk(s *source) operation {
	var names []string
	var rows []row
	for range 1 + s.n(3) {
		title, r := newRow(s)
		names, rows = append(names, title), append(rows, r)
	}
	mapped := s.n(2) == 0
	return operation{
		name: fmt.Sprintf("bulk %v: %v", names, rows),
		run: func(ctx context.Context, client *ent.Client) error {
			if mapped {
				return client.Note.MapCreateBulk(rows, func(c *ent.NoteCreate, i int) {
					c.SetTitle(names[i]).SetOwnerID(rows[i].owner).SetBody(secret(rows[i].body)).
						SetEmail(secret(rows[i].email)).
						SetCode(bytesOf(rows[i].code))
				}).Exec(ctx)
			}
			var builders []*ent.NoteCreate
			for i, r := range rows {
				builders = append(builders, builder(client, names[i], r, false))
			}
			return client.Note.CreateBulk(builders...).Exec(ctx)
		},
		apply: func(t table) error {
			for i, r := range rows {
				if err := insert(t, names[i], r); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// What an upsert does with a column of the row that conflicts.
const (
	keep     = iota
	excluded // the new row's
	given
	cleared
)

// conflict is what an upsert does.
type conflict struct {
	target       []string
	newValues    bool
	ignore, none bool
	owner        bool // is set to the new row's
	secrets      [3]int
	values       [3]*string // of given ones
}

func (w *world) upsert(s *source) operation {
	title, r := newRow(s)
	explicit := s.n(2) == 0
	c := conflict{target: []string{note.FieldTitle}}
	if s.n(2) == 0 {
		c.target = []string{note.FieldOwnerID, note.FieldTitle}
	}
	switch s.n(6) {
	case 0, 1:
		c.newValues = true
	case 2:
		c.ignore = true
	case 3:
		c.none = true
	default:
		c.owner = s.n(2) == 0
		c.secrets = [3]int{s.n(4), s.n(4), s.n(4)}
		c.values = [3]*string{s.text(bodies), s.text(emails), s.text(codes)}
	}
	return operation{
		name: fmt.Sprintf("upsert %s: %s %+v", title, r, c),
		run: func(ctx context.Context, client *ent.Client) error {
			u := builder(client, title, r, explicit).OnConflictColumns(c.target...)
			switch {
			case c.newValues:
				u.UpdateNewValues()
			case c.ignore:
				u.Ignore()
			case c.none:
				u.DoNothing()
			default:
				u.Update(c.set)
			}
			err := u.Exec(ctx)
			if c.none && errors.Is(err, sql.ErrNoRows) { // ent's answer to nothing
				return nil
			}
			return err
		},
		apply: func(t table) error { return c.apply(t, title, r, explicit, w.scoped()) },
	}
}

// set is the upsert's Update.
func (c conflict) set(u *ent.NoteUpsert) {
	u.SetIgnore(note.FieldTitle)
	if c.owner {
		u.UpdateOwnerID()
	}
	for i, of := range []struct{ update, set, clear func() }{
		{func() { u.UpdateBody() }, func() { u.SetBody(secret(c.values[0])) }, func() { u.ClearBody() }},
		{func() { u.UpdateEmail() }, func() { u.SetEmail(secret(c.values[1])) }, func() { u.ClearEmail() }},
		{func() { u.UpdateCode() }, func() { u.SetCode(bytesOf(c.values[2])) }, func() { u.ClearCode() }},
	} {
		switch c.secrets[i] {
		case excluded:
			of.update()
		case given:
			of.set()
		case cleared:
			of.clear()
		}
	}
}

func (c conflict) apply(t table, title string, r row, explicit, scoped bool) error {
	news := [3]*string{r.body, r.email, r.code}
	if c.newValues {
		c.owner = true
		for i := range c.secrets {
			if news[i] != nil || explicit {
				c.secrets[i] = excluded
			}
		}
	}
	if !c.ignore && !c.none && scoped && c.isRefused() {
		return encrypted.ErrWrongLocation
	}
	old, there := t[title]
	switch {
	case !there:
		return insert(t, title, r)
	case len(c.target) == 2 && old.owner != r.owner:
		return errTaken // the title's own index
	case c.ignore, c.none:
		return nil
	}
	olds := [3]*string{old.body, old.email, old.code}
	for i, what := range c.secrets {
		switch what {
		case excluded:
			olds[i] = news[i]
		case given:
			olds[i] = c.values[i]
		case cleared:
			olds[i] = nil
		}
	}
	if c.owner {
		old.owner = r.owner
	}
	old.body, old.email, old.code = olds[0], olds[1], olds[2]
	if t.taken(title, old.code) {
		return errTaken
	}
	t[title] = old
	return nil
}

// isRefused reports whether an upsert could leave a token in another tenant's
// row: the row's tenant has to be in the conflict's target, or set, and then
// with all secrets.
func (c conflict) isRefused() bool {
	sure, moved := len(c.target) == 2 || c.owner, len(c.target) == 1 && c.owner
	for i, what := range c.secrets {
		stores := what == excluded || what == given && c.values[i] != nil
		if moved && what == keep || stores && !sure {
			return true
		}
	}
	return false
}

// update is what an update sets.
type update struct {
	owner   string // "" to leave it
	secrets [3]int
	values  [3]*string
}

func newUpdate(s *source) update {
	u := update{secrets: [3]int{s.n(4), s.n(4), s.n(4)}, values: [3]*string{
		s.text(bodies),
		s.text(emails), s.text(codes),
	}}
	if s.n(3) == 0 {
		u.owner = pick(s, owners)
	}
	for i, what := range u.secrets {
		if what == excluded || what == given && u.values[i] == nil {
			u.secrets[i] = keep
		}
	}
	return u
}

// stores reports whether a secret is set.
func (u update) stores() bool { return slices.Contains(u.secrets[:], given) }

func (u update) mutate(m *ent.NoteMutation) {
	if u.owner != "" {
		m.SetOwnerID(u.owner)
	}
	switch u.secrets[0] {
	case given:
		m.SetBody(secret(u.values[0]))
	case cleared:
		m.ClearBody()
	}
	switch u.secrets[1] {
	case given:
		m.SetEmail(secret(u.values[1]))
	case cleared:
		m.ClearEmail()
	}
	switch u.secrets[2] {
	case given:
		m.SetCode(bytesOf(u.values[2]))
	case cleared:
		m.ClearCode()
	}
}

func (u update) applyTo(t table, title string, scoped bool) error {
	r := t[title]
	if u.owner != "" && u.owner != r.owner && scoped && slices.Contains(u.secrets[:], keep) {
		return encrypted.ErrWrongLocation
	}
	if u.owner != "" {
		r.owner = u.owner
	}
	for i, of := range []**string{&r.body, &r.email, &r.code} {
		switch u.secrets[i] {
		case given:
			*of = u.values[i]
		case cleared:
			*of = nil
		}
	}
	if t.taken(title, r.code) {
		return errTaken
	}
	t[title] = r
	return nil
}

func (w *world) updateOne(s *source, now table) operation {
	u, id, title := newUpdate(s), 0, pick(s, titles)
	if known := now.sortedTitles(); len(known) > 0 && s.n(8) > 0 {
		title = pick(s, known)
	}
	return operation{
		name: fmt.Sprintf("update %s: %+v", title, u),
		run: func(ctx context.Context, client *ent.Client) error {
			var err error
			if id, err = client.Note.Query().Where(note.Title(title)).OnlyID(ctx); ent.IsNotFound(err) {
				id, err = -1, nil
			}
			if err != nil {
				return err
			}
			one := client.Note.UpdateOneID(id)
			u.mutate(one.Mutation())
			updated, err := one.Save(ctx)
			if err != nil {
				return err
			}
			_, err = updated.Body.Reveal() // of the node that the update returns
			return err
		},
		apply: func(t table) error {
			if _, ok := t[title]; !ok {
				return errNobody
			}
			return u.applyTo(t, title, w.scoped())
		},
	}
}

func (w *world) updateMany(s *source) operation {
	u, wanted := newUpdate(s), titles[:s.n(len(titles))+1]
	if s.n(3) > 0 {
		wanted = wanted[len(wanted)-1:]
	}
	return operation{
		name: fmt.Sprintf("update all of %v: %+v", wanted, u),
		run: func(ctx context.Context, client *ent.Client) error {
			many := client.Note.Update().Where(note.TitleIn(wanted...))
			u.mutate(many.Mutation())
			return many.Exec(ctx)
		},
		apply: func(t table) error {
			there := t.of(wanted)
			switch {
			case u.stores() && len(there) > 1:
				return encrypted.ErrManyRows
			case u.stores() && len(there) == 0:
				return nil
			case !u.stores() && u.owner != "" && w.scoped() && slices.Contains(u.secrets[:], keep):
				return encrypted.ErrWrongLocation // of many rows nobody says the tenant
			}
			for _, title := range there {
				if err := u.applyTo(t, title, w.scoped()); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// of returns the titles of a list that are there.
func (t table) of(list []string) (there []string) {
	for _, title := range list {
		if _, ok := t[title]; ok {
			there = append(there, title)
		}
	}
	return there
}

// modify sets secrets by a modifier: with At and DigestOf it works, without
// the digest or bare it doesn't.
func (w *world) modify(s *source) operation {
	wanted, how := titles[:s.n(len(titles))+1], s.n(4)
	if s.n(3) > 0 {
		wanted = wanted[len(wanted)-1:]
	}
	email := pick(s, emails)
	return operation{
		name: fmt.Sprintf("modify %v, %d: email %q", wanted, how, email),
		run: func(ctx context.Context, client *ent.Client) error {
			return client.Note.Update().Where(note.TitleIn(wanted...)).Modify(func(u *entsql.UpdateBuilder) {
				switch how {
				case 0:
					u.Set(note.FieldEmail, encrypted.New(email)).SetNull(note.FieldEmailIndex)
				case 1:
					u.Set(note.FieldEmail, encrypted.At(encrypted.New(email), note.EmailColumn, nil))
				default:
					u.Set(note.FieldEmail, encrypted.At(encrypted.New(email), note.EmailColumn, nil)).
						Set(note.FieldEmailIndex, encrypted.DigestOf(encrypted.New(email), note.EmailColumn, nil))
				}
			}).Exec(ctx)
		},
		apply: func(t table) error {
			there := t.of(wanted)
			switch {
			case len(there) == 0:
				return nil // and nothing is run
			case how == 0:
				return encrypted.ErrNoLocation
			case len(there) > 1:
				return encrypted.ErrManyRows
			case how == 1:
				return encrypted.ErrBlindIndex
			}
			r := t[there[0]]
			r.email = &email
			t[there[0]] = r
			return nil
		},
	}
}

// raw stores by the caller's SQL. It says the tenant of the first row.
func (w *world) raw(s *source, now table) operation {
	wanted, how := titles[:s.n(len(titles))+1], s.n(4)
	if s.n(2) > 0 {
		wanted = wanted[len(wanted)-1:]
	}
	body, email := pick(s, bodies), pick(s, emails)
	tenant := owners[0]
	if there := now.of(wanted); len(there) > 0 {
		tenant = now[there[0]].owner
	}
	return operation{
		name: fmt.Sprintf("raw update of %v, %d: body %.12q email %q", wanted, how, body, email),
		run: func(ctx context.Context, client *ent.Client) error {
			b := entsql.Dialect(w.dialect).Update(note.Table)
			if how > 0 {
				b.Set(note.FieldBody, encrypted.At(encrypted.New(body), note.BodyColumn, tenant))
			} else {
				b.Set(note.FieldBody, encrypted.New(body))
			}
			if how > 1 {
				b.Set(note.FieldEmail, encrypted.At(encrypted.New(email), note.EmailColumn, tenant)).
					Set(note.FieldEmailIndex, encrypted.DigestOf(encrypted.New(email), note.EmailColumn, nil))
			}
			list := make([]any, len(wanted))
			for i, title := range wanted {
				list[i] = title
			}
			query, args := b.Where(entsql.In(note.FieldTitle, list...)).Query()
			if how == 3 {
				return drain(client.QueryContext(ctx, query+` RETURNING "id"`, args...))
			}
			_, err := client.ExecContext(ctx, query, args...)
			return err
		},
		apply: func(t table) error {
			there := t.of(wanted)
			switch {
			case how == 0:
				return encrypted.ErrNoLocation
			case len(there) == 0:
				return nil
			case len(there) > 1:
				return encrypted.ErrManyRows
			}
			r := t[there[0]]
			if r.body = &body; how > 1 {
				r.email = &email
			}
			t[there[0]] = r
			return nil
		},
	}
}

// drain reads rows to their end.
func drain(rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	for rows.Next() {
	}
	return errors.Join(rows.Err(), rows.Close())
}

func (w *world) remove(s *source) operation {
	wanted := titles[:s.n(len(titles))+1]
	if s.n(4) > 0 {
		wanted = wanted[len(wanted)-1:]
	}
	return operation{
		name: "delete " + strings.Join(wanted, ", "),
		run: func(ctx context.Context, client *ent.Client) error {
			_, err := client.Note.Delete().Where(note.TitleIn(wanted...)).Exec(ctx)
			return err
		},
		apply: func(t table) error {
			for _, title := range wanted {
				delete(t, title)
			}
			return nil
		},
	}
}

package windows

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/integration/sequence/ent"
	"github.com/credent-go/credent/integration/sequence/ent/note"
	"github.com/credent-go/credent/integration/sequence/ent/predicate"
	"github.com/credent-go/credent/internal/states"
)

// errAccepted means that the database accepted another row's code.
var errAccepted = errors.New("a duplicate was accepted")

// writer is a service with the ent client, in one state at a time.
type writer struct {
	*part
	driver string
	client *ent.Client
	raced  int // this round's codes that it has raced for
}

func (w *writer) move(to states.Set) { w.client = w.w.client(w.driver, to) }

// work runs some operations.
func (w *writer) work(n int) error {
	for range n {
		if err := w.step(w.w.Context()); err != nil {
			return fmt.Errorf("writer %d over %s: %w", w.index, w.driver, err)
		}
	}
	return nil
}

// step runs an operation, and compares its result.
func (w *writer) step(ctx context.Context) error {
	w.operations++
	switch w.random.IntN(15) {
	case 0:
		return w.create(ctx)
	case 1:
		return w.bulk(ctx)
	case 2, 3:
		return w.update(ctx)
	case 4, 5:
		return w.upsert(ctx)
	case 6:
		return w.clear(ctx)
	case 7:
		return w.moveOwner(ctx)
	case 8, 9:
		return w.duplicate(ctx)
	case 10:
		return w.race(ctx)
	case 11:
		return w.read(ctx)
	}
	return w.lookUp(ctx, w.client)
}

func (w *writer) builder(e *entry) *ent.NoteCreate {
	return w.client.Note.Create().SetTitle(e.title).SetOwnerID(e.owner).SetBody(secret(e.texts[body])).
		SetEmail(secret(e.texts[email])).SetCode(bytesOf(e.texts[code]))
}

func (w *writer) create(ctx context.Context) error {
	e := w.fresh()
	n, err := w.builder(e).Save(ctx)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	e.id = n.ID
	w.add(e)
	return nil
}

func (w *writer) bulk(ctx context.Context) error {
	all := []*entry{w.fresh(), w.fresh(), w.fresh()}
	var builders []*ent.NoteCreate
	for _, e := range all {
		builders = append(builders, w.builder(e))
	}
	notes, err := w.client.Note.CreateBulk(builders...).Save(ctx)
	if err != nil {
		return fmt.Errorf("bulk: %w", err)
	}
	for i, e := range all {
		e.id = notes[i].ID
		w.add(e)
	}
	return nil
}

// update sets one or all secrets of a row, by its ID or by its title.
func (w *writer) update(ctx context.Context) (err error) {
	e, texts := w.changeable(), w.fresh().texts
	one := w.random.IntN(4)
	for i := range texts {
		if one < 3 && i != one {
			texts[i] = e.texts[i]
		}
	}
	if w.random.IntN(2) == 0 {
		u := w.client.Note.UpdateOneID(e.id)
		if one == body || one == 3 {
			u.SetBody(secret(texts[body]))
		}
		if one == email || one == 3 {
			u.SetEmail(secret(texts[email]))
		}
		if one == code || one == 3 {
			u.SetCode(bytesOf(texts[code]))
		}
		err = u.Exec(ctx)
	} else {
		u := w.client.Note.Update().Where(note.Title(e.title))
		if one == body || one == 3 {
			u.SetBody(secret(texts[body]))
		}
		if one == email || one == 3 {
			u.SetEmail(secret(texts[email]))
		}
		if one == code || one == 3 {
			u.SetCode(bytesOf(texts[code]))
		}
		err = u.Exec(ctx)
	}
	if err != nil {
		return fmt.Errorf("update: %w", err)
	}
	w.set(e, e.owner, texts)
	return nil
}

// upsert writes an existing row or a new one.
func (w *writer) upsert(ctx context.Context) error {
	e, old := w.fresh(), (*entry)(nil)
	if w.random.IntN(3) > 0 {
		old = w.changeable()
		e.title = old.title
	}
	id, err := w.builder(e).OnConflictColumns(note.FieldTitle).UpdateNewValues().ID(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("upsert: %w", err)
	case old == nil:
		e.id = id
		w.add(e)
	case old.id != id:
		return fmt.Errorf("an upsert of row %d has the ID %d", old.id, id)
	default:
		w.set(old, e.owner, e.texts)
	}
	return nil
}

func (w *writer) clear(ctx context.Context) error {
	e := w.changeable()
	u := w.client.Note.UpdateOneID(e.id)
	texts := e.texts
	switch w.random.IntN(3) {
	case body:
		u.ClearBody()
		texts[body] = nil
	case email:
		u.ClearEmail()
		texts[email] = nil
	default:
		u.ClearCode()
		texts[code] = nil
	}
	if err := u.Exec(ctx); err != nil {
		return fmt.Errorf("clear: %w", err)
	}
	w.set(e, e.owner, texts)
	return nil
}

// moveOwner gives a row with all its secrets to another tenant.
func (w *writer) moveOwner(ctx context.Context) error {
	e, owner := w.changeable(), w.owner()
	if err := w.client.Note.UpdateOneID(e.id).SetOwnerID(owner).SetBody(secret(e.texts[body])).
		SetEmail(secret(e.texts[email])).SetCode(bytesOf(e.texts[code])).Exec(ctx); err != nil {
		return fmt.Errorf("move: %w", err)
	}
	w.set(e, owner, e.texts)
	return nil
}

// duplicate tries to store another row's code.
func (w *writer) duplicate(ctx context.Context) (err error) {
	taken := w.w.taken[w.random.IntN(len(w.w.taken))]
	e, on := w.fresh(), w.changeable()
	e.texts[code] = &taken
	var what string
	switch w.random.IntN(4) {
	case 0:
		what, err = "create", w.builder(e).Exec(ctx)
	case 1:
		what, err = "bulk", w.client.Note.CreateBulk(w.builder(w.fresh()), w.builder(e)).Exec(ctx)
	case 2:
		e.title = on.title
		what, err = "upsert", w.builder(e).OnConflictColumns(note.FieldTitle).UpdateNewValues().Exec(ctx)
	default:
		what, err = "update", w.client.Note.UpdateOneID(on.id).SetCode(bytesOf(&taken)).Exec(ctx)
	}
	return w.isRefused(what, err)
}

func (w *writer) isRefused(what string, err error) error {
	switch {
	case err == nil:
		return fmt.Errorf("%s: %w", what, errAccepted)
	case !ent.IsConstraintError(err):
		return fmt.Errorf("%s of a duplicate: %w", what, err)
	}
	w.refused++
	return nil
}

// race stores a code that every writer tries to be first with.
func (w *writer) race(ctx context.Context) error {
	w.raced++
	text := fmt.Sprintf("race %d in round %d", w.raced, w.w.round)
	e := w.fresh()
	e.stable, e.texts[code] = true, &text
	n, err := w.builder(e).Save(ctx)
	w.w.tried(text, err == nil)
	if err != nil {
		return w.isRefused("race", err)
	}
	e.id = n.ID
	w.add(e)
	w.stored = append(w.stored, e)
	return nil
}

// read reveals the secrets of a row.
func (w *writer) read(ctx context.Context) error {
	e := w.shared()
	n, err := w.client.Note.Query().Where(note.Title(e.title)).Only(ctx)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return e.compare(n)
}

// lookUp looks for rows by an email, a code, or a code no longer in use.
func (p *part) lookUp(ctx context.Context, client *ent.Client) error {
	switch p.random.IntN(5) {
	case 0, 1:
		return p.lookUpEmail(ctx, client, p.any())
	case 2, 3:
		return p.lookUpCode(ctx, client, p.shared())
	}
	if len(p.freed) == 0 {
		return nil
	}
	given := p.freed[p.random.IntN(len(p.freed))]
	return p.find(ctx, client, note.CodeIs(bytesOf(&given)), nil)
}

func (p *part) lookUpEmail(ctx context.Context, client *ent.Client, e *entry) error {
	if e.texts[email] == nil {
		return nil
	}
	text := strings.ToLower(*e.texts[email])
	return p.find(ctx, client, note.EmailIs(encrypted.New(strings.ToUpper(text))), p.byEmail[text])
}

func (p *part) lookUpCode(ctx context.Context, client *ent.Client, e *entry) error {
	if e.texts[code] == nil {
		return nil
	}
	return p.find(ctx, client, note.CodeIs(bytesOf(e.texts[code])), map[*entry]bool{e: true})
}

func (p *part) find(ctx context.Context, client *ent.Client, where predicate.Note, want map[*entry]bool) error {
	p.lookups++
	notes, err := client.Note.Query().Where(where).All(ctx)
	if err != nil {
		return fmt.Errorf("lookup: %w", err)
	}
	found := make(map[string]*ent.Note, len(notes))
	for _, n := range notes {
		found[n.Title] = n
	}
	for e := range want {
		n := found[e.title]
		if n == nil {
			return fmt.Errorf("a lookup misses the row %q", e.title)
		}
		if err := e.compare(n); err != nil {
			return fmt.Errorf("lookup: %w", err)
		}
	}
	if len(notes) != len(want) {
		return fmt.Errorf("a lookup finds %d rows, want %d", len(notes), len(want))
	}
	return nil
}

// compare compares a row with the client's values.
func (e *entry) compare(n *ent.Note) error {
	texts, err := reveal(n)
	if err != nil {
		return fmt.Errorf("read %q: %w", e.title, err)
	}
	if !sameTexts(texts, e.texts) || n.OwnerID != e.owner {
		return fmt.Errorf("%q reads differently", e.title)
	}
	return nil
}

// reveal returns the secrets of a row.
func reveal(n *ent.Note) (texts [3]*string, err error) {
	for i, s := range []encrypted.Secret{n.Body, n.Email} {
		if s.IsZero() {
			continue
		}
		text, err := s.Reveal()
		if err != nil {
			return texts, fmt.Errorf("%s: %w", columnNames[i], err)
		}
		texts[i] = &text
	}
	if !n.Code.IsZero() {
		b, err := n.Code.Reveal()
		if err != nil {
			return texts, fmt.Errorf("code: %w", err)
		}
		text := string(b)
		texts[code] = &text
	}
	return texts, nil
}

func sameTexts(a, b [3]*string) bool {
	return same(a[body], b[body]) && same(a[email], b[email]) && same(a[code], b[code])
}

func secret(text *string) encrypted.Secret {
	if text == nil {
		return encrypted.Secret{}
	}
	return encrypted.New(*text)
}

func bytesOf(text *string) encrypted.Value[[]byte] {
	if text == nil {
		return encrypted.Value[[]byte]{}
	}
	return encrypted.NewValue([]byte(*text))
}

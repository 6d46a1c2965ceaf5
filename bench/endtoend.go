package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/migrate"
)

// Operations on a database.
const (
	groupInsert = "insert"
	groupBulk   = "bulk 500"
	groupRead   = "read 10k"
	groupPoint  = "point lookup"
	groupList   = "list without reveal"
)

var endGroups = []string{groupInsert, groupBulk, groupRead, groupPoint, groupList}

// bulkSize is the number of rows in one statement or transaction of a bulk.
const bulkSize = 500

// typeNew is the credential_type of the rows that a measure adds, and that are
// deleted after it; the others stay.
const (
	typeStored = "alpaca"
	typeNew    = "new"
)

// values makes the two secrets of rows, of fixed sizes in bytes.
type values struct{ apiKey, secretKey int }

var (
	// keySizes are the lengths of Alpaca's keys.
	keySizes = values{apiKey: 24, secretKey: 40}
	// tokenSizes are the lengths in characters that such keys have as tokens: a
	// client without encryption moves as much with columns this long.
	tokenSizes = values{apiKey: 120, secretKey: 140}
)

func (v values) of(i int) (apiKey, secretKey string) {
	digits := fmt.Sprintf("%08d", i)
	return "PK" + digits + strings.Repeat("a", v.apiKey-10), "SK" + digits + strings.Repeat("s", v.secretKey-10)
}

// digest returns what takes the place of a digest in the index of clients that
// make none. All have a value there, and pay for it.
func digest() []byte {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails, per its documentation
	return random
}

// check tells whether two plaintexts are of a row's.
func (v values) check(apiKey, secretKey string) error {
	if len(apiKey) != v.apiKey || len(secretKey) != v.secretKey ||
		!strings.HasPrefix(apiKey, "PK") || !strings.HasPrefix(secretKey, "SK") || apiKey[2:10] != secretKey[2:10] {
		return errors.New("the row has other secrets than were stored")
	}
	return nil
}

// account is the account that all rows belong to.
type account struct {
	id     uuid.UUID
	userID string
}

// peer is a client that is measured. Its methods fail if what they read is not
// what was stored.
type peer interface {
	// insert stores n rows of a type, one statement and transaction each.
	insert(ctx context.Context, n int, kind string) error
	// bulk stores n rows, bulkSize at a time.
	bulk(ctx context.Context, n int, kind string) error
	// read reads all rows of the type stored, as entities, and both secrets of
	// each; list does not look at the secrets.
	read(ctx context.Context) (rows int, err error)
	list(ctx context.Context) (rows int, err error)
	// point reads the rows of the given primary keys one by one, and both
	// secrets of each.
	point(ctx context.Context, ids []uuid.UUID) error
	close() error
}

// contender is a peer with a database of its own, and what it is called in the
// report.
type contender struct {
	name string
	note string
	open func(ctx context.Context, databaseURL string, a account) (peer, error)
	// plaintext is for those that store no tokens: their database has no CHECK
	// on them.
	plaintext bool
	// eager is one that can only list with the secrets opened, so that its list
	// is a read, and is not run again.
	eager bool
}

// running is a contender at work.
type running struct {
	contender
	peer
	db   *sql.DB // to put things back
	ids  []uuid.UUID
	drop func() error
}

func (r *running) stop() error { return errors.Join(r.close(), r.db.Close(), r.drop()) }

// start makes a database with the rows that are read, stored by the contender
// itself.
func (c contender) start(
	ctx context.Context, server *pgserver.Server, template string, rows int,
) (_ *running, err error) {
	databaseURL, drop, err := server.CreateDatabase(ctx, template)
	if err != nil {
		return nil, err
	}
	r := &running{contender: c, drop: drop}
	if r.db, _, err = credent.OpenDB(databaseURL); err != nil {
		return nil, err
	}
	if c.plaintext {
		if _, err := r.db.ExecContext(ctx, `ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_api_key_encrypted,
			DROP CONSTRAINT user_credentials_secret_key_encrypted`); err != nil {
			return nil, err
		}
	}
	a := account{id: uuid.New(), userID: "user-1"}
	if _, err := r.db.ExecContext(ctx, "INSERT INTO user_accounts (id, user_id, account_name) VALUES ($1, $2, 'Ada')",
		a.id.String(), a.userID); err != nil {
		return nil, err
	}
	if r.peer, err = c.open(ctx, databaseURL, a); err != nil {
		return nil, err
	}
	if err := r.bulk(ctx, rows, typeStored); err != nil {
		return nil, err
	}
	if _, err := r.db.ExecContext(ctx, "VACUUM ANALYZE user_credentials"); err != nil {
		return nil, err
	}
	r.ids, err = readIDs(ctx, r.db)
	return r, err
}

// readIDs returns the primary keys in an order that is not theirs.
func readIDs(ctx context.Context, db *sql.DB) (ids []uuid.UUID, err error) {
	rows, err := db.QueryContext(ctx, "SELECT id::text FROM user_credentials ORDER BY md5(id::text)")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// reset deletes what a measure stored.
func (r *running) reset(ctx context.Context) error {
	if _, err := r.db.ExecContext(ctx, "DELETE FROM user_credentials WHERE credential_type = $1", typeNew); err != nil {
		return err
	}
	if _, err := r.db.ExecContext(ctx, "VACUUM user_credentials"); err != nil {
		return err
	}
	return r.settle(ctx)
}

// settle makes a client with an audit trail write what it has not written yet,
// so that it doesn't fall on others.
func (r *running) settle(ctx context.Context) error {
	if p, ok := r.peer.(*trailPeer); ok {
		return p.trail.Flush(ctx)
	}
	return nil
}

// all returns a function that reads all rows, given their number.
func all(ctx context.Context, read func(context.Context) (int, error)) func(n int) error {
	return func(n int) error {
		rows, err := read(ctx)
		if err == nil && rows != n {
			err = fmt.Errorf("got %d rows, want %d", rows, n)
		}
		return err
	}
}

// measures are what a contender is measured by.
func (r *running) measures(ctx context.Context, cfg config) []measure {
	stored := len(r.ids)
	reset := func() error { return r.reset(ctx) }
	settle := func() error { return r.settle(ctx) }
	next := 0
	ms := []measure{
		{
			group: groupInsert, n: cfg.inserts, times: cfg.repeats, turns: cfg.turns, after: reset,
			run: func(n int) error {
				return r.insert(ctx, n, typeNew)
			},
		},
		{
			group: groupBulk, n: cfg.bulkRows, times: cfg.longRepeats, turns: cfg.bulkTurns, after: reset,
			run: func(n int) error {
				return r.bulk(ctx, n, typeNew)
			},
		},
		{group: groupRead, n: stored, times: cfg.longRepeats, run: all(ctx, r.read), after: settle},
		{group: groupList, n: stored, times: cfg.longRepeats, run: all(ctx, r.list)},
		{group: groupPoint, n: cfg.points, times: cfg.repeats, turns: cfg.turns, after: settle, run: func(n int) error {
			ids := make([]uuid.UUID, n)
			for i := range ids {
				ids[i] = r.ids[next%stored]
				next++
			}
			return r.point(ctx, ids)
		}},
	}
	if r.eager {
		ms = slices.DeleteFunc(ms, func(m measure) bool { return m.group == groupList })
	}
	for i := range ms {
		ms[i].name = r.name
	}
	return ms
}

// runEndToEnd measures all contenders against each other, each on a copy of one
// database.
func runEndToEnd(ctx context.Context, cfg config, server *pgserver.Server, s series) (err error) {
	template, drop, err := newTemplate(ctx, server)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	var measures []measure
	for _, c := range contenders() {
		r, err := c.start(ctx, server, template, cfg.stored)
		if err != nil {
			return fmt.Errorf("start %s: %w", c.name, err)
		}
		defer func() { err = errors.Join(err, r.stop()) }()
		measures = append(measures, r.measures(ctx, cfg)...)
		if copier, ok := r.peer.(*credentPeer); ok && c.name == nameCredentPGX {
			measures = append(measures, measure{
				group: groupBulk, name: nameCopy, n: cfg.bulkRows, times: cfg.longRepeats,
				after: func() error { return r.reset(ctx) },
				run:   func(n int) error { return copier.copy(ctx, n, typeNew) },
			})
		}
	}
	if err := warmUp(measures, func(m measure) int {
		switch m.group {
		case groupInsert, groupPoint:
			return min(m.n, 50)
		case groupBulk:
			return min(m.n, bulkSize)
		}
		return m.n // all
	}); err != nil {
		return err
	}
	if err := rounds(cfg.rounds, measures, s); err != nil {
		return err
	}
	for _, c := range contenders() {
		if c.eager {
			s[key{groupList, c.name}] = s[key{groupRead, c.name}]
		}
	}
	return nil
}

// newTemplate makes an empty database with Credent's tables.
func newTemplate(ctx context.Context, server *pgserver.Server) (template string, drop func() error, err error) {
	template, drop, err = server.CreateDatabase(ctx, "")
	if err != nil {
		return "", nil, err
	}
	db, _, err := credent.OpenDB(template)
	if err != nil {
		return "", nil, err
	}
	return template, drop, errors.Join(migrate.Apply(ctx, db, migrate.Config{}), db.Close())
}

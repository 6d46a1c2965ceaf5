package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/rotate"
)

// The operations on tables of several sizes. The first three are timed in
// rounds, the others once for each size.
const (
	groupGrowPoint  = "growth: point lookup"
	groupGrowList   = "growth: list by account"
	groupGrowInsert = "growth: insert"
	groupGrowCopy   = "growth: credent.Copy, a row"
	groupGrowApply  = "growth: migrate, a row"
	groupGrowRotate = "growth: rotate, a row"
)

var growthGroups = []string{
	groupGrowPoint, groupGrowList, groupGrowInsert, groupGrowCopy, groupGrowApply, groupGrowRotate,
}

// perAccount is the number of credentials per account.
const perAccount = 10

// firstMigration creates the tables; later ones take longer if the tables have
// rows.
const firstMigration = "20261124030000"

func sizeName(rows int) string {
	switch {
	case rows >= 1_000_000:
		return fmt.Sprintf("%dM rows", rows/1_000_000)
	case rows >= 1000:
		return fmt.Sprintf("%dk rows", rows/1000)
	}
	return fmt.Sprintf("%d rows", rows)
}

// grown is a database with the given number of credentials.
type grown struct {
	rows     int
	db       *sql.DB
	client   *ent.Client
	keys     []string
	ring     *keyring.Keyring
	accounts []account
	sample   []uuid.UUID
	drop     func() error
}

func (g *grown) stop() error { return errors.Join(g.client.Close(), g.drop()) }

// runGrowth measures the cost of several table sizes.
func runGrowth(ctx context.Context, cfg config, server *pgserver.Server, s series) (err error) {
	var measures []measure
	var all []*grown
	for _, rows := range cfg.growth {
		g, err := grow(ctx, server, rows, s)
		if err != nil {
			return fmt.Errorf("%s: %w", sizeName(rows), err)
		}
		defer func() { err = errors.Join(err, g.stop()) }()
		all = append(all, g)
		measures = append(measures, g.measures(ctx, cfg)...)
	}
	for range 2 {
		if err := warmUp(measures, func(m measure) int { return min(m.n, 500) }); err != nil {
			return err
		}
	}
	if err := rounds(cfg.rounds, measures, s); err != nil {
		return err
	}
	for _, g := range all {
		if err := g.rotate(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// grow creates the tables and loads them.
func grow(ctx context.Context, server *pgserver.Server, rows int, s series) (*grown, error) {
	databaseURL, drop, err := server.CreateDatabase(ctx, "")
	if err != nil {
		return nil, err
	}
	g := &grown{rows: rows, drop: drop, keys: []string{keyring.GenerateKey(), keyring.GenerateKey()}}
	if g.ring, err = keyring.New(g.keys[0]); err != nil {
		return nil, err
	}
	db, dialect, err := openPool(databaseURL, "", nil)
	if err != nil {
		return nil, err
	}
	g.db = db
	if g.client, err = credent.NewClient(db, dialect, credent.Config{Keyring: g.ring}); err != nil {
		return nil, err
	}
	if err := g.timeMigrations(ctx, server, s); err != nil {
		return nil, err
	}
	if err := migrate.Apply(ctx, db, migrate.Config{}); err != nil {
		return nil, err
	}
	if err := g.addAccounts(ctx); err != nil {
		return nil, err
	}
	if err := g.once(groupGrowCopy, s, func() error {
		_, err := credent.Copy(ctx, db, g.credentials(), credent.CopyConfig{}, credent.Config{Keyring: g.ring})
		return err
	}); err != nil {
		return nil, err
	}
	if _, err := db.ExecContext(ctx, "VACUUM ANALYZE"); err != nil {
		return nil, err
	}
	found, err := db.QueryContext(ctx, "SELECT id::text FROM user_credentials WHERE random() < $1 LIMIT 5000",
		6000/float64(rows))
	if err != nil {
		return nil, err
	}
	defer func() { _ = found.Close() }()
	for found.Next() {
		var id uuid.UUID
		if err := found.Scan(&id); err != nil {
			return nil, err
		}
		g.sample = append(g.sample, id)
	}
	return g, found.Err()
}

// timeMigrations migrates the Python application's tables, of the same size, in
// a separate database.
func (g *grown) timeMigrations(ctx context.Context, server *pgserver.Server, s series) (err error) {
	databaseURL, drop, err := server.CreateDatabase(ctx, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	db, _, err := openPool(databaseURL, "", nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := migrate.Apply(ctx, db, migrate.Config{Target: firstMigration}); err != nil {
		return err
	}
	for _, statement := range []string{
		fmt.Sprintf(`INSERT INTO user_accounts (id, user_id, account_name)
			SELECT gen_random_uuid(), 'user-' || n, 'Ada' FROM generate_series(1, %d) AS n`, max(1, g.rows/perAccount)),
		fmt.Sprintf(`INSERT INTO user_credentials (id, user_account_id, user_id, credential_type, api_key, secret_key)
			SELECT gen_random_uuid(), a.id, a.user_id, 'alpaca', rpad('gAAAAAB', 120, md5(n::text)), rpad('gAAAAAB', 140, md5(n::text))
			FROM user_accounts AS a, generate_series(1, %d) AS n`, perAccount),
		"VACUUM ANALYZE",
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return g.once(groupGrowApply, s, func() error { return migrate.Apply(ctx, db, migrate.Config{}) })
}

// once times an operation on the whole table.
func (g *grown) once(group string, s series, do func() error) error {
	start := time.Now()
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", group, err)
	}
	k := key{group, sizeName(g.rows)}
	s[k] = append(s[k], float64(time.Since(start).Nanoseconds())/float64(g.rows))
	return nil
}

func (g *grown) addAccounts(ctx context.Context) error {
	n := max(1, g.rows/perAccount)
	g.accounts = make([]account, n)
	for i := range g.accounts {
		g.accounts[i] = account{uuid.New(), fmt.Sprintf("user-%d", i)}
	}
	const batch = 2000
	for i := 0; i < n; i += batch {
		part := g.accounts[i:min(n, i+batch)]
		builders := make([]*ent.UserAccountCreate, len(part))
		for j, a := range part {
			builders[j] = g.client.UserAccount.Create().SetID(a.id).SetUserID(a.userID).SetAccountName("Ada")
		}
		if err := g.client.UserAccount.CreateBulk(builders...).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// credentials yields the rows in the order in which a table fills up: an
// account's rows are spread out.
func (g *grown) credentials() iter.Seq2[credent.CopyRow, error] {
	return func(yield func(credent.CopyRow, error) bool) {
		for i := range g.rows {
			a := g.accounts[i%len(g.accounts)]
			apiKey, secretKey := keySizes.of(i)
			if !yield(credent.CopyRow{
				UserAccountID: a.id, UserID: a.userID, CredentialType: typeStored,
				APIKey: credent.NewSecret(apiKey), SecretKey: credent.NewSecret(secretKey),
			}, nil) {
				return
			}
		}
	}
}

func (g *grown) measures(ctx context.Context, cfg config) []measure {
	name := sizeName(g.rows)
	p := &credentPeer{client: g.client, account: g.accounts[0]}
	return []measure{
		{
			group: groupGrowPoint, name: name, n: cfg.points, times: cfg.repeats, turns: cfg.turns,
			run: func(n int) error {
				ids := make([]uuid.UUID, n)
				for i := range ids {
					ids[i] = g.sample[rand.IntN(len(g.sample))] //nolint:gosec // G404: which row is read is no secret
				}
				return p.point(ctx, ids)
			},
		},
		{group: groupGrowList, name: name, n: cfg.points, times: cfg.repeats, turns: cfg.turns, run: func(n int) error {
			for range n {
				a := g.accounts[rand.IntN(len(g.accounts))] //nolint:gosec // G404: nor is which account
				rows, err := g.client.UserCredential.Query().Where(usercredential.UserAccountID(a.id)).All(ctx)
				if err != nil {
					return err
				}
				if len(rows) < min(perAccount, g.rows) {
					return fmt.Errorf("got %d rows, want %d", len(rows), perAccount)
				}
			}
			return nil
		}},
		{
			group: groupGrowInsert, name: name, n: cfg.inserts, times: cfg.repeats, turns: cfg.turns,
			run: func(n int) error { return p.insert(ctx, n, typeNew) },
			after: func() error {
				_, err := g.db.ExecContext(ctx, "DELETE FROM user_credentials WHERE credential_type = $1 AND "+
					"user_account_id = $2", typeNew, g.accounts[0].id)
				return err
			},
		},
	}
}

// rotate re-encrypts the whole table.
func (g *grown) rotate(ctx context.Context, s series) error {
	ring, err := keyring.New(g.keys[1], g.keys[0])
	if err != nil {
		return err
	}
	return g.once(groupGrowRotate, s, func() error {
		report, err := rotate.Run(ctx, g.db, ring, rotate.Config{})
		if err != nil {
			return err
		}
		if n := report.Rewritten(); n != int64(g.rows) {
			return fmt.Errorf("rewrote %d rows of %d", n, g.rows)
		}
		return nil
	})
}

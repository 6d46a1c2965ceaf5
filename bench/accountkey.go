package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
)

// accountKeyPart compares the foreign key that ties a credential to its account
// with the triggers that it replaced. It runs only if named.
const accountKeyPart = "accountkey"

const (
	lastWithTriggers = "20261127150000" // migration
	byKey            = "foreign key"
	byTriggers       = "triggers"
	minPairs         = 11
	benchService     = "bench_service"
)

// accountKeyCase is a database with the foreign key or the triggers.
type accountKeyCase struct {
	name     string
	db       *sql.DB // the owner's
	url      string
	drop     func() error
	accounts []account
	ring     *keyring.Keyring
}

// runAccountKey writes one ratio for each way to insert, for the tables' owner
// and for a service under row-level security.
func runAccountKey(ctx context.Context, cfg config, out io.Writer) (err error) {
	server, err := pgserver.Start(ctx, pgserver.OnDisk(), pgserver.WithSetting("shared_buffers", "256MB"),
		pgserver.WithSetting("max_wal_size", "4GB"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		return err
	}
	var measures []measure
	var groups []string
	for name, target := range map[string]string{byKey: "", byTriggers: lastWithTriggers} {
		c, err := newAccountKeyCase(ctx, server, name, target, ring)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		defer func() { err = errors.Join(err, c.db.Close(), c.drop()) }()
		of, err := c.measures(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		measures = append(measures, of...)
		groups = nil
		for _, m := range of {
			groups = append(groups, m.group)
		}
	}
	s := make(series)
	if err := warmUp(measures, func(m measure) int { return min(m.n, 500) }); err != nil {
		return err
	}
	pairs := max(cfg.rounds, minPairs)
	if err := rounds(pairs, measures, s); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "The foreign key's speed in units of the triggers', median and quartiles of %d pairs:\n",
		pairs)
	for _, group := range groups {
		k, t := key{group, byKey}, key{group, byTriggers}
		_, writeErr := fmt.Fprintf(out, "  %-34s %s  %6.1f µs and %6.1f µs a row\n",
			group, s.faster(k, t), median(s[k])/1000, median(s[t])/1000)
		err = errors.Join(err, writeErr)
	}
	for _, rows := range cfg.growth {
		err = errors.Join(err, rollOut(ctx, server, rows, out))
	}
	return err
}

func newAccountKeyCase(
	ctx context.Context, server *pgserver.Server, name, target string, ring *keyring.Keyring,
) (*accountKeyCase, error) {
	url, drop, err := server.CreateDatabase(ctx, "")
	if err != nil {
		return nil, err
	}
	c := &accountKeyCase{name: name, url: url, drop: drop, ring: ring}
	if c.db, _, err = openPool(url, "", nil); err != nil {
		return nil, err
	}
	if err := migrate.Apply(ctx, c.db, migrate.Config{Target: target}); err != nil {
		return nil, err
	}
	for _, stmt := range []string{
		"DO $$ BEGIN CREATE ROLE " + benchService + " LOGIN PASSWORD 'bench' IN ROLE credent_app; " +
			"EXCEPTION WHEN duplicate_object THEN NULL; END $$",
		"INSERT INTO user_accounts (user_id, account_name) SELECT 'user-' || n, 'Ada' " +
			"FROM generate_series(1, 1000) AS n",
		"VACUUM ANALYZE",
	} {
		if _, err := c.db.ExecContext(ctx, stmt); err != nil {
			return nil, err
		}
	}
	rows, err := c.db.QueryContext(ctx, "SELECT id::text, user_id FROM user_accounts ORDER BY user_id")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var a account
		if err := rows.Scan(&a.id, &a.userID); err != nil {
			return nil, err
		}
		c.accounts = append(c.accounts, a)
	}
	return c, rows.Err()
}

func (c *accountKeyCase) measures(ctx context.Context) (measures []measure, err error) {
	owner, err := credent.NewClient(c.db, "postgres", credent.Config{Keyring: c.ring})
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(c.url)
	if err != nil {
		return nil, errors.New("the URL doesn't parse")
	}
	u.User = url.UserPassword(benchService, "bench")
	pool, _, err := openPool(u.String(), "", nil)
	if err != nil {
		return nil, err
	}
	service, err := credent.NewClient(pool, "postgres", credent.Config{Keyring: c.ring})
	if err != nil {
		return nil, err
	}
	add := func(group string, n int, run func(n int) error) {
		measures = append(measures, measure{group: group, name: c.name, n: n, turns: 5, run: run, after: func() error {
			_, err := c.db.ExecContext(ctx, "TRUNCATE user_credentials")
			return err
		}})
	}
	one := c.accounts[0]
	as := credent.WithUser(ctx, one.userID)
	add("single inserts", 200, func(n int) error { return c.insert(ctx, owner, c.accounts, n, 1) })
	add("bulks of 500", 5000, func(n int) error { return c.insert(ctx, owner, c.accounts, n, 500) })
	add("Copy", 10_000, func(n int) error {
		_, err := credent.Copy(ctx, c.db, c.rows(n), credent.CopyConfig{}, credent.Config{Keyring: c.ring})
		return err
	})
	add("INSERT … SELECT", 20_000, func(n int) error {
		_, err := c.db.ExecContext(ctx, fmt.Sprintf(`INSERT INTO user_credentials (user_account_id, user_id, credential_type, api_key, secret_key)
SELECT id, user_id, 'alpaca', rpad('gAAAAAB', 120, md5(n::text)), rpad('gAAAAAB', 140, md5(n::text))
FROM user_accounts, generate_series(1, %d) AS n`, max(1, n/len(c.accounts))))
		return err
	})
	add("single inserts of a service", 200, func(n int) error { return c.insert(as, service, c.accounts[:1], n, 1) })
	add("bulks of 500 of a service", 5000, func(n int) error { return c.insert(as, service, c.accounts[:1], n, 500) })
	return measures, nil
}

// insert creates n credentials in statements of size rows.
func (c *accountKeyCase) insert(ctx context.Context, client *ent.Client, accounts []account, n, size int) error {
	for made := 0; made < n; made += size {
		builders := make([]*ent.UserCredentialCreate, min(size, n-made))
		for i := range builders {
			a := accounts[(made+i)%len(accounts)]
			apiKey, secretKey := keySizes.of(made + i)
			builders[i] = client.UserCredential.Create().
				SetUserAccountID(a.id).SetUserID(a.userID).SetCredentialType(typeNew).
				SetAPIKey(credent.NewSecret(apiKey)).SetSecretKey(credent.NewSecret(secretKey))
		}
		if size == 1 {
			if err := builders[0].Exec(ctx); err != nil {
				return err
			}
			continue
		}
		if err := client.UserCredential.CreateBulk(builders...).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *accountKeyCase) rows(n int) iter.Seq2[credent.CopyRow, error] {
	return func(yield func(credent.CopyRow, error) bool) {
		for i := range n {
			a := c.accounts[i%len(c.accounts)]
			apiKey, secretKey := keySizes.of(i)
			if !yield(credent.CopyRow{
				ID: uuid.New(), UserAccountID: a.id, UserID: a.userID, CredentialType: typeNew,
				APIKey: credent.NewSecret(apiKey), SecretKey: credent.NewSecret(secretKey),
			}, nil) {
				return
			}
		}
	}
}

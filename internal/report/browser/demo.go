package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/ent"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/internal/report"
	"github.com/credent-go/credent/internal/report/look"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open"
	"github.com/credent-go/credent/rotate"
)

// The demo covers two years of a service: its key was replaced, and the
// rotation is still running.
const (
	users       = 60
	credentials = 2400
	weeks       = 40
)

// demo is a database with a history.
type demo struct {
	db        *sql.DB
	now       time.Time
	key, past []byte
	ring      *keyring.Keyring
}

// newReport fills a new database on the server and reports on it.
func newReport(ctx context.Context, server *pgserver.Server) (_ *report.Report, err error) {
	url, drop, err := server.CreateDatabase(ctx, "")
	if err != nil {
		return nil, err
	}
	defer func() { _ = drop() }() // the server is discarded anyway
	db, _, err := open.DB(url, open.Config{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	key, past := sha256.Sum256([]byte("the demo's key")), sha256.Sum256([]byte("the demo's earlier key"))
	d := &demo{db: db, now: time.Now().UTC().Truncate(time.Second), key: key[:], past: past[:]}
	d.ring, err = keyring.New(base64.URLEncoding.EncodeToString(d.key), base64.URLEncoding.EncodeToString(d.past))
	if err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{d.migrate, d.store, d.destroy, d.verify, d.record} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return look.Look(ctx, db, look.Config{
		Dialect: dialect.Postgres, Columns: ent.EncryptedColumns(), Keyring: d.ring, Sample: 1000, Within: time.Minute,
		Reason: func(err error) string { return err.Error() },
	})
}

func (d *demo) migrate(ctx context.Context) error {
	return migrate.Apply(ctx, d.db, migrate.Config{Keyring: d.ring, Columns: ent.EncryptedColumns()})
}

func (d *demo) days(n int) time.Time { return d.now.AddDate(0, 0, -n) }

// store stores accounts and credentials with times spread over the demo's
// period.
func (d *demo) store(ctx context.Context) error {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // has no effect after the commit
	for i := range users {
		if _, err := tx.ExecContext(ctx, "INSERT INTO user_accounts (user_id, account_name) VALUES ($1, $1)",
			userOf(i)); err != nil {
			return err
		}
	}
	for i := range credentials {
		key, at := d.key, d.days(150-150*i/credentials)
		if i%9 == 0 { // not re-encrypted yet
			key, at = d.past, d.days(700-500*i/credentials)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO user_credentials (user_account_id, user_id, credential_type, api_key, secret_key)
			SELECT id, user_id, 'alpaca', $2, $3 FROM user_accounts WHERE user_id = $1`, userOf(i%users),
			token(key, at), token(key, at)); err != nil {
			return err
		}
	}
	for i, state := range []string{"encryption', 'require", "binding', 'accept", "tenant-keys', 'write"} {
		for _, c := range ent.EncryptedColumns() {
			if _, err := tx.ExecContext(ctx, "INSERT INTO credent_states VALUES ($1, '"+state+"', $2)", c.String(),
				d.days(200-60*i)); err != nil {
				return err
			}
		}
	}
	return tx.Commit()
}

func userOf(i int) string { return fmt.Sprintf("user-%03d", i) }

// destroy gives some tenants a key, and destroys a few of the keys.
func (d *demo) destroy(ctx context.Context) error {
	for i := range 24 {
		err := tenantkey.Make(ctx, entsql.Conn{ExecQuerier: d.db}, (*engine.Ring)(d.ring), userOf(i))
		if err != nil {
			return err
		}
	}
	for i, days := range []int{310, 265, 262, 170, 95, 92, 20} {
		if _, err := rotate.DestroyTenant(ctx, d.db, d.ring, userOf(i)); err != nil {
			return err
		}
		if _, err := d.db.ExecContext(ctx, "UPDATE credent_tenant_keys SET destroyed_at = $2 WHERE tenant = $1",
			userOf(i), d.days(days)); err != nil {
			return err
		}
	}
	return nil
}

// verify records a verification per week, and one with the current time.
func (d *demo) verify(ctx context.Context) error {
	last, err := rotate.Verify(ctx, d.db, d.ring, ent.EncryptedColumns()...)
	if err != nil {
		return err
	}
	ids := d.ring.Keys()
	for week := weeks; week > 0; week-- {
		counts := slices.Clone(last)
		for i := range counts {
			c := &counts[i]
			rows := c.Rows * int64(100-week) / 100
			*c = rotate.ColumnCount{
				Table: c.Table, Column: c.Column, PrimaryKey: ids[1].ID(), Rows: rows,
				Primary: rows,
			}
			if week < 22 { // after that the key was replaced
				c.PrimaryKey, c.Previous = ids[0].ID(), map[string]int64{ids[1].ID(): rows * int64(week+3) / 25}
				c.Primary = rows - c.Previous[ids[1].ID()]
			}
			if week == 9 {
				c.Damaged, c.Primary = 40, c.Primary-40
			}
		}
		if err := rotate.RecordVerification(ctx, d.db, counts, d.days(7*week)); err != nil {
			return err
		}
	}
	return rotate.RecordVerification(ctx, d.db, last, d.now)
}

// record adds entries of two services to the audit trail.
func (d *demo) record(ctx context.Context) error {
	for service := range 2 {
		trail, err := audit.Open(ctx, d.db, dialect.Postgres, audit.Config{Keyring: d.ring})
		if err != nil {
			return err
		}
		for i := range 300 {
			e := audit.Entry{
				Action: audit.ActionReveal, Actor: "service", Tenant: userOf(i % users), Table: "user_credentials",
				Column: "api_key", Row: fmt.Sprint(i), KeyID: d.ring.Primary().ID(),
			}
			if i%10 == service {
				e.Action, e.Column = audit.ActionUpdate, ""
			}
			if err := trail.Add(ctx, e); err != nil {
				return err
			}
		}
		if err := trail.Close(ctx); err != nil {
			return err
		}
	}
	return nil
}

// token returns a Fernet token of a made-up secret with the given time.
func token(key []byte, at time.Time) string {
	plain := slices.Concat([]byte("made-up secret"), []byte{2, 2}) // PKCS #7
	block, err := aes.NewCipher(key[16:])
	if err != nil {
		panic(err) // can't fail: the key has 32 bytes
	}
	raw := binary.BigEndian.AppendUint64([]byte{0x80}, uint64(at.Unix()))
	iv := make([]byte, aes.BlockSize)
	_, _ = rand.Read(iv)
	raw = append(append(raw, iv...), plain...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(raw[25:], plain)
	mac := hmac.New(sha256.New, key[:16])
	mac.Write(raw)
	return base64.URLEncoding.EncodeToString(mac.Sum(raw))
}

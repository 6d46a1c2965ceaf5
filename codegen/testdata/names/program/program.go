//go:build ignore

// Package program uses the client of one release.
package program

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	entsql "entgo.io/ent/dialect/sql"

	ent "github.com/credent-go/credent/codegen/testdata/PACKAGE"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/clinic"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/person"
	_ "github.com/credent-go/credent/codegen/testdata/PACKAGE/runtime"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
)

// Client is a client of the release.
type Client struct {
	*ent.Client
	db   *sql.DB
	cfg  encrypted.Config
	ring *keyring.Keyring
}

// Columns returns the encrypted columns of the release.
func Columns() []encrypted.Column { return ent.EncryptedColumns() }

// New returns a client.
func New(d string, db *sql.DB, ring *keyring.Keyring, cfg encrypted.Config) (*Client, error) {
	cfg.Keyring, cfg.Columns = ring, ent.EncryptedColumns()
	if given := cfg.States; given != nil { // of every column with a tenant
		cfg.States = nil
		for _, c := range cfg.Columns {
			if of := given[0]; c.Tenant != "" {
				of.Column = c
				cfg.States = append(cfg.States, of)
			}
		}
	}
	drv, err := encrypted.NewDriver(entsql.OpenDB(d, db), cfg)
	if err != nil {
		return nil, err
	}
	return &Client{ent.NewClient(ent.Driver(drv)), db, cfg, ring}, nil
}

// Create makes the tables.
func (c *Client) Create(ctx context.Context) error { return c.Schema.Create(ctx) }

// Store stores a person of a name, and a clinic, with secrets made of the name.
func (c *Client) Store(ctx context.Context, name string) error {
	_, err := c.Person.Create().SetName(name).SetOwner("owner of " + name).
		SetMail(encrypted.New(name + "@example.com")).
		SetSsn(encrypted.New("ssn of " + name)).SetScan(encrypted.NewValue([]byte("scan of " + name))).Save(ctx)
	return errors.Join(err, c.Clinic.Create().SetMail(encrypted.New(name+"@example.com")).Exec(ctx))
}

// StoreAgain stores a person whose mail another has, which is to be refused.
func (c *Client) StoreAgain(ctx context.Context, name string) error {
	again := func() *ent.PersonCreate {
		return c.Person.Create().SetName("again").SetOwner("o").SetMail(encrypted.New(name + "@example.com")).
			SetSsn(encrypted.New("1"))
	}
	for kind, store := range map[string]func() error{
		"by itself": func() error { return again().Exec(ctx) },
		"by a bulk": func() error { return c.Person.CreateBulk(again()).Exec(ctx) },
	} {
		err := store()
		for err != nil && strings.Contains(err.Error(), "40P01") { // a deadlock with rotate, on a machine that is busy
			err = store()
		}
		if !ent.IsConstraintError(err) {
			return fmt.Errorf("%s was stored again %s: %v", name, kind, err)
		}
	}
	return nil
}

// Rename gives a person another mail and ssn, made of the new name.
func (c *Client) Rename(ctx context.Context, name, to string) error {
	return c.Person.Update().Where(person.MailIs(encrypted.New(name + "@example.com"))).SetName(to).
		SetMail(encrypted.New(to + "@example.com")).SetSsn(encrypted.New("ssn of " + to)).
		SetScan(encrypted.NewValue([]byte("scan of " + to))).Exec(ctx)
}

// Clear takes a person's mail away.
func (c *Client) Clear(ctx context.Context, name string) error {
	return c.Person.Update().Where(person.Name(name)).ClearMail().Exec(ctx)
}

// Found counts the persons of a mail.
func (c *Client) Found(ctx context.Context, name string) (int, error) {
	return c.Person.Query().Where(person.MailIs(encrypted.New(name + "@example.com"))).Count(ctx)
}

// Has checks that a person is found by each secret, and that all of them open
// on every path.
func (c *Client) Has(ctx context.Context, name string) error {
	mail, ssn := encrypted.New(name+"@example.com"), encrypted.New("ssn of "+name)
	if n, err := c.Clinic.Query().Where(clinic.MailIs(mail)).Count(ctx); err != nil || n != 1 {
		return fmt.Errorf("%s: %d clinics, %v", name, n, err)
	}
	p, err := c.Person.Query().Where(person.MailIs(mail), person.SsnIs("owner of "+name, ssn)).Only(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	gotMail, err1 := p.Mail.Reveal()
	gotSsn, err2 := p.Ssn.Reveal()
	gotScan, err3 := p.Scan.Reveal()
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if gotMail != name+"@example.com" || gotSsn != "ssn of "+name || string(gotScan) != "scan of "+name {
		return fmt.Errorf("%s has %q, %q and %q", name, gotMail, gotSsn, gotScan)
	}
	var scanned []struct {
		Owner string
		Ssn   encrypted.Secret
	}
	if err := c.Person.Query().Where(person.ID(p.ID)).Select(person.FieldOwner, person.FieldSsn).
		Scan(ctx, &scanned); err != nil {
		return err
	}
	if got, err := scanned[0].Ssn.Reveal(); err != nil || got != gotSsn {
		return fmt.Errorf("%s: Select gives %q, %v", name, got, err)
	}
	if c.cfg.States != nil {
		return nil
	}
	var stored encrypted.Secret
	query := fmt.Sprintf("SELECT %s FROM %s WHERE id = %d", person.FieldSsn, person.Table, p.ID)
	if err := c.db.QueryRowContext(ctx, query).Scan(&stored); err != nil {
		return err
	}
	got, err := stored.OpenedBy(encrypted.OpenerOf(c.ring, person.SsnColumn, p.Owner)).Reveal()
	if err != nil || got != gotSsn {
		return fmt.Errorf("%s: OpenerOf gives %q, %v", name, got, err)
	}
	var token string
	if err := c.db.QueryRowContext(ctx, query).Scan(&token); err != nil {
		return err
	}
	bound, err := encrypted.BoundKeyring(c.ring, person.SsnColumn, p.Owner)
	if err != nil {
		return err
	}
	if got, err := bound.Decrypt(token); err != nil || got != gotSsn {
		return fmt.Errorf("%s: BoundKeyring gives %q, %v", name, got, err)
	}
	return nil
}

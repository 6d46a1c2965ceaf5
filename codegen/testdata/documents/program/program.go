//go:build ignore

// Package program stores and reads the documents of one generated package.
package program

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"strings"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	ent "github.com/credent-go/credent/codegen/testdata/PACKAGE"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/dbd"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/doc"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/fix"
	"github.com/credent-go/credent/codegen/testdata/PACKAGE/membership"
	_ "github.com/credent-go/credent/codegen/testdata/PACKAGE/runtime"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
)

// run is a client of one mode, and what it must do.
type run struct {
	ctx     context.Context
	name    string
	dialect string
	db      *sql.DB
	ring    *keyring.Keyring
	cfg     encrypted.Config
	c       *ent.Client
	o1, o2  *ent.Owner
	scoped  error // ErrWrongLocation if tokens depend on the tenant, else nil
	unowned error // ErrNoTenant likewise
	unknown error // ErrWrongLocation if bound tokens are required, else nil
	titles  int
	failed  bool
}

// states gives columns the states of another one.
func states(columns []encrypted.Column, of encrypted.ColumnStates) (list []encrypted.ColumnStates) {
	for _, c := range columns {
		of.Column = c
		list = append(list, of)
	}
	return list
}

// modes are the configs that the package's columns allow.
func modes() map[string]encrypted.Config {
	scoped := []encrypted.Column{doc.BodyColumn, fix.BodyColumn, dbd.BodyColumn, membership.InvitationColumn}
	if doc.BodyColumn.Bound {
		return map[string]encrypted.Config{"schema-bound": {}, "schema-bound with tenant keys": {States: states(scoped,
			encrypted.ColumnStates{TenantKeys: encrypted.Write})}}
	}
	return map[string]encrypted.Config{
		"plain": {}, "client-bound": {States: states(scoped, encrypted.ColumnStates{Binding: encrypted.Require})},
		"tenant keys": {States: states(scoped, encrypted.ColumnStates{TenantKeys: encrypted.Write})},
		"client-bound with tenant keys": {States: states(scoped, encrypted.ColumnStates{
			Binding:    encrypted.Require,
			TenantKeys: encrypted.Write,
		})},
	}
}

// tenantKeys reports whether tenants have keys of their own.
func (r *run) tenantKeys() bool {
	for _, s := range r.cfg.States {
		if s.TenantKeys != 0 {
			return true
		}
	}
	return false
}

// Run runs every check in every mode, and reports whether one failed.
func Run(ctx context.Context, d string, open func(name string) *sql.DB) (failed bool) {
	for name, cfg := range modes() {
		ring, err := keyring.New(keyring.GenerateKey())
		check(err)
		cfg.Keyring, cfg.Columns = ring, ent.EncryptedColumns()
		r := &run{ctx: ctx, name: d + ", " + name, dialect: d, ring: ring, cfg: cfg}
		r.db = open(strings.ReplaceAll(name, " ", "-"))
		if name != "plain" {
			r.scoped, r.unowned = encrypted.ErrWrongLocation, encrypted.ErrNoTenant
		}
		if doc.BodyColumn.Bound || len(cfg.States) > 0 && cfg.States[0].Binding == encrypted.Require {
			r.unknown = encrypted.ErrWrongLocation
		}
		r.c = r.client()
		check(r.c.Schema.Create(ctx))
		r.exec("CREATE TABLE credent_tenant_keys (tenant varchar(255) PRIMARY KEY, wrapped varchar(500))")
		r.o1 = r.c.Owner.Create().SetName("o1").SetPin(encrypted.New("pin")).SaveX(ctx)
		r.o2 = r.c.Owner.Create().SetName("o2").SaveX(ctx)
		for _, f := range []func(){
			r.creates, r.updates, r.moves, r.upserts, r.bulkUpserts, r.modifiers, r.rawSQL, r.reads, r.mixins, r.edges,
			r.noDriver, r.missing,
		} {
			f()
		}
		for _, stmt := range encrypted.CanaryTable(d) {
			r.exec(stmt)
		}
		r.expect("KeepCanary", encrypted.KeepCanary(ctx, r.db, ring, ent.EncryptedColumns()...), nil)
		r.expect("Check", encrypted.Check(ctx, r.db, ring, ent.EncryptedColumns()...), nil)
		r.expect("close", r.db.Close(), nil)
		failed = failed || r.failed
	}
	return failed
}

// client returns another client of the same mode.
func (r *run) client(opts ...ent.Option) *ent.Client {
	drv, err := encrypted.NewDriver(entsql.OpenDB(r.dialect, r.db), r.cfg)
	check(err)
	return ent.NewClient(append(opts, ent.Driver(drv))...)
}

// expect fails unless the error is the wanted one.
func (r *run) expect(what string, err, want error) {
	if want == nil && err != nil || !errors.Is(err, want) {
		log.Printf("%s: %s: got %v, want %v", r.name, what, err, want)
		r.failed = true
	}
}

// equal fails unless both are equal.
func equal[T comparable](r *run, what string, got, want T) {
	if got != want {
		log.Printf("%s: %s: got %v, want %v", r.name, what, got, want)
		r.failed = true
	}
}

// title returns a new title.
func (r *run) title() string {
	r.titles++
	return fmt.Sprint("title ", r.titles)
}

// doc stores a document of o1.
func (r *run) doc(body string) *ent.Doc {
	return r.c.Doc.Create().SetOwner(r.o1).SetTitle(r.title()).SetBody(encrypted.New(body)).SaveX(r.ctx)
}

// has checks that a document has a body and an owner, is found by the body and
// by no other, and has a token of its place.
func (r *run) has(what string, id int, body string, owner *ent.Owner) {
	d, err := r.c.Doc.Get(r.ctx, id)
	if err != nil {
		r.expect(what, err, nil)
		return
	}
	got, err := d.Body.Reveal()
	r.expect(what+": reveal", err, nil)
	equal(r, what+": body", got, body)
	equal(r, what+": owner", d.OwnerID, owner.ID)
	n := r.c.Doc.Query().Where(doc.BodyIs(encrypted.New(body)), doc.ID(id)).CountX(r.ctx)
	equal(r, what+": found by the body", n, 1)
	digests := r.number("SELECT count(body_index) FROM docs WHERE id = ?", id)
	equal(r, what+": digests", digests, 1)
	if r.tenantKeys() {
		return
	}
	var token string
	check(r.db.QueryRowContext(r.ctx, r.sql("SELECT body FROM docs WHERE id = ?"), id).Scan(&token))
	ring := r.ring
	if r.scoped != nil {
		ring, err = encrypted.BoundKeyring(r.ring, doc.BodyColumn, fmt.Sprint(owner.ID))
		check(err)
	}
	got, err = ring.Decrypt(token)
	r.expect(what+": token", err, nil)
	equal(r, what+": plaintext of the token", got, body)
}

// lacks checks that a document has neither a body nor a digest.
func (r *run) lacks(what string, id int) {
	n := r.number("SELECT count(*) FROM docs WHERE id = ? AND body IS NULL AND body_index IS NULL", id)
	equal(r, what+": without body and digest", n, 1)
}

// refused checks that a statement is refused if tokens depend on the tenant,
// and has left the document alone. Otherwise the document has the new body.
func (r *run) refused(what string, err error, id int, old, body string, owner *ent.Owner) {
	r.expect(what, err, r.scoped)
	if r.scoped != nil {
		body, owner = old, r.o1
	}
	r.has(what, id, body, owner)
}

// sql returns SQL with the placeholders of the database.
func (r *run) sql(query string) string {
	if r.dialect == dialect.SQLite {
		return query
	}
	var b strings.Builder
	for i, part := range strings.Split(query, "?") {
		if i > 0 {
			fmt.Fprintf(&b, "$%d", i)
		}
		b.WriteString(part)
	}
	return b.String()
}

func (r *run) exec(query string, args ...any) {
	_, err := r.db.ExecContext(r.ctx, r.sql(query), args...)
	check(err)
}

func (r *run) number(query string, args ...any) (n int) {
	check(r.db.QueryRowContext(r.ctx, r.sql(query), args...).Scan(&n))
	return n
}

func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}

// Store makes the tables, and stores one document.
func Store(ctx context.Context, d string, db *sql.DB, ring *keyring.Keyring) error {
	cfg := encrypted.Config{Keyring: ring, Columns: ent.EncryptedColumns()}
	drv, err := encrypted.NewDriver(entsql.OpenDB(d, db), cfg)
	if err != nil {
		return err
	}
	client := ent.NewClient(ent.Driver(drv))
	if err := client.Schema.Create(ctx); err != nil {
		return err
	}
	owner := client.Owner.Create().SetName("o").SaveX(ctx)
	return client.Doc.Create().SetOwner(owner).SetTitle("t").SetBody(encrypted.New("stored")).Exec(ctx)
}

// Read finds and reveals it.
func Read(ctx context.Context, d string, db *sql.DB, ring *keyring.Keyring) error {
	cfg := encrypted.Config{Keyring: ring, Columns: ent.EncryptedColumns()}
	drv, err := encrypted.NewDriver(entsql.OpenDB(d, db), cfg)
	if err != nil {
		return err
	}
	found, err := ent.NewClient(ent.Driver(drv)).Doc.Query().Where(doc.BodyIs(encrypted.New("stored"))).Only(ctx)
	if err != nil {
		return err
	}
	if body, err := found.Body.Reveal(); err != nil || body != "stored" {
		return fmt.Errorf("got %q, %w", body, err)
	}
	return nil
}

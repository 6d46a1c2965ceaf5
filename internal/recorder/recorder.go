// Package recorder makes an audit trail's entries for the reads and writes of a
// client's driver.
package recorder

import (
	"cmp"
	"context"
	"database/sql"
	"errors"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/entcrypt/record"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/principal"
	"github.com/credent-go/credent/internal/reveal"
)

// New returns a record.Trail that writes to an audit trail, or nil for a nil
// trail.
func New(trail *audit.Trail) record.Trail {
	if trail == nil {
		return nil
	}
	return recorder{trail}
}

type recorder struct{ trail *audit.Trail }

// Opened implements record.Trail.
func (r recorder) Opened(of reveal.Reveal, revealed bool) error {
	if of.Err == nil && record.IsSilent(of.Context) {
		return nil
	}
	e := opened(of)
	if !revealed {
		e.Note = "VerifyOnRead"
	}
	return r.trail.Add(of.Context, e)
}

// Alike implements record.Trail.
func (r recorder) Alike(of reveal.Reveal) func(row any) error {
	if record.IsSilent(of.Context) {
		return func(any) error { return nil }
	}
	reveals := r.trail.Reveals(opened(of))
	return func(row any) error { return reveals.Add(of.Context, row) }
}

func opened(of reveal.Reveal) audit.Entry {
	e := audit.Entry{
		Action: audit.ActionReveal, Actor: cmp.Or(of.Actor, of.User), Tenant: cmp.Or(of.Tenant, of.User),
		Table: of.Table, Column: of.Column, Row: of.Row, KeyID: of.KeyID, Outcome: OutcomeOf(of.Err),
		Request: of.Request,
	}
	if of.Plaintext {
		e.Note = "stored as plaintext"
	}
	return e
}

// Write implements record.Trail.
func (r recorder) Write(ctx context.Context, on dialect.ExecQuerier, rows []record.Row) (func(bool), error) {
	return r.trail.AddTx(ctx, execer{on}, entries(ctx, rows)...)
}

func entries(ctx context.Context, rows []record.Row) []audit.Entry {
	actor, request := ActorOf(ctx), audit.RequestID(ctx)
	list := make([]audit.Entry, len(rows))
	for i, row := range rows {
		list[i] = audit.Entry{
			Action: audit.Action(row.Action), Actor: actor, Tenant: row.Tenant, Table: row.Table, Column: row.Column,
			Row: row.ID, Rows: row.Rows, KeyID: row.KeyID, Request: request, Note: row.Note,
		}
		if replaced := principal.Replaces(ctx); replaced != "" && row.Action == record.Create {
			list[i].Note += "; replaces " + replaced
		}
	}
	return list
}

// ActorOf returns the context's actor, or else its user.
func ActorOf(ctx context.Context) string {
	if actor, ok := principal.Actor(ctx); ok {
		return actor
	}
	user, _ := principal.User(ctx)
	return user
}

// OutcomeOf returns the outcome for an error.
func OutcomeOf(err error) audit.Outcome {
	switch {
	case err == nil:
		return audit.OutcomeOK
	case errors.Is(err, tenantkey.ErrShredded):
		return audit.OutcomeShredded
	case errors.Is(err, seal.ErrWrongLocation):
		return audit.OutcomeWrongLocation
	case errors.Is(err, seal.ErrUnderKeyring), errors.Is(err, seal.ErrEncrypted), errors.Is(err, seal.ErrNoTenant):
		return audit.OutcomeRefused
	case errors.Is(err, fernet.ErrUnknownKey):
		return audit.OutcomeUnknownKey
	case errors.Is(err, fernet.ErrCorrupt), errors.Is(err, fernet.ErrNotEncrypted),
		errors.Is(err, fieldcrypt.ErrRedacted), errors.Is(err, fieldcrypt.ErrValue):
		return audit.OutcomeCorrupt
	}
	return audit.OutcomeFailed
}

// Imports returns a function that records the rows that one of several
// transactions stores in a table, or nil for a nil trail.
func Imports(trail *audit.Trail, table string) func(ctx context.Context, tx *sql.Tx, rows int64) (func(bool), error) {
	if trail == nil {
		return nil
	}
	return func(ctx context.Context, tx *sql.Tx, rows int64) (func(bool), error) {
		user, _ := principal.User(ctx)
		return trail.AddTx(ctx, tx, audit.Entry{
			Action: audit.ActionImport, Actor: ActorOf(ctx), Tenant: user, Table: table, Rows: rows,
			Request: audit.RequestID(ctx), Note: "credent.Copy",
		})
	}
}

// execer runs statements over an ent driver.
type execer struct{ on dialect.ExecQuerier }

// ExecContext implements audit.Execer.
func (e execer) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	var result sql.Result
	if args == nil {
		args = []any{}
	}
	err := e.on.Exec(ctx, query, args, &result)
	return result, err
}

package load

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"unicode/utf8"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/uuid"

	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/predicate"
	"github.com/credent-go/credent/ent/useraccount"
)

// accounts finds the accounts of rows that name theirs by only one of its two
// keys.
type accounts struct {
	client   *ent.Client
	byID     map[uuid.UUID]string
	byUserID map[string]uuid.UUID
}

// lookUp finds a batch's accounts within its transaction.
func lookUp(ctx context.Context, tx *sql.Tx, name string, batch []numbered) (*accounts, error) {
	a := &accounts{
		client:   ent.NewClient(ent.Driver(reader{entsql.Conn{ExecQuerier: tx}, name})),
		byID:     make(map[uuid.UUID]string),
		byUserID: make(map[string]uuid.UUID),
	}
	var ids []uuid.UUID
	var userIDs []string
	for _, row := range batch {
		switch {
		case row.UserAccountID == uuid.Nil && row.UserID != "":
			if _, seen := a.byUserID[row.UserID]; !seen {
				a.byUserID[row.UserID] = uuid.Nil
				userIDs = append(userIDs, row.UserID)
			}
		case row.UserAccountID != uuid.Nil && row.UserID == "":
			if _, seen := a.byID[row.UserAccountID]; !seen {
				a.byID[row.UserAccountID] = ""
				ids = append(ids, row.UserAccountID)
			}
		}
	}
	if name == dialect.Postgres { // Postgres can't store such a text and would fail the whole query
		userIDs = slices.DeleteFunc(userIDs, func(userID string) bool { return !isText(userID) })
	}
	for part := range slices.Chunk(ids, insertRows) {
		if err := a.read(ctx, useraccount.IDIn(part...)); err != nil {
			return nil, err
		}
	}
	for part := range slices.Chunk(userIDs, insertRows) {
		if err := a.read(ctx, useraccount.UserIDIn(part...)); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *accounts) read(ctx context.Context, where predicate.UserAccount) error {
	found, err := a.client.UserAccount.Query().Where(where).
		Select(useraccount.FieldID, useraccount.FieldUserID).All(ctx)
	for _, account := range found {
		a.byID[account.ID], a.byUserID[account.UserID] = account.UserID, account.ID
	}
	return err
}

// complete fills in the missing key of the row's account. If the row has both
// keys, the database compares them. If it has neither, the checks refuse it.
func (a *accounts) complete(row *Row) error {
	switch {
	case row.UserAccountID == uuid.Nil && row.UserID != "":
		row.UserAccountID = a.byUserID[row.UserID]
	case row.UserAccountID != uuid.Nil && row.UserID == "":
		row.UserID = a.byID[row.UserAccountID]
	default:
		return nil
	}
	if row.UserAccountID == uuid.Nil || row.UserID == "" {
		return noAccountError{}
	}
	return nil
}

// isText reports whether Postgres can store a text.
func isText(text string) bool { return utf8.ValidString(text) && !strings.ContainsRune(text, 0) }

// users returns the user IDs of the rows that have one.
func (a *accounts) users(batch []numbered) []string {
	var users []string
	for _, row := range batch {
		if a.complete(&row.Row) == nil && row.UserID != "" && isText(row.UserID) {
			users = append(users, row.UserID)
		}
	}
	return users
}

// noAccountError is the error of ent for a missing account.
type noAccountError struct{}

func (noAccountError) Error() string {
	return "the account of the credential: ent: user_account not found"
}

// Unwrap makes ent.IsNotFound return true.
func (noAccountError) Unwrap() error { return new(ent.NotFoundError) }

// reader is a client's driver within a transaction that the client doesn't own.
type reader struct {
	entsql.Conn
	name string
}

// Tx returns an error: a transaction is already open.
func (reader) Tx(context.Context) (dialect.Tx, error) { return nil, errOnlyCreate }

// Close does nothing: the transaction belongs to its owner.
func (reader) Close() error { return nil }

// Dialect returns the transaction's dialect.
func (r reader) Dialect() string { return r.name }

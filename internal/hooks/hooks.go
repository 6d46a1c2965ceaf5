// Package hooks has what happens around the mutations of an ent client: the rules between accounts and credentials, the
// formats of broker keys, and the audit log. The rules that must hold whoever writes are in the database as well.
package hooks

import (
	"context"
	"log/slog"
	"time"

	"entgo.io/ent"
	"entgo.io/ent/dialect/sql/schema"
	"entgo.io/ent/schema/field"

	credent "github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/hook"
	"github.com/credent-go/credent/ent/migrate"
)

// Config says which of the hooks that are not rules are wanted.
type Config struct {
	// Audit gets a record of each mutation of a credential; nil for none.
	Audit *slog.Logger
	// Formats are the formats of broker keys to check; nil for none.
	Formats []Format
	// FormatWarnings gets a record of each key that is not of its format. If nil, such keys are refused.
	FormatWarnings *slog.Logger
	// Rebind encrypts secrets anew where the user_id of their account changes.
	Rebind bool
}

// Install adds the hooks to a client, the audit log outermost.
func Install(client *credent.Client, cfg Config) {
	if cfg.Audit != nil {
		a := auditor{cfg.Audit}
		client.UserCredential.Use(a.hook)
		client.UserAccount.Use(a.accountHook)
	}
	client.UserCredential.Use(credentialRules)
	client.UserAccount.Use(accountTimes, deleteOrphans)
	if cfg.Rebind {
		client.UserAccount.Use(rebind)
	}
	if cfg.Formats != nil {
		client.UserCredential.Use(formatChecker{cfg.Formats, cfg.FormatWarnings}.hook)
	}
}

// credentialRules are the rules of a credential. They are one hook, since the hooks of a bulk's creations are nested: five
// hundred of each is a deep stack.
func credentialRules(next ent.Mutator) ent.Mutator {
	return hook.UserCredentialFunc(func(ctx context.Context, m *credent.UserCredentialMutation) (ent.Value, error) {
		if err := utcTimes(m); err != nil {
			return nil, err
		}
		if err := fillTenant(ctx, m); err != nil {
			return nil, err
		}
		if none, err := oneRow(ctx, m); none || err != nil {
			return 0, err
		}
		value, err := next.Mutate(ctx, m)
		return value, explainTenant(err)
	})
}

func accountTimes(next ent.Mutator) ent.Mutator {
	return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
		if err := utcTimes(m); err != nil {
			return nil, err
		}
		return next.Mutate(ctx, m)
	})
}

// utcTimes makes the times of a mutation what Postgres will store, UTC in microseconds, so that the returned entity equals
// the one read back.
func utcTimes(m ent.Mutation) error {
	for _, name := range timeFields[m.Type()] {
		value, _ := m.Field(name)
		at, ok := value.(time.Time)
		if !ok {
			continue
		}
		stored := at.UTC().Truncate(time.Microsecond)
		if stored.Equal(at) && at.Location() == time.UTC {
			continue
		}
		if err := m.SetField(name, stored); err != nil {
			return err
		}
	}
	return nil
}

// timeFields are the fields that hold times, by the type of the entity. They are told apart here, since asking a mutation for
// all of its fields costs more than a bulk's encryption.
var timeFields = map[string][]string{
	credent.TypeUserAccount:    timesOf(migrate.UserAccountsColumns),
	credent.TypeUserCredential: timesOf(migrate.UserCredentialsColumns),
}

func timesOf(columns []*schema.Column) (names []string) {
	for _, column := range columns {
		if column.Type == field.TypeTime {
			names = append(names, column.Name)
		}
	}
	return names
}

// Package clientconfig validates a client's configuration, and makes its driver
// and hooks.
package clientconfig

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/expiring"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/hooks"
	"github.com/credent-go/credent/internal/nilarg"
	"github.com/credent-go/credent/internal/observe"
	"github.com/credent-go/credent/internal/recorder"
	"github.com/credent-go/credent/internal/replica"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/internal/tenancy"
	"github.com/credent-go/credent/keyring"
)

// ErrConfig means that a configuration contradicts itself.
var ErrConfig = errors.New("contradictory configuration")

// Config has the fields of client.Config, which documents them and converts to
// it.
type Config struct {
	Keyring            *keyring.Keyring
	VerifyOnRead       bool
	Encryption         states.State
	Binding            states.State
	TenantKeys         states.State
	States             []states.Column
	RequireRowSecurity bool
	RowSecurityTables  []string
	OnReveal           func(seal.Reveal)
	Trail              *audit.Trail
	Observer           observe.Observer
	Audit              *slog.Logger
	Formats            []hooks.Format
	FormatWarnings     *slog.Logger
	OnExpiring         func(context.Context, expiring.Event)
	ExpiringWithin     time.Duration
	Reader             dialect.Driver
	OnReaderError      func(context.Context, error)
	Wrap               func(dialect.Driver) dialect.Driver
	Migrate            bool
}

// Check returns an [ErrConfig] if the configuration contradicts itself.
func (cfg Config) Check() error {
	switch {
	case len(cfg.RowSecurityTables) > 0 && !cfg.RequireRowSecurity:
		return fmt.Errorf("client: %w: RowSecurityTables are set, and RequireRowSecurity is not", ErrConfig)
	case cfg.FormatWarnings != nil && len(cfg.Formats) == 0:
		return fmt.Errorf("client: %w: FormatWarnings is set, and Formats are not: BrokerFormats has known ones",
			ErrConfig)
	case cfg.ExpiringWithin < 0:
		return fmt.Errorf("client: %w: ExpiringWithin is negative", ErrConfig)
	case cfg.ExpiringWithin != 0 && cfg.OnExpiring == nil:
		return fmt.Errorf("client: %w: ExpiringWithin is set, and OnExpiring is not", ErrConfig)
	case cfg.Reader != nil && nilarg.Check("Reader", cfg.Reader) != nil:
		return fmt.Errorf("client: %w: Reader is a nil pointer", ErrConfig)
	case cfg.OnReaderError != nil && cfg.Reader == nil:
		return fmt.Errorf("client: %w: OnReaderError is set, and Reader is not", ErrConfig)
	}
	return nil
}

// Guard returns the guard for roles, or nil if row-level security isn't
// required.
func (cfg Config) Guard(entDialect string) (*tenancy.Guard, error) {
	if !cfg.RequireRowSecurity {
		return nil, nil
	}
	return tenancy.NewGuard(entDialect, cfg.RowSecurityTables...)
}

// Around returns the client's driver, around the primary's and the Reader's.
// Errors: [ErrConfig], [tenancy.ErrRowSecurity], and the driver's.
func (cfg Config) Around(drv dialect.Driver) (dialect.Driver, error) {
	guard, err := cfg.Guard(drv.Dialect())
	if err != nil {
		return nil, err
	}
	server := tenancy.NewDriver(drv, guard)
	primary, err := driver.Follow(server, cfg.Driver())
	if err != nil || cfg.Reader == nil {
		return primary, err
	}
	if d := cfg.Reader.Dialect(); d != drv.Dialect() {
		return nil, fmt.Errorf("client: %w: the Reader's dialect is %s, and the client's is %s", ErrConfig,
			d, drv.Dialect())
	}
	standby := replica.Standby{Driver: tenancy.NewReader(cfg.Reader, guard)}
	reader, err := driver.FollowStandby(standby, server, cfg.Driver())
	if err != nil {
		return nil, err
	}
	return replica.New(primary, reader, cfg.OnReaderError), nil
}

// Driver returns the configuration of the client's driver.
func (cfg Config) Driver() driver.Config {
	columns := ent.EncryptedColumns()
	var table states.Table
	for _, all := range []struct {
		of states.Protection
		to states.State
	}{{states.Encryption, cfg.Encryption}, {states.Binding, cfg.Binding}, {states.TenantKeys, cfg.TenantKeys}} {
		if all.to != states.Unset {
			table = append(table, states.New(all.of, all.to, columns...)...)
		}
	}
	made := driver.Config{
		Keyring:      (*engine.Ring)(cfg.Keyring),
		Columns:      columns,
		VerifyOnRead: cfg.VerifyOnRead,
		States:       append(table, cfg.States...),
		OnReveal:     cfg.OnReveal,
		Trail:        recorder.New(cfg.Trail),
		Observer:     cfg.Observer,
	}
	if cfg.Audit != nil || len(cfg.Formats) > 0 {
		made.Refuse = hooks.Refuse
	}
	return made
}

// Hooks returns the configuration of the client's hooks.
func (cfg Config) Hooks() hooks.Config {
	made := hooks.Config{Audit: cfg.Audit, Formats: cfg.Formats, FormatWarnings: cfg.FormatWarnings}
	if cfg.OnExpiring != nil {
		made.Expiring = expiring.New(cfg.ExpiringWithin, cfg.OnExpiring, time.Now)
	}
	return made
}

package rotate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/plaintype"
	"github.com/credent-go/credent/internal/retry"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/keyring"
)

// Encrypt turns columns that hold plaintext into encrypted ones, in place: it
// replaces every value that isn't a token with a token under the primary key.
// Like [Run], it can be stopped, is safe beside writers, and leaves updated_at
// alone. Tokens under any key of the keyring stay as they are; NULL stays NULL;
// "" is encrypted. New tokens are bound and under the tenant's key if the
// column's states, or for binding its schema, say write or require.
//
// If the column's state of encryption is set, it must be write: off and accept
// want plaintext, and under require plaintext may have been planted.
//
// A value that begins like a token and doesn't open isn't encrypted again, and
// neither is plaintext that a client wouldn't store: too long for the column,
// not UTF-8, or the text that secrets print as. They are left as they are and
// reported, with [ErrQuarantined].
//
// Rows that a unique blind index would refuse are a [DuplicatesError]; a column
// without room for tokens is a [SchemaError], and a keyring that doesn't open
// the column's canary is [fernet.ErrUnknownKey]; all before anything is
// written. At the end Encrypt validates a CHECK that was added as NOT VALID, if
// everything in its column was encrypted, and stores a canary for the column,
// if the database has their table.
//
// Until it is done, clients must have write as the columns' state of
// encryption, to read the remaining plaintext.
func Encrypt(ctx context.Context, db *sql.DB, keyRing *keyring.Keyring, cfg Config) (*Report, error) {
	ring := (*engine.Ring)(keyRing)
	if err := checkUnique(ctx, db, ring, cfg, true); err != nil {
		return nil, err
	}
	locate := new(seal.Locator)
	return start(ctx, db, ring, cfg, operation{
		name: "encrypt",
		rewrite: func(cfg *Config, ring *engine.Ring, stored original, p seal.Place) (rewritten, error) {
			to := cfg.rebinding(&p.Column)
			if p.Column.Bound && to == seal.Keep {
				to = seal.Bind
			}
			if fernet.IsToken(stored.text) {
				token, changed, err := locate.EncryptStored(ring, stored.text, p, to)
				if err == nil || !stored.apart { // otherwise it is bytes that start like a token
					return rewritten{token, changed, to == seal.Bind}, err
				}
			}
			plaintext, err := plaintype.Encode(p.Column, stored.kind, stored.text)
			if err != nil {
				return rewritten{}, err
			}
			token, err := locate.EncryptPlaintext(ring, plaintext, p, to)
			return rewritten{token, true, to == seal.Bind}, err
		},
		index:       indexer(ring),
		plain:       fromPlaintext,
		before:      beforeEncrypt,
		after:       validateChecks,
		forCanaries: keepCanaries,
		advice:      "stop those that write plaintext first",
	})
}

// checkEncryption refuses columns with an encryption state that is set to a
// value other than the given ones.
func (cfg *Config) checkEncryption(tables []table, want ...states.State) error {
	for _, t := range tables {
		for _, c := range t.columns {
			if e := cfg.States.Given(&c).Encryption; e != states.Unset && !slices.Contains(want, e) {
				return fmt.Errorf("%w: encryption of %s is %s: bring it to %s first", ErrState, c, e, want[len(want)-1])
			}
		}
	}
	return nil
}

func beforeEncrypt(ctx context.Context, cfg *Config, s store, tables []table) error {
	errs := []error{cfg.checkEncryption(tables, states.Write)}
	for _, t := range tables {
		for i := range t.columns {
			errs = append(errs, s.checkWidth(ctx, t, i))
		}
	}
	return errors.Join(errs...)
}

// validateChecks validates the remaining CHECKs. No new plaintext can appear
// meanwhile: an unvalidated CHECK already applies to writes.
func validateChecks(ctx context.Context, s store, t table, result *TableReport) error {
	result.Unchecked = nil // from an earlier try
	for _, c := range t.columns {
		if result.isLeft(c.Name) || result.QuarantinedByOthers > 0 {
			continue
		}
		checks, err := s.checks(ctx, c)
		if err != nil {
			return fmt.Errorf("find the CHECK of %s: %w", c.Name, err)
		}
		if len(checks) == 0 {
			result.Unchecked = append(result.Unchecked, c.Name)
		}
		for _, check := range checks {
			if check.valid && check.name != result.validating {
				continue
			}
			var err error
			if !check.valid {
				result.validating = check.name
				err = s.validate(ctx, c, check.name)
			}
			if errors.Is(err, ErrLockTimeout) { // after a minute of retries
				err = retry.Permanent(err)
			}
			if err != nil {
				return fmt.Errorf("validate %s: %w", check.name, err)
			}
			result.validating = ""
			result.Validated = append(result.Validated, check.name)
		}
	}
	return nil
}

// DecryptToPlaintext undoes [Encrypt]: it replaces every token that a key opens
// with its plaintext, which anyone who reads the database or its backups can
// then read. Blind indexes keep their digests. It works like [Run]. Values that
// aren't tokens stay unchanged. If the column's state of encryption is set, it
// must be off or accept.
//
// Tokens that don't open are left as they are and reported, with
// [ErrQuarantined], and so is plaintext that itself begins like a token or that
// a text column can't hold. A CHECK that allows only tokens is a [SchemaError],
// before anything is written.
//
// Clients must have accept as the columns' state of encryption, so that they
// read both and write plaintext.
func DecryptToPlaintext(ctx context.Context, db *sql.DB, keyRing *keyring.Keyring, cfg Config) (*Report, error) {
	ring := (*engine.Ring)(keyRing)
	locate := new(seal.Locator)
	return start(ctx, db, ring, cfg, operation{
		name: "decrypt",
		rewrite: func(_ *Config, ring *engine.Ring, stored original, p seal.Place) (rewritten, error) {
			plaintext, changed, err := decryptStored(locate, ring, stored.text, p)
			return rewritten{plaintext, changed, false}, err
		},
		index: indexer(ring),
		plain: toPlaintext,
		before: func(ctx context.Context, cfg *Config, s store, tables []table) error {
			return errors.Join(cfg.checkEncryption(tables, states.Off, states.Accept), checkAllowed(ctx, s, tables))
		},
		forCanaries: dropCanaries,
		advice:      "stop those that encrypt first",
	})
}

// checkAllowed returns an error if a CHECK refuses plaintext in the tables.
func checkAllowed(ctx context.Context, s store, tables []table) error {
	errs := []error{refuseExpanded(s.dialect(), tables, "drop the tokens instead, if nothing writes them yet", true)}
	for _, t := range tables {
		for _, c := range t.columns {
			checks, err := s.checks(ctx, c)
			if err != nil {
				return fmt.Errorf("find the CHECK of %s: %w", c, err)
			}
			for _, check := range checks {
				e := &SchemaError{
					Column: c, Reason: "the constraint " + check.name + " allows nothing but tokens",
					SQL: check.drop,
				}
				if check.drop == "" {
					e.Reason += "; SQLite cannot drop it: make the table anew without it"
				}
				errs = append(errs, e)
			}
		}
	}
	return errors.Join(errs...)
}

package hooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"

	"entgo.io/ent"

	credent "github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/hook"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/fieldcrypt"
)

// ErrFormat means that a key doesn't have its credential type's format.
var ErrFormat = errors.New("the key is not of the format of its credential type")

// Format is the format of one credential type's keys. A nil pattern accepts
// everything.
type Format struct {
	Type      string         // the credential_type, in lower case
	APIKey    *regexp.Regexp // must match the whole api_key
	SecretKey *regexp.Regexp // must match the whole secret_key
	Hint      string         // describes a well-formed key, for the error; not a real key
}

// BrokerFormats returns the known formats of brokers and data providers.
func BrokerFormats() []Format {
	return []Format{
		{
			Type:      "alpaca",
			APIKey:    regexp.MustCompile(`\A(PK|AK|CK)[A-Z0-9]{16,30}\z`),
			SecretKey: regexp.MustCompile(`\A[A-Za-z0-9/+]{40,64}\z`),
			Hint: "an Alpaca key ID begins with PK (paper), AK (live) or CK (broker), its secret has 40 or more " +
				"letters and digits",
		},
		{
			Type:   "polygon",
			APIKey: regexp.MustCompile(`\A[A-Za-z0-9_]{32}\z`),
			Hint:   "a Polygon key has 32 letters, digits and underscores",
		},
	}
}

// formatChecker checks the keys that a mutation sets. It doesn't check types
// without a format.
type formatChecker struct {
	formats  []Format
	warnings *slog.Logger // nil means refuse
}

func (c formatChecker) hook(next ent.Mutator) ent.Mutator {
	return hook.UserCredentialFunc(func(ctx context.Context, m *credent.UserCredentialMutation) (ent.Value, error) {
		if err := c.check(ctx, m); err != nil {
			if !errors.Is(err, ErrFormat) || c.warnings == nil {
				return nil, err
			}
			c.warnings.LogAttrs(ctx, slog.LevelWarn, "credent format", slog.String("problem", err.Error()))
		}
		return next.Mutate(ctx, m)
	})
}

func (c formatChecker) check(ctx context.Context, m *credent.UserCredentialMutation) error {
	if secretField(m) == "" {
		return nil
	}
	name, err := typeOf(ctx, m)
	if err != nil {
		return err
	}
	for _, format := range c.formats {
		if format.Type == name {
			return format.check(m)
		}
	}
	return nil
}

// typeOf returns the credential type that the row will have, or "" if there is
// no row.
func typeOf(ctx context.Context, m *credent.UserCredentialMutation) (string, error) {
	if name, ok := m.CredentialType(); ok {
		return name, nil
	}
	ids, err := affected(ctx, m) // an update of a secret in several rows is refused
	if err != nil {
		return "", err
	}
	stored, err := m.Client().UserCredential.Query().
		Where(usercredential.IDIn(ids...)).
		Select(usercredential.FieldCredentialType).
		Strings(ctx)
	if err != nil || len(stored) == 0 {
		return "", err
	}
	return stored[0], nil
}

func (f Format) check(m *credent.UserCredentialMutation) error {
	apiKey, _ := m.APIKey()
	secretKey, _ := m.SecretKey()
	for _, part := range []struct {
		field   string
		secret  fieldcrypt.Secret
		pattern *regexp.Regexp
	}{
		{usercredential.FieldAPIKey, apiKey, f.APIKey},
		{usercredential.FieldSecretKey, secretKey, f.SecretKey},
	} {
		if part.pattern == nil || part.secret.IsZero() { // not set
			continue
		}
		plaintext, err := part.secret.Reveal()
		if err != nil {
			return err
		}
		if !part.pattern.MatchString(plaintext) {
			return fmt.Errorf("credent: %w: %s %s: %s", ErrFormat, f.Type, part.field, f.Hint)
		}
	}
	return nil
}

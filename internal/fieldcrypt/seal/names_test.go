package seal_test

import (
	"errors"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
)

// TestEarlierNames opens tokens bound under a column's earlier names, and
// re-encrypts them under its current name.
func TestEarlierNames(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA, keyB)
	now := column.Column{
		Table: "people", Name: "mail", Size: 500, Tenant: "owner", Bound: true,
		Was: "patients.email,people.email",
	}
	undeclared := now
	undeclared.Was = ""
	unbound := now
	unbound.Bound = false
	var l seal.Locator
	for name, test := range map[string]struct {
		made    column.Column
		tenant  string
		earlier bool
		err     error
	}{
		"present":                 {now, "a", false, nil},
		"earlier":                 {column.Column{Table: "patients", Name: "email"}, "a", true, nil},
		"last of them":            {column.Column{Table: "people", Name: "email"}, "a", true, nil},
		"another column":          {column.Column{Table: "patients", Name: "mail"}, "a", false, fernet.ErrUnknownKey},
		"another tenant":          {now, "b", false, fernet.ErrUnknownKey},
		"earlier, another tenant": {column.Column{Table: "patients", Name: "email"}, "b", false, fernet.ErrUnknownKey},
	} {
		for _, key := range []string{keyA, keyB} {
			token := encrypt(t, bound(t, ring(t, key), test.made, test.tenant), "text")
			for _, c := range []column.Column{now, unbound} {
				if o, err := l.OpenAt(r, in(c, "a"), token); !errors.Is(err, test.err) ||
					err == nil && o.Plaintext != "text" {
					t.Errorf("%s: OpenAt: %q, %v", name, o.Plaintext, err)
				}
				if got, err := seal.NewOpenerAt(r, c, "a", true).Open(token, nil, nil); !errors.Is(err, test.err) ||
					err == nil && got != "text" {
					t.Errorf("%s: an opener: %q, %v", name, got, err)
				}
			}
			if o, _ := l.OpenAt(r, in(now, "a"), token); o.Earlier != test.earlier {
				t.Errorf("%s: Earlier is %v", name, o.Earlier)
			}
			if got, err := bound(t, r, now, "a").Decrypt(token); !errors.Is(err, test.err) ||
				err == nil && got != "text" {
				t.Errorf("%s: a bound keyring: %q, %v", name, got, err)
			}
			if test.err != nil {
				continue
			}
			again, changed, isBound, err := l.Reencrypt(r, in(now, "a"), token, seal.Keep)
			if err != nil || !isBound || changed != (test.earlier || key == keyB) {
				t.Errorf("%s: Reencrypt: changed %v, bound %v, %v", name, changed, isBound, err)
			}
			if o, err := l.OpenAt(ring(t, keyA), in(undeclared, "a"), again); o.Plaintext != "text" || err != nil {
				t.Errorf("%s: re-encrypted, it opens as %q, %v", name, o.Plaintext, err)
			}
			if o, err := l.OpenAt(r, in(now, "a"), again); o.Earlier || err != nil {
				t.Errorf("%s: re-encrypted, it is still under an earlier name, or %v", name, err)
			}
			// Without the declaration it opens only under the current name.
			if _, err := l.OpenAt(r, in(undeclared, "a"), token); (err != nil) != test.earlier {
				t.Errorf("%s: undeclared: %v", name, err)
			}
		}
	}
	// An unbound token doesn't depend on names, but a column that the schema
	// binds doesn't open it.
	bare := encrypt(t, r, "text")
	if _, err := seal.NewOpenerAt(r, now, "a", true).Open(bare, nil, nil); !errors.Is(err, seal.ErrWrongLocation) {
		t.Errorf("an unbound token: %v", err)
	}
	if o, err := l.OpenAt(r, in(unbound, "a"), bare); o.Earlier || err != nil {
		t.Errorf("an unbound token is under an earlier name, or %v", err)
	}
	if o, err := l.OpenAt(nil, in(now, "a"), bare); o.Earlier || !errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("without a keyring: %+v, %v", o, err)
	}
}

package seal_test

import (
	"errors"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
)

// TestEarlierNames opens tokens that were bound under earlier names of their
// column, and re-encrypts them under the present one.
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
		"present":         {now, "a", false, nil},
		"earlier":         {column.Column{Table: "patients", Name: "email"}, "a", true, nil},
		"last of them":    {column.Column{Table: "people", Name: "email"}, "a", true, nil},
		"another column":  {column.Column{Table: "patients", Name: "mail"}, "a", false, fernet.ErrUnknownKey},
		"another tenant":  {now, "b", false, fernet.ErrUnknownKey},
		"earlier, theirs": {column.Column{Table: "patients", Name: "email"}, "b", false, fernet.ErrUnknownKey},
	} {
		for _, key := range []string{keyA, keyB} {
			token := encrypt(t, bound(t, ring(t, key), test.made, test.tenant), "text")
			for _, c := range []column.Column{now, unbound} {
				if got, err := l.DecryptAt(r, in(c, "a"), token); !errors.Is(err, test.err) ||
					err == nil && got != "text" {
					t.Errorf("%s: DecryptAt: %q, %v", name, got, err)
				}
				if got, err := seal.NewOpenerAt(r, c, "a", true).Open(token, nil, nil); !errors.Is(err, test.err) ||
					err == nil && got != "text" {
					t.Errorf("%s: an opener: %q, %v", name, got, err)
				}
			}
			if got := l.IsEarlier(r, in(now, "a"), token); got != test.earlier {
				t.Errorf("%s: IsEarlier is %v", name, got)
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
			if got, err := l.DecryptAt(ring(t, keyA), in(undeclared, "a"), again); got != "text" || err != nil {
				t.Errorf("%s: then it opens as %q, %v", name, got, err)
			}
			if l.IsEarlier(r, in(now, "a"), again) {
				t.Errorf("%s: it is still under an earlier name", name)
			}
			// Without the declaration it opens only under the present name.
			if _, err := l.DecryptAt(r, in(undeclared, "a"), token); (err != nil) != test.earlier {
				t.Errorf("%s: undeclared: %v", name, err)
			}
		}
	}
	// What isn't bound has no name, and a schema that binds doesn't read it.
	bare := encrypt(t, r, "text")
	if _, err := seal.NewOpenerAt(r, now, "a", true).Open(bare, nil, nil); !errors.Is(err, seal.ErrWrongLocation) {
		t.Errorf("an unbound token: %v", err)
	}
	if l.IsEarlier(r, in(now, "a"), bare) || l.IsEarlier(nil, in(now, "a"), bare) {
		t.Error("an unbound token is under an earlier name")
	}
}

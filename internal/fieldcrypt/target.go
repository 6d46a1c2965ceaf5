package fieldcrypt

import (
	"database/sql/driver"
	"fmt"
	"reflect"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
)

// Target receives one column of one row. Like its secret, it prints redacted.
type Target struct {
	secret Secret // its Inner is empty until something is scanned
}

// NewTarget returns a target. It allocates the target and the secret's content
// together, since a list has many.
func NewTarget(o Opener) *Target {
	t := new(struct {
		Target // printing a pointer to it doesn't show inner
		inner  Inner
	})
	t.inner.opener = o
	t.secret = secretOf(&t.inner)
	return &t.Target
}

// Scan implements sql.Scanner. It copies the stored value.
func (t *Target) Scan(src any) error {
	in := t.secret.inner()
	text, present, err := scan(src)
	if err != nil {
		return in.locate("scan", err)
	}
	if in.stored || in.null { // an earlier secret uses in
		in = &Inner{opener: in.opener}
		t.secret = secretOf(in)
	}
	in.text, in.stored, in.null = text, present, !present
	return nil
}

// Secret returns the scanned secret.
func (t *Target) Secret() Secret {
	if !t.secret.inner().stored {
		return Secret{}
	}
	return t.secret
}

// Value implements driver.Valuer, which ent requires of targets; nobody calls
// it.
func (t *Target) Value() (driver.Value, error) { return nil, nil }

// scan copies a stored value. It reports false for NULL.
func scan(src any) (text string, present bool, err error) {
	switch src := src.(type) {
	case nil:
		return "", false, nil
	case string:
		return src, true, nil
	case []byte:
		return string(src), true, nil
	default:
		return "", false, fmt.Errorf("%w (a %T)", fernet.ErrNotEncrypted, src)
	}
}

// ScannedInto returns the stored secret that was scanned into dest, ent's
// target or the caller's, or nil.
func ScannedInto(dest any) *Inner {
	var secret *Secret
	if t, ok := dest.(*Target); ok {
		secret = &t.secret
	} else {
		secret = secretWithin(reflect.ValueOf(dest))
	}
	if secret == nil || secret.IsZero() || !secret.inner().stored {
		return nil
	}
	return secret.inner()
}

// secretWithin returns the secret of pointers to pointers, and of a sql.Null,
// to which ent adds a pointer in structs of the caller's; nil for none.
func secretWithin(v reflect.Value) *Secret {
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return nil
	}
	if of, ok := v.Interface().(interface{ target() *Secret }); ok {
		return of.target()
	}
	v = v.Elem()
	if v.Kind() == reflect.Struct && v.Type().PkgPath() == "database/sql" && v.FieldByName("V").IsValid() &&
		v.FieldByName("Valid").Bool() {
		v = v.FieldByName("V").Addr()
	}
	return secretWithin(v)
}

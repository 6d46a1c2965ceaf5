package otelcredent

import (
	"context"
	"errors"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// causes maps errors to values of error.type. The first match counts, because
// an error may match several.
var causes = []struct {
	err  error
	name string
}{
	{encrypted.ErrShredded, "shredded"},
	{encrypted.ErrUnderKeyring, "under-keyring"},
	{encrypted.ErrWrongLocation, "wrong-location"},
	{encrypted.ErrUnknownKey, "unknown-key"},
	{encrypted.ErrNotEncrypted, "not-encrypted"},
	{encrypted.ErrCorrupt, "corrupt"},
	{encrypted.ErrNoTenant, "no-tenant"},
	{encrypted.ErrNoKey, "no-key"},
	{encrypted.ErrEncrypted, "encrypted"},
	{encrypted.ErrRedacted, "redacted"},
	{encrypted.ErrValue, "value"},
	{encrypted.ErrTooLong, "too-long"},
	{encrypted.ErrNotText, "not-text"},

	{keyring.ErrPrimaryRemoved, "primary-removed"},
	{keyring.ErrBadKey, "bad-key"},
	{keyring.ErrKeyFile, "key-file"},
	{keyring.ErrTwoSources, "two-sources"},

	{rotate.ErrQuarantined, "quarantined"},
	{rotate.ErrNotDone, "not-done"},
	{rotate.ErrRefused, "refused"},
	{rotate.ErrReadable, "readable"},
	{rotate.ErrUnbound, "unbound"},
	{rotate.ErrConnectionLost, "connection-lost"},
	{rotate.ErrServerDown, "server-down"},
	{rotate.ErrStandby, "standby"},
	{rotate.ErrConflict, "conflict"},
	{rotate.ErrLocked, "locked"},
	{rotate.ErrTooManyConnections, "too-many-connections"},
	{rotate.ErrTimeout, "timeout"},
	{rotate.ErrIdle, "idle"},
	{rotate.ErrNoSpace, "no-space"},

	{context.DeadlineExceeded, "deadline"},
	{context.Canceled, "canceled"},
}

// cause returns an error's error.type, or "" for nil. It never contains any of
// the error's text.
func cause(err error) string {
	if err == nil {
		return ""
	}
	for _, c := range causes {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	return other
}

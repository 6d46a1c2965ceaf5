package cli

import (
	"context"
	"errors"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/keyring"
)

// signHeads signs the audit trail's heads with the primary key, which covers
// entries signed by the keys that leave the keyring after a rotation.
func (a *app) signHeads(ctx context.Context, db *database, ring *keyring.Keyring) error {
	if len(ring.Keys()) < 2 {
		return nil
	}
	var (
		heads  int
		report audit.Report
	)
	err := db.try(ctx, func(ctx context.Context) (err error) {
		heads, report, err = audit.SignHeads(ctx, db.DB, db.dialect, ring)
		return err
	})
	switch {
	case errors.Is(err, audit.ErrNoTable):
		return nil
	case err != nil:
		return messagef("the secrets are rewritten, and the audit trail's heads are not signed: %v; keep the old "+
			"key until `credent rotate` has signed them", err)
	case report.Err() != nil:
		return messagef("the secrets are rewritten, and not all of the audit trail's heads are signed: %v; look at "+
			"it with `credent audit verify` before the old key leaves the keyring", report.Err())
	case heads > 0:
		a.notef("signed the heads of %s of the audit trail\n", count(heads, "chain"))
	}
	return nil
}

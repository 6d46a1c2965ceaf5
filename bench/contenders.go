package main

import (
	"context"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/open/libpq"
)

// Names of the contenders in the report.
const (
	namePlain        = "ent, plaintext (lib/pq)"
	namePlainPGX     = "ent, plaintext (pgx)"
	nameTokenSize    = "ent, plaintext of token size (lib/pq)"
	nameTokenSizePGX = "ent, plaintext of token size (pgx)"
	nameCredent      = "ent + Credent (lib/pq)"
	nameCredentBin   = "ent + Credent (lib/pq, binary_parameters=yes)"
	nameCredentPGX   = "ent + Credent (pgx)"
	nameTenantKeys   = "ent + Credent, bound, tenant keys (pgx)"
	nameTrail        = "ent + Credent, audit trail (pgx)"
	nameCopy         = "credent.Copy (pgx)"
	nameFernet       = "ent + fernet-go in a Go type (lib/pq)"
	nameFernetPGX    = "ent + fernet-go in a Go type (pgx)"
	nameHooks        = "ent, hook + interceptor (lib/pq)"
	nameHooksPGX     = "ent, hook + interceptor (pgx)"
	nameGORM         = "GORM + serializer (pgx)"
	namePGX          = "raw pgx"
	nameTwin         = "Python SQLAlchemy (psycopg2)"
	binaryParameters = "binary_parameters"
	sameCrypto       = "Credent's tokens"
	noteTenantKeys   = "each under the key of its tenant and column"
	noteTrail        = "an entry of each reveal, in batches, and of each write; flushes within a measure count"
	noteBinary       = "one round trip a statement; breaks jsonb"
	noteTokenSize    = "columns as long as the tokens"
	noteNotEncrypted = "no encryption"
	noteFernet       = "fernet-go"
	noteTwin         = "cryptography.fernet"
	noteGORM         = "Credent's tokens, without default transactions"
	noteRaw          = "Credent's tokens; bulk by COPY"
)

// contenders returns all measured clients. All have the same tables, indexes
// and triggers.
func contenders() []contender {
	pq := []credent.Option{credent.WithDriver(libpq.Driver())}
	return []contender{
		{name: namePlain, note: noteNotEncrypted, open: openPlain(keySizes, pq), plaintext: true},
		{name: namePlainPGX, note: noteNotEncrypted, open: openPlain(keySizes, nil), plaintext: true},
		{name: nameTokenSize, note: noteTokenSize, open: openPlain(tokenSizes, pq), plaintext: true},
		{name: nameTokenSizePGX, note: noteTokenSize, open: openPlain(tokenSizes, nil), plaintext: true},
		{name: nameCredent, note: sameCrypto, open: openCredent("", pq, credent.Config{})},
		{name: nameCredentBin, note: noteBinary, open: openCredent("yes", pq, credent.Config{})},
		{name: nameCredentPGX, note: sameCrypto, open: openCredent("", nil, credent.Config{})},
		{
			name: nameTenantKeys, note: noteTenantKeys,
			open: openCredent("", nil, credent.Config{TenantKeys: credent.Write, Binding: credent.Require}),
		},
		{name: nameTrail, note: noteTrail, open: openTrail},
		{name: nameFernet, note: noteFernet, open: openFernet(pq), eager: true},
		{name: nameFernetPGX, note: noteFernet, open: openFernet(nil), eager: true},
		{name: nameHooks, note: sameCrypto, open: openHooks(pq), eager: true},
		{name: nameHooksPGX, note: sameCrypto, open: openHooks(nil), eager: true},
		{name: nameGORM, note: noteGORM, open: openGORM, eager: true},
		{name: namePGX, note: noteRaw, open: openPGX, eager: true},
		{name: nameTwin, note: noteTwin, open: openTwin, eager: true},
	}
}

// opener creates a peer on a database.
type opener = func(ctx context.Context, databaseURL string, a account) (peer, error)

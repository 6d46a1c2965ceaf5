package main

import (
	"context"

	"github.com/credent-go/credent"
)

// Names of the contenders in the report.
const (
	namePlain         = "ent, plaintext (lib/pq)"
	namePlainPGX      = "ent, plaintext (pgx)"
	nameTokenSize     = "ent, plaintext of token size (lib/pq)"
	nameTokenSizePGX  = "ent, plaintext of token size (pgx)"
	nameCredent       = "ent + Credent (lib/pq)"
	nameCredentNoBin  = "ent + Credent (lib/pq, binary_parameters=no)"
	nameCredentPGX    = "ent + Credent (pgx)"
	nameTenantKeys    = "ent + Credent, bound, tenant keys (pgx)"
	nameCopy          = "credent.Copy (pgx)"
	nameFernet        = "ent + fernet-go in a Go type (lib/pq)"
	nameFernetPGX     = "ent + fernet-go in a Go type (pgx)"
	nameHooks         = "ent, hook + interceptor (lib/pq)"
	nameHooksPGX      = "ent, hook + interceptor (pgx)"
	nameGORM          = "GORM + serializer (pgx)"
	namePGX           = "raw pgx"
	nameTwin          = "Python SQLAlchemy (psycopg2)"
	binaryParameters  = "binary_parameters"
	sameCrypto        = "Credent's tokens"
	noteTenantKeys    = "each under the key of its tenant and column"
	noteNoBinary      = "as lib/pq does by default"
	noteTokenSize     = "columns as long as the tokens"
	noteNotEncrypted  = "no encryption"
	noteFernet        = "fernet-go"
	noteTwin          = "cryptography.fernet"
	noteGORM          = "Credent's tokens, without default transactions"
	noteRaw           = "Credent's tokens; bulk by COPY"
	noteBinaryDefault = "Credent's tokens; binary_parameters=yes, the default"
)

// contenders are all clients that are measured. All have the same tables,
// indexes and triggers.
func contenders() []contender {
	pgx := []credent.Option{credent.WithPGX()}
	return []contender{
		{name: namePlain, note: noteNotEncrypted, open: openPlain(keySizes, nil), plaintext: true},
		{name: namePlainPGX, note: noteNotEncrypted, open: openPlain(keySizes, pgx), plaintext: true},
		{name: nameTokenSize, note: noteTokenSize, open: openPlain(tokenSizes, nil), plaintext: true},
		{name: nameTokenSizePGX, note: noteTokenSize, open: openPlain(tokenSizes, pgx), plaintext: true},
		{name: nameCredent, note: noteBinaryDefault, open: openCredent("", nil, credent.Config{})},
		{name: nameCredentNoBin, note: noteNoBinary, open: openCredent("no", nil, credent.Config{})},
		{name: nameCredentPGX, note: sameCrypto, open: openCredent("", pgx, credent.Config{})},
		{name: nameTenantKeys, note: noteTenantKeys, open: openCredent("", pgx, credent.Config{TenantKeys: credent.Write, Binding: credent.Require})},
		{name: nameFernet, note: noteFernet, open: openFernet(nil), eager: true},
		{name: nameFernetPGX, note: noteFernet, open: openFernet(pgx), eager: true},
		{name: nameHooks, note: sameCrypto, open: openHooks(nil), eager: true},
		{name: nameHooksPGX, note: sameCrypto, open: openHooks(pgx), eager: true},
		{name: nameGORM, note: noteGORM, open: openGORM, eager: true},
		{name: namePGX, note: noteRaw, open: openPGX, eager: true},
		{name: nameTwin, note: noteTwin, open: openTwin, eager: true},
	}
}

// opener makes a peer on a database.
type opener = func(ctx context.Context, databaseURL string, a account) (peer, error)

package rotate

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/indextrigger"
	"github.com/credent-go/credent/internal/plaintype"
	"github.com/credent-go/credent/keyring"
)

// FillIndexes makes missing digests of blind indexes, replaces wrong ones, and
// changes nothing else. Unlike [Run] it takes values that aren't tokens as
// plaintext, so that a column in a plaintext window can be looked up, and is
// unique, before [Encrypt] has replaced its plaintext. Otherwise it works like
// Run.
//
// It begins with [CheckUnique]. A table without the triggers that empty a
// digest, when another program changes the plaintext and not the digest, is a
// [SchemaError], and nothing is written.
func FillIndexes(ctx context.Context, db *sql.DB, keyRing *keyring.Keyring, cfg Config) (*Report, error) {
	ring := (*engine.Ring)(keyRing)
	if err := checkUnique(ctx, db, ring, cfg, true); err != nil {
		return nil, err
	}
	locate := new(seal.Locator)
	var digests blindindex.Digester
	return start(ctx, db, ring, cfg, operation{
		name: "index",
		rewrite: func(_ *Config, ring *engine.Ring, stored original, p seal.Place) (rewritten, error) {
			_, err := openStored(locate, ring, stored, p)
			return rewritten{value: stored.text}, err
		},
		index: func(opens *engine.Ring, stored sql.NullString, p seal.Place) (sql.NullString, error) {
			if !stored.Valid {
				return sql.NullString{}, nil
			}
			plaintext, err := openStored(locate, opens, original{text: stored.String, kind: plaintype.Hexed}, p)
			if err != nil {
				return sql.NullString{}, err
			}
			digest, err := digests.Primary(digestRing(ring, opens, p.Column), p.Column, plaintext)
			return sql.NullString{String: hex.EncodeToString(digest), Valid: true}, err
		},
		plain: fromPlaintext,
		before: func(ctx context.Context, _ *Config, s store, tables []table) error {
			if err := refuseExpanded(s.dialect(), tables, "let Encrypt make the tokens and their digests",
				false); err != nil {
				return err
			}
			return checkTriggers(ctx, db, s, tables)
		},
		advice: "stop those that write without a digest first",
	})
}

// checkTriggers returns an error unless triggers clear a digest when its secret
// changes.
func checkTriggers(ctx context.Context, db *sql.DB, s store, tables []table) error {
	var errs []error
	for _, t := range tables {
		for _, c := range t.columns {
			if c.Index == "" {
				continue
			}
			problems, err := indextrigger.Compare(ctx, db, s.dialect(), []indextrigger.Column{
				{Schema: t.schema, Table: t.name, Token: c.Name, Index: c.Index, Key: t.key},
			})
			if err != nil {
				return err
			}
			if len(problems) > 0 {
				errs = append(errs, &SchemaError{
					Column: c, Reason: fmt.Sprintf("no trigger empties %s when another program changes the secret",
						c.Index),
					SQL: strings.Join(problems[0].SQL, ";\n") + ";",
				})
			}
		}
	}
	return errors.Join(errs...)
}

// voidBytes is the size of a void digest, which no real digest has.
const voidBytes = 33

// voidDigest returns, in hexadecimal, the random digest of a secret that nobody
// can read any more. With NULL, the row's digest would count as missing, and
// lookups would read the row.
func voidDigest() sql.NullString {
	random := make([]byte, voidBytes)
	_, _ = rand.Read(random) // never fails
	return sql.NullString{String: hex.EncodeToString(random), Valid: true}
}

func isVoid(index sql.NullString) bool { return len(index.String) == hex.EncodedLen(voidBytes) }

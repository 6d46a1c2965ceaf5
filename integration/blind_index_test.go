package integration

import (
	"encoding/hex"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
)

// apiKeyColumn is the one with a blind index.
func apiKeyColumn(t *testing.T) credent.EncryptedColumn {
	t.Helper()
	for _, c := range credent.EncryptedColumns() {
		if c.Index == "api_key_index" {
			return c
		}
	}
	t.Fatal("no column has a blind index")
	return credent.EncryptedColumn{}
}

// checkIndex makes sure that each row has the digest of its api_key under the primary key.
func (env *environment) checkIndex(t *testing.T, ring *credent.Keyring) {
	t.Helper()
	stored := env.indexes(t)
	for id, p := range env.tokens(t) {
		apiKey, err := ring.Decrypt(p.APIKey)
		if err != nil {
			t.Fatal(err)
		}
		digest, err := ring.Digest(apiKeyColumn(t), apiKey)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := stored[id], hex.EncodeToString(digest); got != want {
			t.Errorf("row %s: the blind index has %q, want %q", id, got, want)
		}
	}
}

// indexes returns the digests, in hexadecimal, "" for NULL.
func (env *environment) indexes(t *testing.T) map[uuid.UUID]string {
	t.Helper()
	rows, err := env.db.QueryContext(t.Context(), "SELECT id, api_key_index FROM user_credentials")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { closeAll(t, rows) }()
	all := make(map[uuid.UUID]string)
	for rows.Next() {
		var (
			id    uuid.UUID
			index []byte
		)
		if err := rows.Scan(&id, &index); err != nil {
			t.Fatal(err)
		}
		all[id] = hex.EncodeToString(index)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

package auditrow

import (
	"crypto/hmac"
	"crypto/sha256"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	ring "github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// The purposes of subkeys, each 32 bytes.
const (
	forRows        = "credent audit v1"
	forCheckpoints = "credent audit checkpoint v1"
)

// Keys holds the audit subkeys derived from a keyring.
type Keys struct {
	Primary     string // the ID of the key that signs
	rows        map[string][][]byte
	checkpoints map[string][][]byte
}

// NewKeys derives the audit keys. Errors: ring.ErrNoKey.
func NewKeys(r *ring.Ring) (*Keys, error) {
	if _, err := ring.Load(r); err != nil {
		return nil, err
	}
	k := &Keys{rows: make(map[string][][]byte), checkpoints: make(map[string][][]byte)}
	for i, key := range r.Keys() {
		if i == 0 {
			k.Primary = key.ID()
		}
		for purpose, into := range map[string]map[string][][]byte{forRows: k.rows, forCheckpoints: k.checkpoints} {
			sub, err := fernet.Subkey(key, purpose, sha256.Size)
			if err != nil {
				return nil, err
			}
			// Two keys can share a 32-bit ID.
			into[key.ID()] = append(into[key.ID()], sub)
		}
	}
	return k, nil
}

// Answer is the result of checking a MAC.
type Answer int

// Possible answers.
const (
	Unknown Answer = iota // the key isn't in the keyring
	Valid
	Forged
)

func sign(key []byte, hash Digest) (mac Digest) {
	h := hmac.New(sha256.New, key)
	h.Write(hash[:])
	h.Sum(mac[:0])
	return mac
}

func check(keys [][]byte, hash, mac Digest) Answer {
	if len(keys) == 0 {
		return Unknown
	}
	for _, key := range keys {
		if want := sign(key, hash); hmac.Equal(want[:], mac[:]) {
			return Valid
		}
	}
	return Forged
}

// Sign names the primary key in the row, signs it, and returns its hash.
func (k *Keys) Sign(r *Row) Digest {
	r.Signer = k.Primary
	hash := r.Hash()
	r.MAC = sign(k.rows[k.Primary][0], hash)
	return hash
}

// Check returns the row's hash and the result of checking its MAC. A malformed
// row is forged, whatever its MAC.
func (k *Keys) Check(r *Row) (Digest, Answer) {
	hash := r.Hash()
	if r.Malformed != "" {
		return hash, Forged
	}
	return hash, check(k.rows[r.Signer], hash, r.MAC)
}

// SignCheckpoint signs the hash of a checkpoint with the primary key.
func (k *Keys) SignCheckpoint(hash Digest) Digest { return sign(k.checkpoints[k.Primary][0], hash) }

// CheckCheckpoint checks a checkpoint's MAC.
func (k *Keys) CheckCheckpoint(id string, hash, mac Digest) Answer {
	return check(k.checkpoints[id], hash, mac)
}

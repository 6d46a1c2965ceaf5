// Package fernettype is a typical hand-written ent field encrypted with
// fernet-go: a Go type that encrypts when database/sql asks for its value and
// decrypts when it is scanned.
package fernettype

import (
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/fernet/fernet-go"
)

// Keys are the process's keys, the encrypting one first. Set them before the
// first use.
var Keys []*fernet.Key

// Secret is an encrypted field.
type Secret struct{ Plaintext string }

// Value encrypts.
func (s Secret) Value() (driver.Value, error) {
	token, err := fernet.EncryptAndSign([]byte(s.Plaintext), Keys[0])
	if err != nil {
		return nil, err
	}
	return string(token), nil
}

// Scan decrypts.
func (s *Secret) Scan(src any) error {
	var token []byte
	switch src := src.(type) {
	case string:
		token = []byte(src)
	case []byte:
		token = src
	default:
		return fmt.Errorf("fernettype: scan a %T", src)
	}
	plaintext := fernet.VerifyAndDecrypt(token, 0, Keys)
	if plaintext == nil {
		return errors.New("fernettype: the token doesn't open")
	}
	s.Plaintext = string(plaintext)
	return nil
}

package kms

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// A wrapped keyring, version 1, is the text
//
//	credent-keyring-1.BASE64
//
// with the KMS's ciphertext in canonical base64 (RFC 4648 §5, URL-safe,
// padded). The KMS encrypts the document
//
//	{"version":1,"keys":["PRIMARY","PREVIOUS",…]}
//
// in JSON of exactly this form, without white space. The keys are Fernet keys
// of 44 characters, primary key first.
const (
	armorPrefix = "credent-keyring-"
	version     = 1

	// maxDocument is the maximum size in bytes of a document, which is the
	// limit of AWS KMS: 86 keys. RSA keys of Azure Key Vault encrypt less: 3
	// keys with 2048 bits, 9 with 4096.
	maxDocument = 4096
	// maxWrapped is the maximum size in bytes of a wrapped keyring.
	maxWrapped = 64 << 10
)

var encoding = base64.URLEncoding.Strict()

// document is the plaintext that the KMS encrypts.
type document struct {
	Version int      `json:"version"`
	Keys    []string `json:"keys"`
}

func encode(keys []string) ([]byte, error) {
	trimmed := make([]string, len(keys))
	for i, key := range keys {
		trimmed[i] = strings.TrimSpace(key)
	}
	data, err := json.Marshal(document{version, trimmed})
	if err != nil {
		return nil, fmt.Errorf("kms: encode the keyring: %w", err)
	}
	if len(data) > maxDocument {
		return nil, fmt.Errorf("kms: %d keys are too many: they take %d bytes, and %d can be wrapped",
			len(keys), len(data), maxDocument)
	}
	return data, nil
}

// decode parses a document, but only in encode's exact form. Its errors quote
// nothing.
func decode(data []byte) ([]string, error) {
	var head struct {
		Version *int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil || head.Version == nil {
		return nil, fmt.Errorf("kms: %w: its content is not a keyring", ErrNotWrapped)
	}
	if *head.Version != version {
		return nil, fmt.Errorf("kms: %w: %d inside", ErrVersion, *head.Version)
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("kms: %w: its content is not a keyring", ErrNotWrapped)
	}
	// Refuses unknown, missing and repeated fields, names in another case,
	// white space and trailing data.
	again, err := json.Marshal(d)
	if err != nil || !bytes.Equal(again, data) {
		return nil, fmt.Errorf("kms: %w: its content is not in the form of version %d", ErrNotWrapped, version)
	}
	return d.Keys, nil
}

func armor(ciphertext []byte) string {
	return armorPrefix + strconv.Itoa(version) + "." + encoding.EncodeToString(ciphertext)
}

// dearmor returns a text's ciphertext. White space around the text, as in
// files, is allowed.
func dearmor(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	if len(text) > maxWrapped {
		return nil, fmt.Errorf("kms: %w: it has more than %d bytes", ErrNotWrapped, maxWrapped)
	}
	rest, ok := strings.CutPrefix(text, armorPrefix)
	number, body, dot := strings.Cut(rest, ".")
	if !ok || !dot {
		return nil, fmt.Errorf("kms: %w: it does not begin with %s%d", ErrNotWrapped, armorPrefix, version)
	}
	n, err := strconv.Atoi(number)
	switch {
	case err != nil || strconv.Itoa(n) != number:
		return nil, fmt.Errorf("kms: %w: it has no version", ErrNotWrapped)
	case n != version:
		return nil, fmt.Errorf("kms: %w: %d", ErrVersion, n)
	case strings.ContainsAny(body, "\r\n"): // Go's decoder would skip it
		return nil, fmt.Errorf("kms: %w: it has a line break inside", ErrNotWrapped)
	}
	ciphertext, err := encoding.DecodeString(body)
	if err != nil || len(ciphertext) == 0 {
		return nil, fmt.Errorf("kms: %w: it is not base64, or was cut", ErrNotWrapped)
	}
	return ciphertext, nil
}

package testdb

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

// The leak test puts Canary into every secret and Control into a parameter that
// isn't secret. Finding Control shows that Canary would have been found.
const (
	Canary  = "LEAKCANARY7Q2"
	Control = "LEAKCONTROL9Z"
)

// canaryForms lists the forms in which the canary could appear.
func canaryForms() []string {
	return []string{
		Canary,
		strings.ToLower(Canary),
		hex.EncodeToString([]byte(Canary)),
		// The base64 characters that don't depend on the surrounding text.
		base64.StdEncoding.EncodeToString([]byte(Canary))[:16],
		base64.StdEncoding.EncodeToString([]byte("x" + Canary))[2:16],
		base64.StdEncoding.EncodeToString([]byte("xx" + Canary))[4:18],
	}
}

// FindCanary fails the test if a text contains the canary in any form.
func FindCanary(t *testing.T, where, text string) {
	t.Helper()
	for _, form := range canaryForms() {
		if i := strings.Index(text, form); i >= 0 {
			t.Errorf("%s: found %s in …%s…", where, form, text[max(0, i-200):min(len(text), i+40)])
		}
	}
}

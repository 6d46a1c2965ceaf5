package testdb

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

// Canary is in every secret of the leak test, and control in a parameter that
// is no secret: where control is found, canary would have been.
const (
	Canary  = "LEAKCANARY7Q2"
	Control = "LEAKCONTROL9Z"
)

// canaryForms are the ways in which the canary might show.
func canaryForms() []string {
	return []string{
		Canary,
		strings.ToLower(Canary),
		hex.EncodeToString([]byte(Canary)),
		// Those characters of its base64 that do not depend on what stands
		// around it.
		base64.StdEncoding.EncodeToString([]byte(Canary))[:16],
		base64.StdEncoding.EncodeToString([]byte("x" + Canary))[2:16],
		base64.StdEncoding.EncodeToString([]byte("xx" + Canary))[4:18],
	}
}

// FindCanary fails the test if a text has the canary in any form.
func FindCanary(t *testing.T, where, text string) {
	t.Helper()
	for _, form := range canaryForms() {
		if i := strings.Index(text, form); i >= 0 {
			t.Errorf("%s: found %s in …%s…", where, form, text[max(0, i-200):min(len(text), i+40)])
		}
	}
}

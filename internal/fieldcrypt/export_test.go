package fieldcrypt

import "testing"

// ResetDefault makes the default keyring be read from the environment again, now and after the test. Tests that call it
// cannot be parallel.
func ResetDefault(tb testing.TB) {
	tb.Helper()
	reset := func() {
		defaultRing.Lock()
		defer defaultRing.Unlock()
		defaultRing.ring = nil
	}
	reset()
	tb.Cleanup(reset)
}

// AppendEncrypt is Encrypt without an allocation.
func (r *Keyring) AppendEncrypt(dst []byte, plaintext string) []byte {
	return appendEncrypt(dst, r.Primary(), plaintext)
}

// AppendDecrypt is Decrypt without an allocation.
func (r *Keyring) AppendDecrypt(dst []byte, token string) ([]byte, error) {
	return appendDecrypt(dst, r.keys(), r.fitted, token)
}

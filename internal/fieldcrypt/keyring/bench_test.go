package keyring_test

import (
	"fmt"
	"strings"
	"testing"

	fernetgo "github.com/fernet/fernet-go"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// benchmarkKeys returns a keyring and the same keys for fernet-go.
func benchmarkKeys(b *testing.B, n int) (*keyring.Ring, []*fernetgo.Key) {
	b.Helper()
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fernet.GenerateKey()
	}
	keys, err := fernetgo.DecodeKeys(texts...)
	if err != nil {
		b.Fatal(err)
	}
	return ring(b, texts[0], texts[1:]...), keys
}

var benchmarkSizes = []int{24, 64, 1024} // in bytes; brokers' keys have 20 to 64

func BenchmarkEncrypt(b *testing.B) {
	r, keys := benchmarkKeys(b, 1)
	for _, size := range benchmarkSizes {
		text := strings.Repeat("x", size)
		run := func(engine string, encrypt func() error) {
			b.Run(fmt.Sprintf("size=%d/engine=%s", size, engine), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if err := encrypt(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		run("credent", func() error { _, err := r.Encrypt(text); return err })
		dst := make([]byte, 0, fernet.TokenLen(size))
		run("credent-append", func() (err error) { dst, err = r.AppendEncrypt(dst[:0], text); return err })
		run("fernet-go", func() error {
			token, err := fernetgo.EncryptAndSign([]byte(text), keys[0])
			_ = string(token)
			return err
		})
	}
}

// BenchmarkDecrypt decrypts tokens under the last key, as during a rotation.
func BenchmarkDecrypt(b *testing.B) {
	for _, n := range []int{1, 4} {
		r, keys := benchmarkKeys(b, n)
		for _, size := range benchmarkSizes {
			token, err := fernetgo.EncryptAndSign([]byte(strings.Repeat("x", size)), keys[n-1])
			if err != nil {
				b.Fatal(err)
			}
			text := string(token)
			run := func(engine string, decrypt func() bool) {
				b.Run(fmt.Sprintf("keys=%d/size=%d/engine=%s", n, size, engine), func(b *testing.B) {
					b.SetBytes(int64(size))
					b.ReportAllocs()
					for b.Loop() {
						if !decrypt() {
							b.Fatal("the token does not open")
						}
					}
				})
			}
			run("credent", func() bool { _, err := r.Decrypt(text); return err == nil })
			dst := make([]byte, 0, size)
			run("credent-append", func() bool { dst, err = r.AppendDecrypt(dst[:0], text); return err == nil })
			run("fernet-go", func() bool { return string(fernetgo.VerifyAndDecrypt([]byte(text), 0, keys)) != "" })
		}
	}
}

// BenchmarkParallel makes round trips on all processors, where garbage costs
// most.
func BenchmarkParallel(b *testing.B) {
	r, keys := benchmarkKeys(b, 1)
	text := strings.Repeat("x", 24)
	run := func(engine string, roundTrip func() bool) {
		b.Run("engine="+engine, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if !roundTrip() {
						b.Error("the token does not open")
					}
				}
			})
		})
	}
	run("credent", func() bool {
		token, err := r.Encrypt(text)
		if err != nil {
			return false
		}
		got, err := r.Decrypt(token)
		return err == nil && got == text
	})
	run("fernet-go", func() bool {
		token, err := fernetgo.EncryptAndSign([]byte(text), keys[0])
		return err == nil && string(fernetgo.VerifyAndDecrypt(token, 0, keys)) == text
	})
}

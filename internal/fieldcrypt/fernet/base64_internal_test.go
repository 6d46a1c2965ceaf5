package fernet

import (
	"bytes"
	"encoding/base64"
	"math/rand/v2"
	"strings"
	"testing"
)

// checkBase64 compares with the standard library, which also accepts line
// breaks.
func checkBase64(tb testing.TB, text string) {
	tb.Helper()
	want, err := base64.URLEncoding.Strict().DecodeString(text)
	wantOK := err == nil && len(text) > 0 && !strings.ContainsAny(text, "\r\n")
	// Bytes after room must stay as they are.
	buf := bytes.Repeat([]byte{0xa5}, len(text)/4*3+8)
	room := buf[: len(text)/4*3 : len(text)/4*3]
	n, ok := decodeBase64(room, text)
	if ok != wantOK || ok && !bytes.Equal(room[:n], want) {
		tb.Fatalf("%q: got %x, %t, want %x, %t", text, room[:n], ok, want, wantOK)
	}
	if !bytes.Equal(buf[len(room):], bytes.Repeat([]byte{0xa5}, 8)) {
		tb.Fatalf("%q: wrote beyond the room", text)
	}
}

func TestDecodeBase64(t *testing.T) {
	t.Parallel()
	// Every pair of bytes in every pair of positions of a group, in the only
	// group, the last group, and either group of a pair before the last.
	for _, frame := range []string{
		"gAAA", "AAAAgAAA", "AAAAAAAAgAAA", "gAAAAAAAAAAA", "AAAAgAAAAAAA",
		"AAAAAAAAAAAAgAAA",
	} {
		place := strings.IndexByte(frame, 'g')
		for _, pair := range [][2]int{{0, 1}, {1, 2}, {2, 3}, {0, 3}} {
			text := []byte(frame)
			for a := range 256 {
				for b := range 256 {
					text[place+pair[0]], text[place+pair[1]] = byte(a), byte(b)
					checkBase64(t, string(text))
				}
			}
		}
	}
	// Every length, and every character as padding or not.
	for size := range 200 {
		raw := make([]byte, size)
		for i := range raw {
			raw[i] = byte(rand.IntN(256))
		}
		text := base64.URLEncoding.EncodeToString(raw)
		for _, changed := range []string{
			text, strings.TrimRight(text, "="), text + "=", text + "====", "=" + text, text + "\n", text + "\r\n\r\n",
			"\n\n\n\n" + text, text + text, strings.ReplaceAll(text, "A", "+"),
		} {
			checkBase64(t, changed)
		}
	}
}

func BenchmarkBase64(b *testing.B) {
	text := base64.URLEncoding.EncodeToString(make([]byte, rawLen(24)))
	dst := make([]byte, len(text))
	b.Run("credent", func(b *testing.B) {
		for b.Loop() {
			if _, ok := decodeBase64(dst, text); !ok {
				b.Fatal("not decoded")
			}
		}
	})
	b.Run("standard library", func(b *testing.B) {
		for b.Loop() {
			if _, err := tokenEncoding.Decode(dst, []byte(text)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func FuzzBase64(f *testing.F) {
	for _, text := range []string{
		"", "A", "AA==", "AB==", "AAA=", "AAB=", "AAAA", "AA=A", "A===", "====",
		"gAAAAABm_-==", "AAAA\nAAA",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { checkBase64(t, text) })
}

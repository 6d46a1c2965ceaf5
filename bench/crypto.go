package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing" //nolint:depguard // AllocsPerRun counts an operation's allocations

	"github.com/fernet/fernet-go"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/credent-go/credent/keyring"
)

// Names of the engines.
const (
	engineCredent    = "Credent"
	engineAppend     = "Credent, append"
	engineFernet     = "fernet-go"
	enginePrimitives = "bare primitives"
	engineGCM        = "AES-128-GCM"
	engineTink       = "Tink AES-128-GCM"
)

var engines = []string{engineCredent, engineAppend, engineFernet, enginePrimitives, engineGCM, engineTink}

// cryptoSizes are plaintext sizes in bytes: brokers' keys have 20 to 64.
var cryptoSizes = []int{24, 64, 1024}

func encryptGroup(size int) string { return fmt.Sprintf("encrypt %d B", size) }

func decryptGroup(size, keys int) string {
	if keys == 1 {
		return fmt.Sprintf("decrypt %d B", size)
	}
	return fmt.Sprintf("decrypt %d B, last of %d keys", size, keys)
}

func coresGroup(cores int) string { return fmt.Sprintf("round trip 24 B, cores: %d", cores) }

// manyKeys is the number of keys in the ring when old keys were never removed.
const manyKeys = 4

// cryptoBench has the keys, shared by all engines that take Fernet keys.
type cryptoBench struct {
	rings      map[int]*keyring.Keyring
	fernet     map[int][]*fernet.Key
	primitives *primitives
	gcm        cipher.AEAD
	tink       tink.AEAD
	allocs     map[key]float64
	measures   []measure
}

func newCryptoBench() (*cryptoBench, error) {
	b := &cryptoBench{
		rings:  make(map[int]*keyring.Keyring),
		fernet: make(map[int][]*fernet.Key),
		allocs: make(map[key]float64),
	}
	texts := make([]string, manyKeys)
	for i := range texts {
		texts[i] = keyring.GenerateKey()
	}
	for _, n := range []int{1, manyKeys} {
		var err error
		if b.rings[n], err = keyring.New(texts[0], texts[1:n]...); err != nil {
			return nil, err
		}
		if b.fernet[n], err = fernet.DecodeKeys(texts[:n]...); err != nil {
			return nil, err
		}
	}
	var err error
	if b.primitives, err = newPrimitives(b.fernet[1][0]); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(b.fernet[1][0][:16])
	if err != nil {
		return nil, err
	}
	if b.gcm, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	handle, err := keyset.NewHandle(aead.AES128GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	b.tink, err = aead.New(handle)
	return b, err
}

// sink keeps results alive, as a caller would.
var sink struct {
	text  string
	bytes []byte
}

// add adds a measure of one operation, repeated to take about the given time in
// each round.
func (b *cryptoBench) add(cfg config, group, name string, op func() error) error {
	repeated := func(n int) error {
		for range n {
			if err := op(); err != nil {
				return err
			}
		}
		return nil
	}
	m := measure{group: group, name: name, n: 200, run: repeated}
	var perOp float64
	for range 3 {
		took, err := m.time(m.n)
		if err != nil {
			return err
		}
		perOp = float64(took.Nanoseconds()) / float64(m.n)
	}
	m.n = max(200, int(float64(cfg.cryptoTime.Nanoseconds())/perOp))
	b.measures = append(b.measures, m)
	b.allocs[key{group, name}] = testing.AllocsPerRun(200, func() { _ = op() })
	return nil
}

// runCrypto measures the engines alone, without a database, on one core and on
// two.
func runCrypto(cfg config, s series) (*cryptoBench, error) {
	b, err := newCryptoBench()
	if err != nil {
		return nil, err
	}
	// Use one core, so that the collector can't work for free on the other.
	procs := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(procs)
	for _, size := range cryptoSizes {
		text := strings.Repeat("k", size)
		if err := b.addEncrypt(cfg, text); err != nil {
			return nil, err
		}
		for _, keys := range []int{1, manyKeys} {
			if err := b.addDecrypt(cfg, text, keys); err != nil {
				return nil, err
			}
		}
	}
	if err := rounds(cfg.cryptoRounds, b.measures, s); err != nil {
		return nil, err
	}
	for _, cores := range []int{1, 2} {
		if cores > runtime.NumCPU() {
			continue
		}
		runtime.GOMAXPROCS(cores)
		if err := rounds(cfg.cryptoRounds, b.parallel(cfg, cores), s); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *cryptoBench) addEncrypt(cfg config, text string) error {
	group := encryptGroup(len(text))
	ring, plaintext := b.rings[1], []byte(text)
	dst := make([]byte, 0, 4*len(text)+256)
	for _, m := range []struct {
		name string
		op   func() error
	}{
		{engineCredent, func() (err error) { sink.text, err = ring.Encrypt(text); return err }},
		{engineAppend, func() (err error) { dst, err = ring.AppendEncrypt(dst[:0], text); return err }},
		{engineFernet, func() error {
			token, err := fernet.EncryptAndSign(plaintext, b.fernet[1][0])
			sink.text = string(token)
			return err
		}},
		{enginePrimitives, func() error { sink.bytes = b.primitives.encrypt(text); return nil }},
		{engineGCM, func() error { sink.bytes = b.sealGCM(plaintext); return nil }},
		{engineTink, func() (err error) { sink.bytes, err = b.tink.Encrypt(plaintext, nil); return err }},
	} {
		if err := b.add(cfg, group, m.name, m.op); err != nil {
			return err
		}
	}
	return nil
}

// sealGCM encrypts with a random nonce, prepended to the ciphertext.
func (b *cryptoBench) sealGCM(plaintext []byte) []byte {
	nonce := make([]byte, b.gcm.NonceSize(), b.gcm.NonceSize()+len(plaintext)+b.gcm.Overhead())
	_, _ = rand.Read(nonce)
	return b.gcm.Seal(nonce, nonce, plaintext, nil)
}

// addDecrypt uses a token of the last key, as during a rotation. Engines
// without a ring of Fernet keys run once.
func (b *cryptoBench) addDecrypt(cfg config, text string, keys int) error {
	group := decryptGroup(len(text), keys)
	ring := b.rings[keys]
	stored, err := fernet.EncryptAndSign([]byte(text), b.fernet[keys][keys-1])
	if err != nil {
		return err
	}
	token := string(stored)
	dst := make([]byte, 0, len(text)+64)
	same := func(got string) error {
		if got != text {
			return fmt.Errorf("got %d bytes that differ from the plaintext", len(got))
		}
		return nil
	}
	ops := map[string]func() error{
		engineCredent: func() error {
			got, err := ring.Decrypt(token)
			if err != nil {
				return err
			}
			return same(got)
		},
		engineAppend: func() (err error) { dst, err = ring.AppendDecrypt(dst[:0], token); return err },
		engineFernet: func() error {
			return same(string(fernet.VerifyAndDecrypt([]byte(token), 0, b.fernet[keys])))
		},
	}
	if keys == 1 {
		if err := b.peerDecrypts(text, token, same, ops); err != nil {
			return err
		}
	}
	for _, name := range engines {
		if op := ops[name]; op != nil {
			if err := b.add(cfg, group, name, op); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *cryptoBench) peerDecrypts(text, token string, same func(string) error, ops map[string]func() error) error {
	sealed := b.sealGCM([]byte(text))
	tinkSealed, err := b.tink.Encrypt([]byte(text), nil)
	if err != nil {
		return err
	}
	ops[enginePrimitives] = func() error {
		got, err := b.primitives.decrypt(token)
		sink.bytes = got
		return err
	}
	ops[engineGCM] = func() error {
		n := b.gcm.NonceSize()
		got, err := b.gcm.Open(nil, sealed[:n], sealed[n:], nil)
		if err != nil {
			return err
		}
		return same(string(got))
	}
	ops[engineTink] = func() error {
		got, err := b.tink.Decrypt(tinkSealed, nil)
		if err != nil {
			return err
		}
		return same(string(got))
	}
	return nil
}

// parallel runs round trips on the given number of cores, where garbage costs
// most.
func (b *cryptoBench) parallel(cfg config, cores int) []measure {
	const text = "PK-AS-LONG-AS-A-BROKER'S"
	spread := func(op func() error) func(n int) error {
		return func(n int) error {
			var workers sync.WaitGroup
			failed := make(chan error, cores)
			for range cores {
				workers.Go(func() {
					for range n / cores {
						if err := op(); err != nil {
							failed <- err
							return
						}
					}
				})
			}
			workers.Wait()
			close(failed)
			return <-failed
		}
	}
	ring, keys := b.rings[1], b.fernet[1]
	n := max(200, int(cfg.cryptoTime.Microseconds())) // a microsecond each
	return []measure{
		{group: coresGroup(cores), name: engineCredent, n: n, run: spread(func() error {
			token, err := ring.Encrypt(text)
			if err != nil {
				return err
			}
			_, err = ring.Decrypt(token)
			return err
		})},
		{group: coresGroup(cores), name: engineFernet, n: n, run: spread(func() error {
			token, err := fernet.EncryptAndSign([]byte(text), keys[0])
			if err != nil {
				return err
			}
			if fernet.VerifyAndDecrypt(token, 0, keys) == nil {
				return fmt.Errorf("the token doesn't open")
			}
			return nil
		})},
	}
}

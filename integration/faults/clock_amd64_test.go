//go:build linux

package faults

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/rotate"
)

// envClock makes the command credent run with a stepping clock.
const envClock = "CREDENT_TEST_CLOCK"

// clockScenarios are the clock scenarios for this architecture.
var clockScenarios = []scenario{{"clock steps by hours", 4 * time.Minute, clockSteps}}

// errClock is why the clock can't be stepped.
var errClock error

// prepareClock makes the wall clock steppable before anything else reads it. If
// envClock is set, the command's clock steps from now on.
func prepareClock() {
	errClock = patchClock()
	if os.Getenv(envClock) == "" {
		return
	}
	if errClock != nil {
		fmt.Fprintln(os.Stderr, errClock)
		os.Exit(3)
	}
	go func() {
		for hours := time.Duration(5); ; hours = -hours {
			time.Sleep(7 * time.Millisecond)
			stepClock(hours * time.Hour)
		}
	}()
}

// clockOffset is added to the wall clock's seconds once it's patched.
var clockOffset atomic.Int64

// stepClock sets this process's wall clock to an offset from the machine's.
func stepClock(offset time.Duration) { clockOffset.Store(int64(offset / time.Second)) }

// patchClock makes this process's wall clock steppable, and leaves its
// monotonic clock and the machine alone. Go's runtime asks a function that the
// kernel maps into each process for the time. patchClock replaces it with one
// that asks the kernel and adds the offset.
func patchClock() error {
	base, image, err := mappedClock()
	if err != nil {
		return err
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return fmt.Errorf("the clock's image: %w", err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return fmt.Errorf("the clock's image: %w", err)
	}
	for _, s := range symbols {
		if s.Name != "__vdso_clock_gettime" {
			continue
		}
		// Its arguments are the clock in EDI, 0 for the wall clock, and the
		// address for seconds and nanoseconds in RSI.
		code := []byte{
			0xb8, 228, 0, 0, 0, // mov eax, SYS_clock_gettime
			0x0f, 0x05, // syscall
			0x85, 0xff, // test edi, edi
			0x75, 16, // jnz to the end
			0x48, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, // mov rcx, &clockOffset
			0x48, 0x8b, 0x09, // mov rcx, [rcx]
			0x48, 0x01, 0x0e, // add [rsi], rcx
			0xc3, // ret
		}
		binary.LittleEndian.PutUint64(code[13:], uint64(uintptr(unsafe.Pointer(&clockOffset))))
		return writeCode(base+int64(s.Value), code)
	}
	return errors.New("the kernel's image has no clock")
}

// ownMemory is this process's memory as a file.
const ownMemory = "/proc/self/mem"

// writeCode replaces the code at an address.
func writeCode(at int64, code []byte) error {
	memory, err := os.OpenFile(ownMemory, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = memory.WriteAt(code, at)
	return errors.Join(err, memory.Close())
}

// mappedClock returns the address of the kernel's image, and a copy.
func mappedClock() (base int64, image []byte, err error) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0, nil, err
	}
	memory, err := os.Open(ownMemory)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = memory.Close() }()
	for line := range strings.Lines(string(maps)) {
		var to int64
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x", &base, &to); err != nil {
			return 0, nil, err
		}
		image = make([]byte, to-base)
		_, err := memory.ReadAt(image, base)
		return base, image, err
	}
	return 0, nil, errors.New("the kernel maps no clock into this process")
}

// clockSteps steps the wall clock by hours in both directions, under a service
// and under every command. Tokens from the future and the past open, and a
// destroyed key is forgotten in time.
func clockSteps(tr *trial) {
	_, databaseURL := startServer(tr)
	w := newWorld(tr, databaseURL)
	v := newVault(w, 20, 10)
	w.service(3, "pgx", databaseURL)
	w.service(3, "pq", databaseURL)
	tr.must(errClock)
	defer stepClock(0)
	before := time.Now()
	stepClock(5 * time.Hour)
	if wall := time.Now().Round(0).Sub(before.Round(0)); wall < 4*time.Hour || time.Since(before) > time.Hour {
		tr.Fatalf("the wall clock was stepped by %s, and the monotonic one by %s", wall, time.Since(before))
	}
	rounds := tr.pick(6, 40)
	w.start()
	for i := range rounds {
		stepClock([]time.Duration{5, -5, 0, -48, 48}[i%5] * time.Hour)
		w.await(5)
	}
	w.pause()
	stepClock(0)
	w.check()
	v.newKey()
	for _, args := range [][]string{
		{"rotate", "--batch", "20"},
		{"verify"},
		{"credential", "export", "--reveal"},
		{"doctor"},
		{"state", "set", "user_credentials.secret_key", "binding", "accept"},
		{"tenant", "destroy", v.users[0], "--yes"},
	} {
		tr.Setenv(envClock, "1")
		v.finish(args...)
		tr.Setenv(envClock, "")
	}
	v.gone[v.users[0]] = true
	v.check()
	if tr.full {
		v.forgets(v.users[1])
	}
	tr.notef("%d steps of 5 to 96 hours under a service, and one every 7 ms under 6 commands", rounds)
	w.close()
}

// forgets checks that a client forgets a destroyed key within the key's
// lifetime, even if the clock steps back after the client has read it.
func (v *vault) forgets(user string) {
	v.Helper()
	db := v.pool("pgx", v.url, applicationName)
	service := v.credentials(db)
	defer func() { _ = service.Close() }()
	rows, err := service.UserCredential.Query().All(v.ctx)
	v.must(err)
	began := time.Now()
	stepClock(-5 * time.Hour)
	_, err = rotate.DestroyTenant(v.ctx, db, v.ring, user)
	v.must(err)
	v.gone[user] = true
	if !eventually(client.TenantKeyLifetime+stuckAfter, func() bool {
		for _, row := range rows {
			if _, err := row.APIKey.Reveal(); row.UserID == user && err == nil {
				return false
			}
		}
		return true
	}) {
		v.found(&v.wrong, "%s after a key was destroyed a service still has it", time.Since(began))
	}
	v.operations.Add(1)
	stepClock(0)
	v.check()
}

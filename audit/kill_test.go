package audit_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/keyring"
)

// revealsEnv is the number of reveals that TestKilled makes; a million takes
// minutes.
const revealsEnv = "CREDENT_AUDIT_REVEALS"

// childEnv makes the test binary reveal until it is killed. It contains,
// separated by spaces: driver, dialect, mode, workers, reveals per worker,
// directory, and database.
const childEnv = "CREDENT_AUDIT_CHILD"

const childKey = "CREDENT_AUDIT_CHILD_KEY"

// killed is the configuration shared by a test and its processes. Each worker
// keeps a file with the time at which each Add of a reveal returned, in 8
// bytes. The file flushed has the time before which all entries are written.
type killed struct {
	driver, dialect string
	mode            audit.Mode
	workers, each   int
	dir, name       string

	before []int // reveals acknowledged to earlier processes, by worker
}

func (k *killed) String() string {
	return fmt.Sprint(k.driver, " ", k.dialect, " ", int(k.mode), " ", k.workers, " ", k.each, " ", k.dir, " ", k.name)
}

func (k *killed) file(worker int) string { return filepath.Join(k.dir, strconv.Itoa(worker)) }

// child runs in the process to be killed. Each worker continues after the
// reveals acknowledged to an earlier process.
func child() int {
	k, err := parseKilled(os.Getenv(childEnv))
	if err == nil {
		err = k.reveal()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func parseKilled(text string) (*killed, error) {
	words := strings.SplitN(text, " ", 7)
	var numbers [3]int
	for i := range numbers {
		var err error
		if numbers[i], err = strconv.Atoi(words[2+i]); err != nil {
			return nil, err
		}
	}
	return &killed{
		driver: words[0], dialect: words[1], mode: audit.Mode(numbers[0]), workers: numbers[1], each: numbers[2],
		dir: words[5], name: words[6],
	}, nil
}

func (k *killed) reveal() error {
	ctx := context.Background()
	ring, err := keyring.New(os.Getenv(childKey))
	if err != nil {
		return err
	}
	db, err := sql.Open(k.driver, k.name)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	trail, err := audit.Open(ctx, db, k.dialect, audit.Config{
		Keyring: ring, Mode: k.mode, Flush: 50 * time.Millisecond, Queue: 2000,
	})
	if err != nil {
		return err
	}
	var (
		wg    sync.WaitGroup
		acked atomic.Int64
		errs  = make(chan error, k.workers)
	)
	for worker := range k.workers {
		wg.Go(func() { errs <- k.work(ctx, trail, worker, &acked) })
	}
	stop := make(chan struct{})
	flushed := make(chan error, 1)
	go func() { flushed <- k.flush(ctx, trail, &acked, stop) }()
	wg.Wait()
	close(stop)
	close(errs)
	err = <-flushed
	for e := range errs {
		err = errors.Join(err, e)
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	fmt.Println("memory", stats.Sys)
	return errors.Join(err, trail.Close(ctx))
}

// work makes reveals, and records when each one was acknowledged.
func (k *killed) work(ctx context.Context, trail *audit.Trail, worker int, acked *atomic.Int64) error {
	f, err := os.OpenFile(k.file(worker), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	for i := int(info.Size() / 8); i < k.each; i++ {
		if err := trail.Add(ctx, reveal(rowName(worker, i))); err != nil {
			return err
		}
		if _, err := f.Write(binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixNano()))); err != nil {
			return err
		}
		acked.Add(1)
	}
	return nil
}

// flush repeatedly flushes, records the time before which everything is
// written, and tells the test how many reveals are.
func (k *killed) flush(ctx context.Context, trail *audit.Trail, acked *atomic.Int64, stop chan struct{}) error {
	for {
		n, now := acked.Load(), time.Now().UnixNano()
		if err := trail.Flush(ctx); err != nil {
			return err
		}
		if err := os.WriteFile(k.file(-2), binary.BigEndian.AppendUint64(nil, uint64(now)), 0o600); err != nil {
			return err
		}
		if err := os.Rename(k.file(-2), k.file(-1)); err != nil {
			return err
		}
		fmt.Println("flushed", n)
		select {
		case <-stop:
			return nil
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// run runs a process to its end, or kills it once the given number of reveals
// is written, while its workers continue.
func (k *killed) run(t *testing.T, key string, killAt int) (memory uint64) {
	t.Helper()
	of := *k
	if killAt > 0 {
		of.each = math.MaxInt32
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+of.String(), childKey+"="+key)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	do(t, err)
	do(t, cmd.Start())
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		word, number, _ := strings.Cut(scanner.Text(), " ")
		n, err := strconv.ParseUint(number, 10, 64)
		switch {
		case word == "memory":
			do(t, err)
			memory = n
		case word == "flushed" && killAt > 0 && n >= uint64(killAt):
			do(t, cmd.Process.Kill())
			killAt = -1
		}
	}
	if err := cmd.Wait(); killAt > 0 || (err != nil) != (killAt < 0) {
		t.Errorf("a process to be killed after %d reveals: %v", killAt, err)
	}
	return memory
}

// told returns the promised reveals among those acknowledged to the last
// process: all of them in Sync mode or after Close, and otherwise those before
// the last flush.
func (k *killed) told(t *testing.T, closed bool) (rows []string) {
	t.Helper()
	flushed := int64(0)
	if data, err := os.ReadFile(k.file(-1)); err == nil {
		flushed = int64(binary.BigEndian.Uint64(data))
		do(t, os.Remove(k.file(-1)))
	}
	if k.before == nil {
		k.before = make([]int, k.workers)
	}
	for worker := range k.workers {
		data, err := os.ReadFile(k.file(worker))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for i := k.before[worker]; i < len(data)/8; i++ {
			if closed || int64(binary.BigEndian.Uint64(data[8*i:])) < flushed {
				rows = append(rows, rowName(worker, i))
			}
		}
		k.before[worker] = len(data) / 8
	}
	return rows
}

// TestKilled kills a process twice while 16 goroutines reveal, and looks for
// each promised reveal.
func TestKilled(t *testing.T) {
	t.Parallel()
	total := 12_000 // fills six queues
	if n, err := strconv.Atoi(os.Getenv(revealsEnv)); err == nil {
		total = n
	}
	for name, mode := range map[string]audit.Mode{"batched": audit.Batched, "sync": audit.Sync} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, db database) { testKilled(t, db, mode, total) })
		})
	}
}

func testKilled(t *testing.T, db database, mode audit.Mode, total int) {
	t.Helper()
	const (
		workers = 16
		mebi    = 1 << 20
	)
	if mode == audit.Sync && db.dialect == dialect.SQLite {
		total /= 4 // each commit waits for the disk
	}
	k := &killed{
		driver: db.driver, dialect: db.dialect, mode: mode, workers: workers, each: total / workers, dir: t.TempDir(),
		name: db.name,
	}
	key := keyring.GenerateKey()
	promised := make(map[string]bool)
	for killAt := range 2 { // after a third of the total, and after another quarter
		k.run(t, key, total/(3+killAt))
		for _, row := range k.told(t, mode == audit.Sync) {
			promised[row] = true
		}
	}
	killedAt := len(promised)
	memory := k.run(t, key, 0)
	for _, row := range k.told(t, true) {
		promised[row] = true
	}
	all := 0
	for _, n := range k.before {
		all += n
	}
	if all < total/workers*workers || killedAt < total/2 || memory > 200*mebi {
		t.Errorf("%d reveals, %d promised before the second kill, %d bytes", all, killedAt, memory)
	}
	t.Logf("%d of %d reveals were promised, %d of them of the processes that were killed; the last took %d MiB",
		len(promised), all, killedAt, memory/mebi)
	for _, s := range list(t, db, audit.Filter{Action: audit.ActionReveal}) {
		delete(promised, s.Row)
	}
	if len(promised) > 0 {
		t.Errorf("%d promised reveals are not in the trail", len(promised))
	}
	if report := sound(t, db, newRing(t, key)); report.Open != 2 || report.Writers != 3 {
		t.Errorf("got %+v", report)
	}
}

// TestTwoProcesses lets two processes write at the same time.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db database) {
		key := keyring.GenerateKey()
		var wg sync.WaitGroup
		for range 2 {
			k := &killed{driver: db.driver, dialect: db.dialect, workers: 4, each: 500, dir: t.TempDir(), name: db.name}
			wg.Go(func() { k.run(t, key, 0) })
		}
		wg.Wait()
		if got := len(list(t, db, audit.Filter{})); got != 4000 {
			t.Errorf("got %d of 4,000 entries", got)
		}
		if report := sound(t, db, newRing(t, key)); report.Open != 0 || report.Writers != 2 {
			t.Errorf("got %+v", report)
		}
	})
}

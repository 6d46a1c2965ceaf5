//go:build linux

package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/integration/sequence/ent"
	"github.com/credent-go/credent/integration/sequence/ent/card"
	"github.com/credent-go/credent/internal/testdb"
)

const (
	operationLimit = 5 * time.Second  // the deadline of each operation
	stuckAfter     = 15 * time.Second // of an operation, on a busy machine
	recoverLimit   = time.Minute      // for writers to recover after a fault
	retryAfter     = 20 * time.Millisecond
)

// text is the plaintext of a row's secrets: their owner, their row, and the
// write that stored them.
type text struct {
	owner, name string
	serial      int
}

func (t text) pin() string   { return fmt.Sprintf("pin/%s/%s/%d", t.owner, t.name, t.serial) }
func (t text) email() string { return fmt.Sprintf("mail/%s/%s/%d", t.owner, t.name, t.serial) }

// entry is a row that only one writer changes.
type entry struct {
	owner, name string
	tried       []int // serials of all writes, in order
	acked       int   // the last acknowledged one; 0 for none
	epoch       int64 // the epoch in which that write began
	doubt       bool  // a later write failed and may be stored
	checked     bool  // since the last write
}

func (e *entry) text() text { return text{e.owner, e.name, e.acked} }

// writer is a goroutine of a service.
type writer struct {
	w       *world
	number  int
	driver  string
	client  *ent.Client
	random  *rand.Rand
	rows    []*entry // all
	usable  []*entry // those without doubt
	owners  []string
	serial  int
	since   atomic.Int64 // when the current operation began, in Unix nanoseconds; 0 for none
	done    atomic.Int64 // operations and reads
	lastErr atomic.Pointer[error]

	last    time.Time     // when the last operation was done; zero after a start
	longest time.Duration // the longest time between two
}

func newWriter(w *world, number int, driver string, client *ent.Client) *writer {
	random := rand.New(rand.NewPCG(uint64(number), 1))
	return &writer{w: w, number: number, driver: driver, client: client, random: random}
}

func (r *writer) lastError() error {
	if err := r.lastErr.Load(); err != nil {
		return *err
	}
	return nil
}

// work runs operations until the context ends, and completes the last one. The
// short form of the suite leaves time for other tests.
func (r *writer) work(ctx context.Context) {
	r.last = time.Time{}
	for ctx.Err() == nil {
		if !r.w.full {
			testdb.Pace()
		}
		if err := r.step(); err != nil {
			r.lastErr.Store(&err)
			select {
			case <-ctx.Done():
			case <-time.After(retryAfter):
			}
		}
	}
}

// step runs an operation and counts its result.
func (r *writer) step() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.w.ctx), operationLimit)
	defer cancel()
	began := time.Now()
	r.since.Store(began.UnixNano())
	defer r.since.Store(0)
	var (
		rows  int64
		count = &r.w.operations
		err   error
	)
	switch n := r.random.IntN(10); {
	case n < 2 || len(r.usable) == 0:
		rows, err = r.create(ctx, 1)
	case n < 3:
		rows, err = r.create(ctx, 3)
	case n < 5:
		rows, err = r.change(ctx, r.update)
	case n < 7:
		rows, err = r.change(ctx, r.upsert)
	default:
		count = &r.w.reads
		rows, err = r.lookUp(ctx)
	}
	if took := time.Since(began); took > stuckAfter {
		r.w.found(&r.w.stuck, "an operation over %s took %s", r.driver, took.Round(time.Second))
	}
	if err != nil {
		r.w.failed.Add(1)
		if !isTransient(err) {
			r.w.found(&r.w.wrong, "over %s: %v", r.driver, err)
		}
		return err
	}
	count.Add(rows)
	r.done.Add(1)
	if !r.last.IsZero() {
		r.longest = max(r.longest, time.Since(r.last))
	}
	r.last = time.Now()
	return nil
}

// owner returns a known tenant, or a new one that gets a key with its first
// secret.
func (r *writer) owner() string {
	if len(r.owners) == 0 || r.random.IntN(3) == 0 {
		r.owners = append(r.owners, fmt.Sprintf("owner-%d-%d", r.number, len(r.owners)+1))
		return r.owners[len(r.owners)-1]
	}
	return r.owners[r.random.IntN(len(r.owners))]
}

// begin records that a write of a row is about to be sent.
func (r *writer) begin(e *entry) text {
	r.serial++
	e.tried, e.checked = append(e.tried, r.serial), false
	return text{e.owner, e.name, r.serial}
}

// end records its result.
func (r *writer) end(e *entry, epoch int64, err error) {
	if err != nil {
		e.doubt = true
		return
	}
	e.acked, e.epoch = e.tried[len(e.tried)-1], epoch
}

func (r *writer) builder(t text) *ent.CardCreate {
	return r.client.Card.Create().SetName(t.name).SetOwnerID(t.owner).
		SetPin(encrypted.New(t.pin())).SetEmail(encrypted.New(t.email()))
}

// create stores new rows in one statement.
func (r *writer) create(ctx context.Context, n int) (rows int64, err error) {
	epoch := r.w.epoch.Load()
	var (
		fresh    []*entry
		builders []*ent.CardCreate
	)
	for range n {
		e := &entry{owner: r.owner(), name: fmt.Sprintf("card-%d-%d", r.number, len(r.rows)+1)}
		r.rows, fresh = append(r.rows, e), append(fresh, e)
		builders = append(builders, r.builder(r.begin(e)))
	}
	if n == 1 {
		err = builders[0].Exec(ctx)
	} else {
		err = r.client.Card.CreateBulk(builders...).Exec(ctx)
	}
	for _, e := range fresh {
		if r.end(e, epoch, err); err == nil {
			r.usable = append(r.usable, e)
		}
	}
	return int64(n), err
}

var errGone = errors.New("the row is missing")

// change writes an existing row. After an error it's unknown which value is
// stored, so the row isn't written again.
func (r *writer) change(ctx context.Context, write func(context.Context, *entry, text) error) (int64, error) {
	i, epoch := r.random.IntN(len(r.usable)), r.w.epoch.Load()
	e := r.usable[i]
	err := write(ctx, e, r.begin(e))
	if errors.Is(err, errGone) && !r.w.unsettled.Load() {
		r.w.found(&r.w.lost, "%s is not there, and was acknowledged", e.name)
	}
	if r.end(e, epoch, err); err != nil {
		r.usable[i] = r.usable[len(r.usable)-1]
		r.usable = r.usable[:len(r.usable)-1]
	}
	return 1, err
}

func (r *writer) update(ctx context.Context, e *entry, t text) error {
	n, err := r.client.Card.Update().Where(card.Name(e.name)).
		SetPin(encrypted.New(t.pin())).SetEmail(encrypted.New(t.email())).Save(ctx)
	if err == nil && n == 0 {
		err = errGone
	}
	return err
}

func (r *writer) upsert(ctx context.Context, _ *entry, t text) error {
	return r.builder(t).OnConflictColumns(card.FieldName).UpdateNewValues().Exec(ctx)
}

// lookUp finds a row by the digest of one of its secrets, and opens both.
func (r *writer) lookUp(ctx context.Context) (int64, error) {
	e := r.usable[r.random.IntN(len(r.usable))]
	where := card.PinIs(e.owner, encrypted.New(e.text().pin()))
	if r.random.IntN(2) == 0 {
		where = card.EmailIs(encrypted.New(e.text().email()))
	}
	found, err := r.client.Card.Query().Where(where).All(ctx)
	if err != nil {
		return 0, err
	}
	// The check finds writes that an asynchronous primary lost.
	if len(found) == 0 && r.w.unsettled.Load() {
		return 1, nil
	}
	if len(found) != 1 || found[0].Name != e.name {
		r.w.found(&r.w.wrong, "a lookup of %s over %s finds %d rows", e.name, r.driver, len(found))
		return 1, nil
	}
	got, err := r.w.read(found[0])
	if err == nil && got != e.acked {
		r.w.found(&r.w.wrong, "a lookup of %s finds another value than it asked for", e.name)
	}
	return 1, err
}

// read opens a row's secrets and returns the write that stored them. It counts
// secrets of another row or owner.
func (w *world) read(row *ent.Card) (serial int, err error) {
	pin, err := row.Pin.Reveal()
	if err != nil {
		return 0, err
	}
	email, err := row.Email.Reveal()
	if err != nil {
		return 0, err
	}
	parts := strings.Split(pin, "/")
	if len(parts) == 4 {
		serial, _ = strconv.Atoi(parts[3]) // 0 is no write
	}
	if serial == 0 || parts[0] != "pin" {
		w.found(&w.wrong, "the pin of %s is something else", row.Name)
		return 0, nil
	}
	switch t := (text{row.OwnerID, row.Name, serial}); {
	case parts[1] != row.OwnerID:
		w.found(&w.foreign, "%s of %s has a pin of %s", row.Name, row.OwnerID, parts[1])
	case pin != t.pin() || email != t.email():
		w.found(&w.wrong, "%s has secrets of two writes, or of another row", row.Name)
	}
	return serial, nil
}

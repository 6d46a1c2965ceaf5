package audit_test

import (
	"strconv"
	"testing"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/audit"
)

// BenchmarkAdd is what a reveal waits for, with two columns in turn as a list
// has them.
func BenchmarkAdd(b *testing.B) {
	rows := make([]string, 10_000)
	for i := range rows {
		rows[i] = "0b5f2c1e-8d5c-4a49-9d52-" + strconv.Itoa(100_000_000_000+i)
	}
	db := newPostgres(b, "pgx")
	trail, err := audit.Open(b.Context(), db.DB, dialect.Postgres, audit.Config{Keyring: newRing(b)})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		e := reveal(rows[n/2%len(rows)])
		if n++; n%2 == 0 {
			e.Column = "secret_key"
		}
		if err := trail.Add(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := trail.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}

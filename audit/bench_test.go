package audit_test

import (
	"testing"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"

	"github.com/credent-go/credent/audit"
)

// BenchmarkReveals measures how long a reveal waits, with two alternating
// columns as in a list.
func BenchmarkReveals(b *testing.B) {
	rows := make([]any, 10_000)
	for i := range rows {
		rows[i] = uuid.New()
	}
	db := newPostgres(b, "pgx")
	trail, err := audit.Open(b.Context(), db.DB, dialect.Postgres, audit.Config{Keyring: newRing(b)})
	if err != nil {
		b.Fatal(err)
	}
	other := reveal("")
	other.Column = "secret_key"
	columns := []*audit.Reveals{trail.Reveals(reveal("")), trail.Reveals(other)}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if err := columns[n%2].Add(b.Context(), rows[n/2%len(rows)]); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.StopTimer()
	if err := trail.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}

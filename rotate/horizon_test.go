package rotate_test

import (
	"database/sql"
	"testing"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/rotate"
)

// Rows that enter a table by attaching a partition are read, although no
// transaction has written them since the last run.
func TestAttachedRowsAreRead(t *testing.T) {
	t.Parallel()
	old, key := fernet.GenerateKey(), fernet.GenerateKey()
	token, err := newRing(t, old).Encrypt("x")
	if err != nil {
		t.Fatal(err)
	}
	// A separate server, because other databases' transactions would hold the
	// horizon back.
	url := pgserver.DatabaseForTest(t)
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, statement := range append([]string{
		"CREATE TABLE t_bigint (number bigint PRIMARY KEY, secret varchar(500)) PARTITION BY RANGE (number)",
		"CREATE TABLE low PARTITION OF t_bigint FOR VALUES FROM (0) TO (10)",
		"CREATE TABLE high (LIKE t_bigint INCLUDING ALL)",
		"INSERT INTO high VALUES (11, '" + token + "')",
		"INSERT INTO t_bigint VALUES (1, '" + token + "')",
	}, encrypted.ProgressTable("postgres")...) {
		exec(t, db, statement)
	}
	run := func(want int64) rotate.TableReport {
		t.Helper()
		report, err := rotate.Run(t.Context(), db, newRing(t, key, old),
			rotate.Config{Columns: []string{"t_bigint.secret"}})
		if err != nil || report.Rewritten() != want {
			t.Fatalf("%+v, %v", report, err)
		}
		return report.Tables[0]
	}
	run(1)
	if again := run(0); again.Rows != 0 || again.ChangedSince.IsZero() {
		t.Errorf("nothing to do: %+v", again)
	}
	exec(t, db, "ALTER TABLE t_bigint ATTACH PARTITION high FOR VALUES FROM (10) TO (20)")
	if attached := run(1); !attached.ChangedSince.IsZero() {
		t.Errorf("attached: %+v", attached)
	}
	if again := run(0); again.Rows != 0 || again.ChangedSince.IsZero() {
		t.Errorf("nothing to do: %+v", again)
	}
}

// Command share measures rotate and verify on one table: a run alone, two
// processes at once, a run that was stopped, one with nothing to do, and the
// bare UPDATE of the same rows.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"iter"
	"log"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/rotate"
)

// envKeys has the keys of a child, the primary one first.
const envKeys = "CREDENT_SHARE_KEYS"

func main() {
	log.SetFlags(0)
	log.SetPrefix("share: ")
	rows := flag.Int("rows", 1_000_000, "rows of the table")
	rounds := flag.Int("rounds", 3, "how often each is measured")
	workers := flag.Int("workers", 0, "workers of each process; 0 means the default")
	url := flag.String("url", "", "rotate this database and end, for children")
	flag.Parse()
	ctx := context.Background()
	if *url != "" {
		if err := child(ctx, *url, *workers); err != nil {
			log.Fatal(err)
		}
		return
	}
	if err := run(ctx, *rows, *rounds, *workers); err != nil {
		log.Fatal(err)
	}
}

func child(ctx context.Context, url string, workers int) error {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	keys := strings.Split(os.Getenv(envKeys), ",")
	ring, err := keyring.New(keys[0], keys[1:]...)
	if err != nil {
		return err
	}
	_, err = rotate.Run(ctx, db, ring, rotate.Config{Workers: workers})
	return errors.Join(err, db.Close())
}

// bench is a table and its keys, the primary one first.
type bench struct {
	url     string
	db      *sql.DB
	rows    int
	workers int
	keys    []string
}

func run(ctx context.Context, rows, rounds, workers int) (err error) {
	server, err := pgserver.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	url, _, err := server.CreateDatabase(ctx, "")
	if err != nil {
		return err
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	b := &bench{url: url, db: db, rows: rows, workers: workers, keys: []string{keyring.GenerateKey(), keyring.GenerateKey()}}
	if err := b.fill(ctx); err != nil {
		return err
	}
	for range rounds {
		for _, m := range []struct {
			name string
			do   func(ctx context.Context) error
		}{
			{"UPDATE", b.update},
			{"rotate, one process", func(ctx context.Context) error { return b.processes(ctx, 1) }},
			{"rotate, two processes", func(ctx context.Context) error { return b.processes(ctx, 2) }},
			{"rotate, nothing to do", b.again},
			{"rotate, from the start", func(ctx context.Context) error { return b.rotate(ctx, rotate.Config{FromStart: true}) }},
			{"verify", b.verify},
			{"rotate, stopped at 3/4", b.stopped},
			{"rotate, the rest", b.again},
		} {
			if _, err := db.ExecContext(ctx, "VACUUM ANALYZE user_credentials"); err != nil {
				return err
			}
			if _, err := db.ExecContext(ctx, "CHECKPOINT"); err != nil {
				return err
			}
			start := time.Now()
			if err := m.do(ctx); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			took := time.Since(start)
			fmt.Printf("%-24s %8.2f s %10.0f rows/s\n", m.name, took.Seconds(), float64(rows)/took.Seconds())
		}
	}
	return db.Close()
}

func (b *bench) ring() (*keyring.Keyring, error) { return keyring.New(b.keys[0], b.keys[1:]...) }

func (b *bench) fill(ctx context.Context) error {
	if err := migrate.Apply(ctx, b.db, migrate.Config{}); err != nil {
		return err
	}
	ring, err := b.ring()
	if err != nil {
		return err
	}
	account := uuid.New()
	if _, err := b.db.ExecContext(ctx, "INSERT INTO user_accounts (id, user_id, account_name) VALUES ($1, 'u', 'Ada')", account); err != nil {
		return err
	}
	var credentials iter.Seq2[credent.CopyRow, error] = func(yield func(credent.CopyRow, error) bool) {
		for i := range b.rows {
			if !yield(credent.CopyRow{
				UserAccountID: account, UserID: "u", CredentialType: "alpaca",
				APIKey:    credent.NewSecret(fmt.Sprintf("PK%018d", i)),
				SecretKey: credent.NewSecret(fmt.Sprintf("secret key of forty characters %09d", i)),
			}, nil) {
				return
			}
		}
	}
	_, err = credent.Copy(ctx, b.db, credentials, credent.CopyConfig{}, credent.Config{Keyring: ring})
	return err
}

// turn makes the other key the primary one.
func (b *bench) turn() { b.keys[0], b.keys[1] = b.keys[1], b.keys[0] }

func (b *bench) processes(ctx context.Context, n int) error {
	b.turn()
	if _, err := b.db.ExecContext(ctx, "DELETE FROM credent_progress"); err != nil {
		return err
	}
	var errs []error
	var all []*exec.Cmd
	for range n {
		cmd := exec.CommandContext(ctx, os.Args[0], "-url", b.url, "-workers", fmt.Sprint(b.workers)) //nolint:gosec // G204: this program
		cmd.Env, cmd.Stderr = append(os.Environ(), envKeys+"="+strings.Join(b.keys, ",")), os.Stderr
		if err := cmd.Start(); err != nil {
			return err
		}
		all = append(all, cmd)
	}
	for _, cmd := range all {
		errs = append(errs, cmd.Wait())
	}
	return errors.Join(errs...)
}

func (b *bench) rotate(ctx context.Context, cfg rotate.Config) error {
	ring, err := b.ring()
	if err != nil {
		return err
	}
	cfg.Workers = b.workers
	report, err := rotate.Run(ctx, b.db, ring, cfg)
	if report != nil {
		t := report.Tables[0]
		fmt.Printf("%26d rows read, %d rewritten, in %d passes\n", t.Rows, t.Rewritten, t.Passes)
	}
	return err
}

func (b *bench) again(ctx context.Context) error { return b.rotate(ctx, rotate.Config{}) }

func (b *bench) verify(ctx context.Context) error {
	ring, err := b.ring()
	if err != nil {
		return err
	}
	counts, err := rotate.VerifyWith(ctx, b.db, ring, rotate.Config{Workers: b.workers})
	return errors.Join(err, counts.Err())
}

// stopped stops a rotation in its first pass.
func (b *bench) stopped(ctx context.Context) error {
	b.turn()
	if _, err := b.db.ExecContext(ctx, "DELETE FROM credent_progress"); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	err := b.rotate(ctx, rotate.Config{Progress: func(p rotate.Progress) {
		if p.Pass == 1 && p.Read >= int64(b.rows)*3/4 {
			stop()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("it was not stopped: %w", err)
	}
	return nil
}

// update writes as many bytes to every row in one statement, and rolls back.
func (b *bench) update(ctx context.Context) error {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	var apiKey, secretKey string
	if err := tx.QueryRowContext(ctx, "SELECT api_key, secret_key FROM user_credentials LIMIT 1").Scan(&apiKey, &secretKey); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE user_credentials SET api_key = $1, secret_key = $2", apiKey, secretKey)
	return err
}

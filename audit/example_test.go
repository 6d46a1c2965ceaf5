package audit_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
)

// exampleTrail returns a trail on a new SQLite database.
func exampleTrail(ctx context.Context) (trail *audit.Trail, db *sql.DB, ring *keyring.Keyring, end func()) {
	dir, err := os.MkdirTemp("", "credent")
	if err != nil {
		log.Panic(err)
	}
	if db, err = sql.Open("sqlite", "file:"+filepath.Join(dir, "x.db")+"?_pragma=busy_timeout(5000)"); err != nil {
		log.Panic(err)
	}
	if err := migrate.Apply(ctx, db, migrate.Config{}); err != nil {
		log.Panic(err)
	}
	if ring, err = keyring.New(keyring.GenerateKey()); err != nil {
		log.Panic(err)
	}
	if trail, err = audit.Open(ctx, db, dialect.SQLite, audit.Config{Keyring: ring, Writer: "example"}); err != nil {
		log.Panic(err)
	}
	return trail, db, ring, func() {
		_ = trail.Close(ctx)
		_ = db.Close()
		_ = os.RemoveAll(dir)
	}
}

func ExampleOpen() {
	ctx := context.Background()
	_, db, ring, end := exampleTrail(ctx)
	defer end()

	trail, err := audit.Open(ctx, db, dialect.SQLite, audit.Config{
		Keyring: ring,
		Mode:    audit.Sync, // a reveal returns after its entry is committed
		OnError: func(err error) { log.Print(err) },
	})
	if err != nil {
		log.Panic(err)
	}
	fmt.Println(trail.Close(ctx))
	// Output: <nil>
}

func ExampleTrail_Add() {
	ctx := context.Background()
	trail, db, _, end := exampleTrail(ctx)
	defer end()

	ctx = audit.WithRequestID(ctx, "req-7")
	if err := trail.Add(ctx, audit.Entry{
		Action: audit.ActionReveal, Actor: "ada", Tenant: "user-1", Table: "user_credentials", Column: "api_key",
		Row:     "17",
		Request: audit.RequestID(ctx),
	}); err != nil {
		log.Panic(err)
	}
	if err := trail.Flush(ctx); err != nil {
		log.Panic(err)
	}
	err := audit.List(ctx, db, dialect.SQLite, audit.Filter{Actor: "ada"}, func(s audit.Stored) error {
		fmt.Println(s.Action, s.Table, s.Column, s.Row, s.Outcome, s.Request)
		return nil
	})
	fmt.Println(err)
	// Output:
	// reveal user_credentials api_key 17 ok req-7
	// <nil>
}

func ExampleTrail_AddTx() {
	ctx := context.Background()
	trail, db, _, end := exampleTrail(ctx)
	defer end()

	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		log.Panic(err)
	}
	// The change itself goes here.
	done, err := trail.AddTx(ctx, tx, audit.Entry{Action: audit.ActionDelete, Table: "user_credentials", Row: "17"})
	if err != nil {
		log.Panic(err)
	}
	err = tx.Commit()
	done(err == nil)
	fmt.Println(err, trail.Flush(ctx))
	// Output: <nil> <nil>
}

func ExampleFollow() {
	ctx, cancel := context.WithCancel(context.Background())
	trail, db, _, end := exampleTrail(ctx)
	defer end()

	if err := trail.Add(ctx, audit.Entry{Action: audit.ActionExport, Actor: "ada", Rows: 120}); err != nil {
		log.Panic(err)
	}
	err := audit.Follow(ctx, db, dialect.SQLite, audit.Filter{}, time.Second, func(s audit.Stored) error {
		fmt.Println(s.Actor, s.Action, s.Rows)
		cancel()
		return nil
	})
	fmt.Println(err)
	// Output:
	// ada export 120
	// context canceled
}

func ExampleVerify() {
	ctx := context.Background()
	trail, db, ring, end := exampleTrail(ctx)
	defer end()

	if err := trail.Add(ctx, audit.Entry{Action: audit.ActionExport, Actor: "ada", Rows: 120}); err != nil {
		log.Panic(err)
	}
	if err := trail.Flush(ctx); err != nil {
		log.Panic(err)
	}
	// Keep checkpoints out of reach of anyone who can change the database.
	heads, _, err := audit.Checkpoints(ctx, db, dialect.SQLite, ring)
	if err != nil {
		log.Panic(err)
	}
	report, err := audit.Verify(ctx, db, dialect.SQLite, ring, audit.VerifyOptions{Checkpoints: heads})
	if err != nil {
		log.Panic(err)
	}
	fmt.Println(report.Verified, "of", report.Entries, report.Err())
	// Output: 2 of 2 <nil>
}

func ExampleReadCheckpoints() {
	ctx := context.Background()
	_, db, ring, end := exampleTrail(ctx)
	defer end()

	heads, _, err := audit.Checkpoints(ctx, db, dialect.SQLite, ring)
	if err != nil {
		log.Panic(err)
	}
	var file bytes.Buffer
	for _, head := range heads {
		if err := json.NewEncoder(&file).Encode(head); err != nil {
			log.Panic(err)
		}
	}
	read, err := audit.ReadCheckpoints(&file)
	fmt.Println(len(read), read[0] == heads[0], err)
	// Output: 1 true <nil>
}

func ExampleSignHeads() {
	ctx := context.Background()
	trail, db, ring, end := exampleTrail(ctx)
	defer end()

	if err := trail.Close(ctx); err != nil {
		log.Panic(err)
	}
	heads, report, err := audit.SignHeads(ctx, db, dialect.SQLite, ring)
	fmt.Println(heads, report.Err(), err)
	// Output: 1 <nil> <nil>
}

func ExampleArchive() {
	ctx := context.Background()
	trail, db, ring, end := exampleTrail(ctx)
	defer end()

	if err := trail.Add(ctx, audit.Entry{
		At: time.Date(2025, 5, 17, 12, 0, 0, 0, time.UTC), Action: audit.ActionExport, Actor: "ada", Rows: 120,
	}); err != nil {
		log.Panic(err)
	}
	if err := trail.Flush(ctx); err != nil {
		log.Panic(err)
	}
	var file bytes.Buffer
	months, err := audit.Archive(ctx, db, dialect.SQLite, ring, audit.ArchiveOptions{
		Before: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), To: &file,
	})
	if err != nil {
		log.Panic(err)
	}
	fmt.Println(months[0].From.Format("2006-01"), months[0].Entries)
	// Output: 2025-05 1
}

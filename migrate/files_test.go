package migrate_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

// Stock Atlas would run pairs of up and down files one after the other.
func TestNamesOfFiles(t *testing.T) {
	t.Parallel()
	valid := regexp.MustCompile(`^([0-9]{14}_[a-z0-9_]+\.sql|atlas\.sum)$`)
	for _, d := range []string{"postgres", "sqlite3"} {
		dir, err := migrate.Files(d)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := fs.ReadDir(dir, ".")
		if err != nil {
			t.Fatal(err)
		}
		onDisk, err := os.ReadDir(strings.TrimSuffix(d, "3"))
		if err != nil || len(onDisk) != len(entries) || len(entries) < 3 {
			t.Errorf("%s: %d files, %d embedded, %v", d, len(onDisk), len(entries), err)
		}
		for _, entry := range onDisk {
			if !valid.MatchString(entry.Name()) {
				t.Errorf("%s: %s", d, entry.Name())
			}
		}
	}
}

// copyOf returns the path of a copy of the SQLite migrations.
func copyOf(t *testing.T) string {
	t.Helper()
	own, err := migrate.Files("sqlite3")
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	if err := os.CopyFS(tmp, own); err != nil {
		t.Fatal(err)
	}
	return tmp
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// valid reports whether a directory matches its atlas.sum.
func valid(t *testing.T, dir string) error {
	t.Helper()
	db, _, err := testopt.OpenDB("sqlite::memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	_, err = testopt.ReadStatus(t.Context(), db, testopt.WithDir(os.DirFS(dir)))
	return err
}

func TestNew(t *testing.T) {
	t.Parallel()
	dir := copyOf(t)
	files, err := filepath.Glob(filepath.Join(dir, "*.sql"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	newest := filepath.Base(slices.Max(files))
	var names []string
	for range 3 { // within one second
		name, err := migrate.New(dir, "add_expiry")
		if err != nil {
			t.Fatal(err)
		}
		if err := valid(t, dir); err != nil {
			t.Error(err)
		}
		names = append(names, name)
	}
	if !strings.HasSuffix(names[0], "_add_expiry.sql") || names[0] >= names[1] || names[1] >= names[2] {
		t.Error(names)
	}
	at, err := time.Parse("20060102150405", names[0][:14])
	if err != nil || at.After(time.Now().Add(time.Hour)) && names[0][:12] != newest[:12] {
		t.Errorf("%s, %v", names[0], err)
	}
	// Later than any clock.
	write(t, dir, "29991231235959_far.sql", "")
	if err := migrate.Hash(dir); err != nil {
		t.Fatal(err)
	}
	if name, err := migrate.New(dir, "next"); err != nil || name != "30000101000000_next.sql" {
		t.Errorf("%s, %v", name, err)
	}
	for _, name := range []string{"", "a b", "x.down", "../x", "_", "a/b", "é"} {
		if file, err := migrate.New(dir, name); !errors.Is(err, migrate.ErrFileName) {
			t.Errorf("%q: %s, %v", name, file, err)
		}
	}
	write(t, dir, names[0], "-- edited\n")
	if _, err := migrate.New(dir, "next"); !errors.Is(err, migrate.ErrChanged) ||
		!strings.Contains(err.Error(), names[0]+" was edited") {
		t.Errorf("on an edited directory: %v", err)
	}
}

func TestHash(t *testing.T) {
	t.Parallel()
	own := copyOf(t)
	want, err := os.ReadFile(filepath.Join(own, "atlas.sum"))
	if err != nil {
		t.Fatal(err)
	}
	for name, before := range map[string]string{
		"same":     string(want),
		"conflict": "<<<<<<< HEAD\n" + string(want), "empty": "",
	} {
		write(t, own, "atlas.sum", before)
		if err := migrate.Hash(own); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(own, "atlas.sum")); err != nil || string(got) != string(want) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	for _, name := range []string{
		"20991231000000_x.down.sql", "20991231000000_x.up.sql", "x.sql",
		"20261124030000_again.sql",
	} {
		dir := copyOf(t)
		write(t, dir, name, "")
		if err := migrate.Hash(dir); !errors.Is(err, migrate.ErrFileName) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := migrate.Hash(filepath.Join(own, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestDiffRefusesNames(t *testing.T) {
	t.Parallel()
	db, _, err := testopt.OpenDB("sqlite::memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := migrate.Diff(t.Context(), db, copyOf(t), "x.down"); !errors.Is(err, migrate.ErrFileName) {
		t.Error(err)
	}
}

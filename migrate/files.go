package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"ariga.io/atlas/sql/migrate"
)

// ErrFileName means that a migration file's name isn't VERSION_name.sql, or
// that a given name can't be part of one.
var ErrFileName = errors.New("bad name of a migration file")

// versionLayout is the format of the versions that stock Atlas derives from the
// UTC time.
const versionLayout = "20060102150405"

var (
	fileName    = regexp.MustCompile(`^[0-9]+_[A-Za-z0-9_]+\.sql$`)
	description = regexp.MustCompile(`^[A-Za-z0-9]+(_+[A-Za-z0-9]+)*$`)
)

// newFileText is the text that [New] writes. Because of the blank line, the
// comment belongs to the file, not to its first statement.
const newFileText = "-- What this migration does, and why.\n\n"

// loadDir reads a migration directory and verifies it against its atlas.sum.
func loadDir(fsys fs.FS) (migrate.Dir, error) {
	dir := &migrate.MemDir{}
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("migrate: read the migration files: %w", err)
	}
	for _, name := range append(names, migrate.HashFileName) {
		data, err := fs.ReadFile(fsys, name)
		if name == migrate.HashFileName && errors.Is(err, fs.ErrNotExist) {
			continue // Validate reports it, unless there are no files either
		}
		if err != nil {
			return nil, fmt.Errorf("migrate: read the migration files: %w", err)
		}
		if err := dir.WriteFile(name, data); err != nil {
			return nil, fmt.Errorf("migrate: read the migration files: %w", err)
		}
	}
	return dir, validate(dir)
}

// openDir opens a migration directory for writing.
func openDir(path string) (*migrate.LocalDir, error) {
	dir, err := migrate.NewLocalDir(path)
	if err != nil {
		return nil, fmt.Errorf("migrate: open %s: %w", path, err)
	}
	return dir, nil
}

// validate returns [ErrChanged] if a directory doesn't match its atlas.sum,
// with a file's name if possible.
func validate(dir migrate.Dir) error {
	err := migrate.Validate(dir)
	var sum *migrate.ChecksumError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &sum) && sum.File != "":
		what := map[migrate.Reason]string{
			migrate.ReasonAdded: "was added", migrate.ReasonEdited: "was edited", migrate.ReasonRemoved: "was removed",
		}[sum.Reason]
		return fmt.Errorf("migrate: %w: %s %s", ErrChanged, sum.File, what)
	}
	return fmt.Errorf("migrate: %w: %w", ErrChanged, err)
}

// New writes a migration file without statements into the directory at path,
// updates atlas.sum, and returns the file's name. The version is the time in
// UTC, or the one after the newest file's if that is later. The name has
// letters, digits and underscores. Errors: [ErrFileName]; [ErrChanged], since a
// new atlas.sum would hide that a file was edited.
func New(path, name string) (file string, err error) {
	dir, err := openDir(path)
	if err != nil {
		return "", err
	}
	if err := validate(dir); err != nil {
		return "", err
	}
	if err := checkDescription(name); err != nil {
		return "", err
	}
	version, err := nextVersion(dir, time.Now())
	if err != nil {
		return "", err
	}
	file = version + "_" + name + ".sql"
	if err := writeNew(filepath.Join(path, file), newFileText); err != nil {
		return "", fmt.Errorf("migrate: write %s: %w", file, err)
	}
	return file, Hash(path)
}

// writeNew never replaces a file.
func writeNew(path, text string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // like the other files of a repository
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.WriteString(text)
	return err
}

func checkDescription(name string) error {
	if !description.MatchString(name) {
		return fmt.Errorf("migrate: %w: use letters, digits and underscores, as in add_expiry", ErrFileName)
	}
	return nil
}

// nextVersion returns the version for a new file. It comes after the existing
// files even if the clock is wrong.
func nextVersion(dir migrate.Dir, now time.Time) (string, error) {
	files, err := dir.Files()
	if err != nil {
		return "", fmt.Errorf("migrate: read the migration files: %w", err)
	}
	version := now.UTC().Format(versionLayout)
	if len(files) == 0 {
		return version, nil
	}
	last := files[len(files)-1].Version()
	if version > last {
		return version, nil
	}
	t, err := time.Parse(versionLayout, last)
	if err != nil {
		return "", fmt.Errorf("migrate: %w: %s is the newest and not a time in UTC", ErrFileName,
			files[len(files)-1].Name())
	}
	return t.Add(time.Second).Format(versionLayout), nil
}

// Hash writes atlas.sum for the files that are now in the directory at path:
// after one was added or corrected by hand, or after two branches were merged;
// in that case look at the order of the files first. Errors: [ErrFileName], for
// down files too, which stock Atlas would run as migrations.
func Hash(path string) error {
	dir, err := openDir(path)
	if err != nil {
		return err
	}
	files, err := dir.Files()
	if err != nil {
		return fmt.Errorf("migrate: read %s: %w", path, err)
	}
	versions := make(map[string]string)
	for _, f := range files {
		if !fileName.MatchString(f.Name()) {
			why := "it must be VERSION_name.sql"
			if strings.HasSuffix(f.Name(), ".down.sql") || strings.HasSuffix(f.Name(), ".up.sql") {
				why += ", for there are no up and down files: stock Atlas runs each of them"
			}
			return fmt.Errorf("migrate: %w: %s: %s", ErrFileName, f.Name(), why)
		}
		if other, ok := versions[f.Version()]; ok {
			return fmt.Errorf("migrate: %w: %s and %s have the same version", ErrFileName, other, f.Name())
		}
		versions[f.Version()] = f.Name()
	}
	sum, err := dir.Checksum()
	if err == nil {
		err = migrate.WriteSumFile(dir, sum)
	}
	if err != nil {
		return fmt.Errorf("migrate: write %s: %w", filepath.Join(path, migrate.HashFileName), err)
	}
	return nil
}

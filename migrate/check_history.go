package migrate

import (
	"fmt"
	"slices"
	"strings"

	"ariga.io/atlas/sql/migrate"
)

// checkHistory compares the history with the files, ordered by version.
func checkHistory(applied []*migrate.Revision, files []migrate.File) ([]Finding, error) {
	edited, err := (&hashes{applied, files}).edited()
	if err != nil {
		return nil, err
	}
	findings := edited
	newest := ""
	if len(files) > 0 {
		newest = files[len(files)-1].Version()
	}
	for _, rev := range applied {
		file := fileOf(files, rev.Version)
		switch {
		case rev.Version > newest:
			findings = append(findings, Finding{Kind: FileNewer, Object: rev.Version})
		case file == nil:
			findings = append(findings, Finding{Kind: FileDeleted, Object: rev.Version, Detail: rev.Description})
		case isPartial(rev):
			findings = append(findings, Finding{
				Kind: FilePartial, Object: file.Name(), Detail: fmt.Sprintf("%d of %d statements",
					rev.Applied, rev.Total),
			})
		}
	}
	for _, f := range files {
		switch {
		case isApplied(applied, f):
		case len(applied) > 0 && f.Version() < applied[len(applied)-1].Version:
			findings = append(findings, Finding{Kind: FileOutOfOrder, Object: f.Name()})
		default:
			findings = append(findings, Finding{Kind: FilePending, Object: f.Name()})
		}
	}
	slices.SortStableFunc(findings,
		func(a, b Finding) int { return strings.Compare(versionOf(a.Object), versionOf(b.Object)) })
	return findings, nil
}

func isPartial(rev *migrate.Revision) bool { return rev.Applied < rev.Total }

// isApplied reports whether the history contains a file, even partly or below
// its baseline.
func isApplied(applied []*migrate.Revision, f migrate.File) bool {
	return revisionOf(applied, f.Version()) != nil || isBelowBaseline(applied, f)
}

func isBelowBaseline(applied []*migrate.Revision, f migrate.File) bool {
	return len(applied) > 0 && applied[0].Type.Has(migrate.RevisionTypeBaseline) && f.Version() <= applied[0].Version
}

func revisionOf(applied []*migrate.Revision, version string) *migrate.Revision {
	i := slices.IndexFunc(applied, func(rev *migrate.Revision) bool { return rev.Version == version })
	if i < 0 {
		return nil
	}
	return applied[i]
}

func fileOf(files []migrate.File, version string) migrate.File {
	i := slices.IndexFunc(files, func(f migrate.File) bool { return f.Version() == version })
	if i < 0 {
		return nil
	}
	return files[i]
}

// replayFile is a file, as far as it was applied.
type replayFile struct {
	migrate.File
	statements int // applied statements, or -1 for all
}

// filesToReplay returns the applied files according to the history.
func filesToReplay(applied []*migrate.Revision, files []migrate.File) []replayFile {
	var replay []replayFile
	for _, f := range files {
		rev := revisionOf(applied, f.Version())
		switch {
		case rev != nil && isPartial(rev):
			replay = append(replay, replayFile{f, rev.Applied})
		case rev != nil || isBelowBaseline(applied, f):
			replay = append(replay, replayFile{f, -1})
		}
	}
	return replay
}

// hashes compares each file's hash with the history's. A hash covers the file
// and all earlier files in the directory at the time.
type hashes struct {
	applied []*migrate.Revision
	files   []migrate.File
}

// edited returns a finding for the first file with a different hash. Later
// files can't be checked, because that file's old text is unknown.
func (h *hashes) edited() ([]Finding, error) {
	var unverified []string // files without their own hash in the history, since the last one with a hash
	for i, f := range h.files {
		rev := revisionOf(h.applied, f.Version())
		switch {
		case h.missingBefore(f.Version()):
			return nil, nil
		case rev == nil && !isBelowBaseline(h.applied, f):
			continue
		case rev == nil || rev.Hash == "":
			unverified = append(unverified, f.Name())
			continue
		case isPartial(rev):
			continue // may be corrected after the applied statements
		}
		equal, err := h.equal(f, rev)
		if err != nil {
			return nil, fmt.Errorf("migrate: %s: %w", f.Name(), err)
		}
		if !equal {
			return []Finding{{Kind: FileEdited, Object: f.Name(), Detail: h.editedDetail(unverified, h.files[i+1:])}},
				nil
		}
		unverified = nil
	}
	return nil, nil
}

func (h *hashes) editedDetail(unverified []string, after []migrate.File) string {
	var details []string
	if len(unverified) > 0 {
		details = append(details, "it or "+strings.Join(unverified, " or ")+", and the history has no hash of these")
	}
	var more []string
	for _, f := range after {
		if revisionOf(h.applied, f.Version()) != nil {
			more = append(more, f.Name())
		}
	}
	if len(more) > 0 {
		details = append(details, "whether "+strings.Join(more, " and ")+" changed as well cannot be told before it "+
			"is restored")
	}
	return strings.Join(details, "; ")
}

// missingBefore reports whether a file is missing that is covered by the hashes
// from a version on.
func (h *hashes) missingBefore(version string) bool {
	return slices.ContainsFunc(h.applied, func(rev *migrate.Revision) bool {
		return rev.Version < version && fileOf(h.files, rev.Version) == nil
	})
}

// equal reports whether a file has the history's hash, together with all
// earlier files that exist now, or with those applied by then: a file may have
// been added later, and applied later or never.
func (h *hashes) equal(f migrate.File, rev *migrate.Revision) (bool, error) {
	var all, then []migrate.File
	for _, other := range h.files {
		if other.Version() > f.Version() {
			break
		}
		all = append(all, other)
		o := revisionOf(h.applied, other.Version())
		if isBelowBaseline(h.applied, other) || o != nil && !o.ExecutedAt.After(rev.ExecutedAt) {
			then = append(then, other)
		}
	}
	for _, files := range [][]migrate.File{all, then} {
		sum, err := migrate.NewHashFile(files)
		if err != nil {
			return false, err
		}
		hash, err := sum.SumByName(f.Name())
		if err != nil || hash == rev.Hash {
			return err == nil, err
		}
	}
	return false, nil
}

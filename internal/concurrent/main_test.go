package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, source := range map[string]string{
		"a_test.go": `package a
			func TestAlone(t *testing.T) { one() }
			func TestAdded(t *testing.T) { one() }
			func TestGo(t *testing.T) { t.Run("x", func(t *testing.T) { go one() }) }
			func TestGroup(t *testing.T) { group.Go(one) }
			func TestByHelper(t *testing.T) { two(t) }
			func TestByMethod(t *testing.T) { w.start() }
			func one() {}`,
		"b_test.go": `package a
			func two(t *testing.T) { three() }
			func three() { go one() }
			func (w *world) start() { three() }`,
		"c.go": `package a
			func TestNot() { go one() }`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := find(dir, []string{"TestAdded"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"TestAdded", "TestByHelper", "TestByMethod", "TestGo", "TestGroup"}, got); diff != "" {
		t.Error(diff)
	}
}

package pgserver

import "testing"

// ForTest starts a server for a test and stops it after the test. Under go
// test -short the test is skipped: make check leaves servers to make test.
func ForTest(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	SkipShort(tb)
	s, err := Start(tb.Context(), opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Stop() })
	return s
}

// SkipShort skips a test that needs a server under go test -short.
func SkipShort(tb testing.TB) {
	tb.Helper()
	if testing.Short() {
		tb.Skip("it needs Postgres, and -short has none; make test runs it")
	}
}

// DatabaseForTest is ForTest for one empty database, which is dropped after
// the test. It returns its URL.
func DatabaseForTest(tb testing.TB, opts ...Option) string {
	tb.Helper()
	databaseURL, drop, err := ForTest(tb, opts...).CreateDatabase(tb.Context(), "")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = drop() })
	return databaseURL
}

package pgserver

import "testing"

// ForTest starts a server for a test and stops it afterwards. It skips the test
// under go test -short, so that make check needs no server.
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
		tb.Skip("needs Postgres, which -short excludes; make test runs it")
	}
}

// DatabaseForTest starts a server with [ForTest], and returns the URL of an
// empty database that is dropped after the test.
func DatabaseForTest(tb testing.TB, opts ...Option) string {
	tb.Helper()
	databaseURL, drop, err := ForTest(tb, opts...).CreateDatabase(tb.Context(), "")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = drop() })
	return databaseURL
}

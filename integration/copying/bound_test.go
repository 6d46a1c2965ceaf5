package copying

import (
	"log/slog"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
)

// Copy binds as a Create does, by COPY and by INSERT.
func TestBoundCopy(t *testing.T) {
	t.Parallel()
	forEachCopy(t, func(t *testing.T, env *testdb.Env) {
		env.Account(t, "u1")
		for _, opts := range [][]testopt.Option{
			env.IsBound(),
			env.IsBound(testopt.WithFormatWarnings(slog.New(slog.DiscardHandler))),
		} {
			if n, err := testopt.Copy(t.Context(), env.DB, testdb.Sequence(testdb.CopyRows(3, "u1")...),
				credent.CopyConfig{}, opts...); n != 3 || err != nil {
				t.Fatal(n, err)
			}
		}
		if _, bound, unbound := env.AtPlace(t); bound != 12 || unbound != 0 {
			t.Errorf("%d are bound, %d are not", bound, unbound)
		}
	})
}

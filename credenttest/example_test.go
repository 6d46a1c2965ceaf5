package credenttest_test

import (
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/credenttest"
)

// A service's test: the owner prepares rows, and the service sees its user's.
func ExampleNewPair() {
	_ = func(t *testing.T) {
		owner, app := credenttest.NewPair(t, credent.Config{})
		owner.UserAccount.Create().SetUserID("u1").SetAccountName("Ada").ExecX(t.Context())
		owner.UserAccount.Create().SetUserID("u2").SetAccountName("Ben").ExecX(t.Context())

		if got := app.UserAccount.Query().OnlyX(credent.WithUser(t.Context(), "u1")); got.AccountName != "Ada" {
			t.Errorf("u1 is %s", got.AccountName)
		}
		if n := app.UserAccount.Query().CountX(t.Context()); n != 0 {
			t.Errorf("without a user the service sees %d accounts", n)
		}
	}
	// Output:
}

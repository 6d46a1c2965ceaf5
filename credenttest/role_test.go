package credenttest_test

import (
	"errors"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/credenttest"
	"github.com/credent-go/credent/ent"
)

func TestNewPair(t *testing.T) {
	t.Parallel()
	owner, app := credenttest.NewPair(t, credent.Config{})
	for name, client := range map[string]*ent.Client{"owner": owner, "app": app} {
		if err := credent.Check(t.Context(), client); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, user := range []string{"u1", "u2"} {
		account := owner.UserAccount.Create().SetUserID(user).SetAccountName(user).SaveX(t.Context())
		owner.UserCredential.Create().SetAccount(account).SetCredentialType("alpaca").
			SetAPIKey(credent.NewSecret("of " + user)).SetSecretKey(credent.NewSecret("s")).ExecX(t.Context())
	}
	u1 := credent.WithUser(t.Context(), "u1")
	if got, err := app.UserCredential.Query().OnlyX(u1).APIKey.Reveal(); got != "of u1" || err != nil {
		t.Errorf("u1 revealed %q, %v", got, err)
	}
	for client, want := range map[*ent.Client][2]int{owner: {2, 2}, app: {1, 0}} {
		if got := client.UserAccount.Query().CountX(u1); got != want[0] {
			t.Errorf("with user u1: sees %d accounts, want %d", got, want[0])
		}
		if got := client.UserAccount.Query().CountX(t.Context()); got != want[1] {
			t.Errorf("without a user: %d accounts, want %d", got, want[1])
		}
	}
}

// AppURL's role is dropped after its test, and the owner's URL is refused if
// row-level security is required.
func TestAppURL(t *testing.T) { //nolint:tparallel // the rest needs the subtest to end first
	t.Parallel()
	url := credenttest.URL(t)
	var gone string
	t.Run("a test", func(t *testing.T) {
		gone = credenttest.AppURL(t, url)
		credenttest.Open(t, gone, credent.Config{Keyring: credenttest.Keyring(t), RequireRowSecurity: true})
	})
	if _, err := credent.Open(t.Context(), gone, credent.Config{Keyring: credenttest.Keyring(t)}); err == nil {
		t.Error("the role is still there")
	}
	if _, err := credent.Open(t.Context(), url, credent.Config{
		Keyring:            credenttest.Keyring(t),
		RequireRowSecurity: true,
	}); !errors.Is(err, credent.ErrRowSecurity) {
		t.Errorf("the owner: %v", err)
	}
}

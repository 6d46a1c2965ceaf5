package keyloss

import (
	"fmt"
	"testing"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/internal/testopt"
)

// After a fail-over, a client may use a state for up to a minute that the
// server lost or changed. Everything it stores meanwhile can be read by clients
// with the server's state, because states change one step at a time, at least a
// minute apart.
func TestStatesOfAnotherServer(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, s *service) {
		s.opts = []testopt.Option{testopt.WithKeyring(s.ring)} // follow the database
		set := func(p states.Protection, state states.State) {
			s.exec(t, "DELETE FROM credent_states")
			for _, c := range []encrypted.Column{usercredential.APIKeyColumn, usercredential.SecretKeyColumn} {
				s.exec(t, fmt.Sprintf("INSERT INTO credent_states (column_name, protection, state, changed_at) "+
					"VALUES ('%s', '%s', '%s', '2026-01-01')", c, p, state))
			}
		}
		for _, p := range []states.Protection{states.Binding, states.TenantKeys} {
			for lower := states.Off; lower < states.Require; lower++ {
				for _, known := range []states.State{lower, lower + 1} {
					there := lower + lower + 1 - known
					t.Run(fmt.Sprintf("%s %s known, %s there", p, known, there), func(t *testing.T) {
						s.exec(t, "DELETE FROM user_credentials")
						s.exec(t, "DELETE FROM credent_tenant_keys")
						set(p, known)
						s.client = s.newClient(t)
						s.create(s.client.UserCredential, "u1", "before").ExecX(t.Context())
						set(p, there)
						s.exec(t, "DELETE FROM user_credentials")
						s.exec(t, "DELETE FROM credent_tenant_keys")
						s.create(s.client.UserCredential, "u1", "x").ExecX(t.Context())
						if err := s.onTx(t.Context(), func(tx *ent.Tx) error {
							return s.create(tx.UserCredential, "u1", "y").Exec(t.Context())
						}); err != nil {
							t.Fatal(err)
						}
						if n := s.opens(t, "u1", nil); n != 2 {
							t.Errorf("%d rows", n)
						}
					})
				}
			}
		}
	})
}

package keyloss

import (
	"context"
	"errors"
	"testing"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/pgreplica"
	"github.com/credent-go/credent/internal/testopt"
)

// within bounds a step that takes milliseconds, or seconds on a loaded machine.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func started(t *testing.T) func(*pgreplica.Server, error) *pgreplica.Server {
	t.Helper()
	return func(s *pgreplica.Server, err error) *pgreplica.Server {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Stop() })
		return s
	}
}

// TestFailOver promotes a standby that never received a tenant's key. The
// process that created the key continues with every way to store secrets, and
// everything the promoted server acknowledges opens there.
func TestFailOver(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"pq", "pgx"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			primary := started(t)(pgreplica.Start(within(t)))
			standby := started(t)(primary.AddStandby(within(t)))
			url, err := pgreplica.URL("postgres", primary, standby)
			if err != nil {
				t.Fatal(err)
			}
			db := openURL(t, url, driver)
			if err := testopt.Apply(within(t), db); err != nil {
				t.Fatal(err)
			}
			s := newService(t, db, dialect.Postgres)
			s.create(s.client.UserCredential, "u2", "there").ExecX(within(t))
			if err := standby.WaitFor(within(t), primary); err != nil {
				t.Fatal(err)
			}
			if err := standby.StopReceiving(within(t)); err != nil {
				t.Fatal(err)
			}
			lost := s.create(s.client.UserCredential, "u1", "lost").SaveX(within(t)) // with the first key of u1
			if err := errors.Join(primary.Kill(), standby.Promote(within(t))); err != nil {
				t.Fatal(err)
			}

			// Retry the first write until a connection leads to the new server.
			for ctx := within(t); ; {
				err := s.create(s.client.UserCredential, "u1", "x").Exec(ctx)
				if err == nil {
					break
				}
				if ctx.Err() != nil || errors.Is(err, credent.ErrUnknownKey) {
					t.Fatal(err)
				}
			}
			if n := s.opens(t, "u1", nil); n != 1 {
				t.Errorf("%d rows after the first", n)
			}
			there := s.client.UserCredential.Query().Where(usercredential.UserID("u1")).OnlyX(within(t))
			if there.ID == lost.ID {
				t.Fatal("the promoted server has the row that it never received")
			}
			want := 1
			for _, p := range paths {
				if err := p.do(within(t), s, there); err != nil {
					t.Errorf("%s: %v", p.name, err)
				}
				want += p.rows
			}
			if n := s.opens(t, "u1", nil); n != want {
				t.Errorf("%d rows, want %d", n, want)
			}
			s.opens(t, "u2", nil)
		})
	}
}

// A client with a key that the server lost reads secrets that another client
// stored under the server's new key.
func TestReadsUnderNewKey(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, s *service) {
		s.create(s.client.UserCredential, "u1", "lost").ExecX(t.Context())
		s.exec(t, "DELETE FROM user_credentials")
		s.exec(t, "DELETE FROM credent_tenant_keys")
		other := s.newClient(t)
		s.create(other.UserCredential, "u1", "x").ExecX(t.Context())
		var row *ent.UserCredential
		for range 2 {
			row = s.client.UserCredential.Query().OnlyX(t.Context())
			if got, err := row.SecretKey.Reveal(); got != "x" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		}
		// A secret that nothing opens costs one more key lookup, and the error
		// stays the same.
		s.wrap(t, "u1", newKey(t))
		if _, err := s.newClient(t).UserCredential.Query().OnlyX(t.Context()).SecretKey.Reveal(); !errors.Is(err,
			credent.ErrUnknownKey) {
			t.Errorf("got %v", err)
		}
	})
}

//go:build linux

package faults

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

const terminated = syscall.SIGTERM

// stored is a credential as stored.
type stored struct{ user, apiKey, secretKey string }

// vault is Credent's own tables in a world, used by the commands.
type vault struct {
	*world
	previous []string // earlier keys
	rotated  bool     // nothing is under previous keys any more
	rows     map[uuid.UUID]stored
	users    []string
	gone     map[string]bool // users with a destroyed key
}

// newVault stores credentials under their users' keys.
func newVault(w *world, users, each int) *vault {
	w.Helper()
	v := &vault{world: w, rows: make(map[uuid.UUID]stored), gone: make(map[string]bool)}
	db := w.pool("pgx", w.url, "suite")
	client := v.credentials(db)
	defer func() { _ = client.Close() }()
	for n := range users {
		user := fmt.Sprintf("user-%d", n+1)
		v.users = append(v.users, user)
		account, err := client.UserAccount.Create().SetUserID(user).SetAccountName("name of " + user).Save(w.ctx)
		w.must(err)
		var builders []*ent.UserCredentialCreate
		for i := range each {
			id, s := uuid.New(), stored{user, fmt.Sprintf("key/%s/%d", user, i), fmt.Sprintf("secret/%s/%d", user, i)}
			v.rows[id] = s
			builders = append(builders, client.UserCredential.Create().SetID(id).SetAccount(account).SetUserID(user).
				SetCredentialType("alpaca").SetAPIKey(credent.NewSecret(s.apiKey)).
				SetSecretKey(credent.NewSecret(s.secretKey)))
		}
		w.must(client.UserCredential.CreateBulk(builders...).Exec(w.ctx))
	}
	return v
}

// credentials returns a client of Credent's tables.
func (v *vault) credentials(db *sql.DB) *ent.Client {
	v.Helper()
	client, err := testopt.NewClient(db, "postgres", testopt.WithKeyring(v.ring), testopt.WithTenantKeys(credent.Write))
	v.must(err)
	return client
}

// command returns the command credent for a database. The trial's end kills it.
func (v *vault) command(databaseURL string, args ...string) *exec.Cmd {
	return command(v.ctx, databaseURL, v.key, v.previous, args...)
}

func command(ctx context.Context, databaseURL, key string, previous []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), envCommand+"=1", "DATABASE_URL="+databaseURL, "ENCRYPTION_KEY="+key,
		"ENCRYPTION_KEY_PREVIOUS="+strings.Join(previous, ","), "PGAPPNAME=command")
	return cmd
}

// waitFor waits for a command to end.
func waitFor(cmd *exec.Cmd) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return ended
}

// killed kills a command and returns its exit error.
func killed(cmd *exec.Cmd, ended <-chan error) error { return errors.Join(cmd.Process.Kill(), <-ended) }

// finish runs a command to its end on a healthy server, and counts it.
func (v *vault) finish(args ...string) (output string) {
	v.Helper()
	var out, said bytes.Buffer
	cmd := v.command(v.url, args...)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		v.found(&v.wrong, "%v after the fault: %v: %s", args, err, said.String())
		return out.String()
	}
	v.operations.Add(1)
	v.rotated = v.rotated || args[0] == "rotate"
	return out.String()
}

// newKey creates a primary key and keeps the others as earlier ones.
func (v *vault) newKey() {
	v.Helper()
	if v.rotated {
		v.previous = nil
	}
	v.previous, v.rotated = append([]string{v.key}, v.previous...), false
	v.key = keyring.GenerateKey()
	v.setRing()
}

func (v *vault) setRing() {
	v.Helper()
	ring, err := keyring.New(v.key, v.previous...)
	v.must(err)
	_, err = v.ring.Replace(ring) // the writers' clients follow
	v.must(err)
}

// check reads every credential with a client that has no keys yet, and compares
// it with its stored values.
func (v *vault) check() {
	v.Helper()
	db := v.pool("pgx", v.url, "suite")
	client := v.credentials(db)
	defer func() { _ = client.Close() }()
	missing := make(map[uuid.UUID]stored, len(v.rows))
	for id, s := range v.rows {
		missing[id] = s
	}
	rows, err := client.UserCredential.Query().
		WithAccount(func(q *ent.UserAccountQuery) { q.Select(useraccount.FieldUserID) }).All(v.ctx)
	v.must(err)
	for _, row := range rows {
		want, known := missing[row.ID]
		if delete(missing, row.ID); !known {
			v.found(&v.wrong, "row %s is nobody's, or is there twice", row.ID)
			continue
		}
		v.compareCredential(row, want)
	}
	for id := range missing {
		v.found(&v.lost, "row %s is not there", id)
	}
}

func (v *vault) compareCredential(row *ent.UserCredential, want stored) {
	v.reads.Add(1)
	apiKey, err1 := row.APIKey.Reveal()
	secretKey, err2 := row.SecretKey.Reveal()
	switch {
	case v.gone[want.user]:
		if err1 == nil || err2 == nil {
			v.found(&v.wrong, "row %s opens, and the key of its user is destroyed", row.ID)
		}
	case err1 != nil || err2 != nil:
		v.found(&v.wrong, "row %s does not open: %v, %v", row.ID, err1, err2)
	case row.UserID != want.user, row.Edges.Account.UserID != want.user, !strings.Contains(apiKey, "/"+want.user+"/"):
		v.found(&v.foreign, "row %s of %s is %s's", row.ID, want.user, row.UserID)
	case apiKey != want.apiKey || secretKey != want.secretKey:
		v.found(&v.wrong, "row %s has other secrets", row.ID)
	}
}

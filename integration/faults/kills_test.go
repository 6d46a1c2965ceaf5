//go:build linux

package faults

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/keyring"
)

// victim is a command that is killed.
type victim struct {
	name        string
	short, long int // how often
	// prepare gives the command work to do.
	prepare func() (databaseURL string, args []string)
	// after runs the command again, to its end, and checks the result.
	after func(args []string, out, said string)
}

// kills kills every long command before one of its messages to the server, and
// lets the next run continue.
func kills(tr *trial) {
	server, databaseURL := startServer(tr)
	k := &killer{trial: tr, proxy: newProxy(tr, databaseURL), random: rand.New(rand.NewPCG(1, 2))}
	w := newWorld(tr, databaseURL)
	v := newVault(w, 60, 8)
	for _, c := range []victim{
		v.rotateVictim(), v.verifyVictim(), v.exportVictim(), v.importVictim(), v.stateVictim(), v.destroyVictim(),
		plainVault(tr, server).encryptVictim(), migrateVictim(tr, server),
	} {
		k.run(c)
	}
	tr.notef("%d kills: %s", k.total, strings.Join(k.counts, ", "))
	if tr.full && k.total < 200 {
		tr.Errorf("only %d kills", k.total)
	}
	w.close()
}

// killer kills commands.
type killer struct {
	*trial
	proxy  *proxy
	random *rand.Rand
	total  int
	counts []string
}

// run kills a command as often as its form says, each time at another moment.
func (k *killer) run(c victim) {
	k.Helper()
	messages := 0
	for done, tries, want := 0, 0, k.pick(c.short, c.long); done < want; tries++ {
		if tries > 2*want+5 {
			k.Fatalf("%s: killed only %d times: it is too short", c.name, done)
		}
		databaseURL, args := c.prepare()
		cmd := command(k.ctx, k.proxy.url(databaseURL), "", nil, args[1:]...)
		cmd.Env = append(cmd.Env, environ(args[0])...)
		var out, said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &said
		count := k.proxy.count()
		if messages > 0 { // the first run counts its messages to the end
			k.proxy.before(1+k.random.IntN(messages), func() { _ = cmd.Process.Kill() })
		}
		k.must(cmd.Start())
		err := cmd.Wait()
		switch {
		case messages == 0 && err != nil:
			k.Fatalf("%s: %v: %s", c.name, err, said.String())
		case messages == 0:
			messages = count()
		case err != nil && cmd.ProcessState.Exited():
			k.found(&k.wrong, "%s fails when it isn't killed: %s", c.name, said.String())
		case err != nil:
			done++
			k.total++
		}
		c.after(args[1:], out.String(), said.String())
	}
	k.counts = append(k.counts, fmt.Sprintf("%s %d", c.name, k.pick(c.short, c.long)))
}

// environment returns the keys, the first of a victim's arguments.
func (v *vault) environment() string {
	return "ENCRYPTION_KEY=" + v.key + " ENCRYPTION_KEY_PREVIOUS=" + strings.Join(v.previous, ",")
}

func environ(variables string) []string { return strings.Split(variables, " ") }

func (v *vault) does(args ...string) func() (string, []string) {
	return func() (string, []string) { return v.url, append([]string{v.environment()}, args...) }
}

func (v *vault) rotateVictim() victim {
	args := []string{"rotate", "--batch", "40"}
	return victim{"rotate", 2, 32, func() (string, []string) {
		v.newKey()
		return v.does(args...)()
	}, func([]string, string, string) {
		v.finish(args...)
		v.finish("verify")
		v.check()
	}}
}

func (v *vault) verifyVictim() victim {
	return victim{"verify", 1, 22, v.does("verify"), func([]string, string, string) {
		v.finish("verify")
		v.check()
	}}
}

func (v *vault) exportVictim() victim {
	args := []string{"credential", "export", "--reveal"}
	return victim{"export", 1, 22, v.does(args...), func(_ []string, out, _ string) {
		whole := v.finish(args...)
		if !strings.HasPrefix(whole, out) {
			v.found(&v.wrong, "an export that was killed wrote something else than the one after")
		}
		records, err := csv.NewReader(strings.NewReader(whole)).ReadAll()
		v.must(err)
		if len(records)-1 != len(v.rows) {
			v.found(&v.lost, "an export has %d rows, want %d", len(records)-1, len(v.rows))
		}
		for _, r := range records[1:] {
			got := strings.Join(r, ",")
			want, known := v.rows[findUUID(r)]
			if v.reads.Add(1); !known || !strings.Contains(got, ","+want.apiKey+","+want.secretKey+",") {
				v.found(&v.wrong, "an export has a row with other secrets")
			}
		}
	}}
}

func findUUID(record []string) uuid.UUID {
	for _, field := range record {
		if id, err := uuid.Parse(field); err == nil {
			return id
		}
	}
	return uuid.Nil
}

var importID = regexp.MustCompile(`import ([0-9a-f-]{36}) begins`)

func (v *vault) importVictim() victim {
	dir, n := v.TempDir(), 0
	var want map[stored]bool
	return victim{"import", 2, 30, func() (string, []string) {
		n++
		want = make(map[stored]bool)
		file := "user_id,credential_type,api_key,secret_key\n"
		for i := range 300 {
			user := v.users[i%len(v.users)]
			place := fmt.Sprintf("%s/import %d.%d", user, n, i)
			s := stored{user, "key/" + place, "secret/" + place}
			want[s] = true
			file += fmt.Sprintf("%s,alpaca,%s,%s\n", s.user, s.apiKey, s.secretKey)
		}
		path := filepath.Join(dir, fmt.Sprintf("%d.csv", n))
		v.must(os.WriteFile(path, []byte(file), 0o600))
		return v.does("credential", "import", path, "--batch", "40")()
	}, func(args []string, _, said string) {
		// Nothing is stored before the ID is printed.
		if id := importID.FindStringSubmatch(said); id != nil {
			args = append(args, "--continue", id[1])
		}
		v.finish(args...)
		v.takeImported(want)
		v.check()
	}}
}

// takeImported compares the rows that only the import stored with its file, and
// removes them.
func (v *vault) takeImported(want map[stored]bool) {
	v.Helper()
	db := v.pool("pgx", v.url, "suite")
	client := v.credentials(db)
	defer func() { _ = client.Close() }()
	rows, err := client.UserCredential.Query().All(v.ctx)
	v.must(err)
	var imported []uuid.UUID
	for _, row := range rows {
		if _, own := v.rows[row.ID]; own {
			continue
		}
		imported = append(imported, row.ID)
		apiKey, err1 := row.APIKey.Reveal()
		secretKey, err2 := row.SecretKey.Reveal()
		s := stored{row.UserID, apiKey, secretKey}
		if v.reads.Add(1); err1 != nil || err2 != nil || !want[s] {
			v.found(&v.wrong, "an imported row does not open, is there twice, or is another user's: %v, %v", err1,
				err2)
		}
		delete(want, s)
	}
	if len(want) > 0 {
		v.found(&v.lost, "%d rows of an import's file are not there", len(want))
	}
	_, err = client.UserCredential.Delete().Where(usercredential.IDIn(imported...)).Exec(v.ctx)
	v.must(err)
}

func (v *vault) stateVictim() victim {
	const column = "user_credentials.secret_key"
	state := "off"
	return victim{"state set", 1, 22, func() (string, []string) {
		// Two state changes must be a minute apart.
		v.exec("UPDATE credent_states SET changed_at = changed_at - interval '1 hour'")
		state = map[string]string{"off": "accept", "accept": "off"}[state]
		return v.does("state", "set", column, "binding", state)()
	}, func(args []string, _, _ string) {
		v.finish(args...)
		var got string
		v.value(&got, "SELECT string_agg(protection || ' ' || state, ',') FROM credent_states WHERE column_name = $1",
			column)
		if got != "binding "+state {
			v.found(&v.wrong, "the states are %q, want binding %s", got, state)
		}
		v.check()
	}}
}

func (v *vault) destroyVictim() victim {
	n := 0
	return victim{"tenant destroy", 2, 30, func() (string, []string) {
		n++
		return v.does("tenant", "destroy", v.users[n-1], "--yes")()
	}, func(args []string, _, _ string) {
		user := args[2]
		v.wholeOrGone(user)
		v.finish(args...)
		v.gone[user] = true
		v.check()
	}}
}

// wholeOrGone checks that a killed destruction has done nothing or everything.
func (v *vault) wholeOrGone(user string) {
	v.Helper()
	db := v.pool("pgx", v.url, "suite")
	client := v.credentials(db)
	defer func() { _ = client.Close() }()
	rows, err := client.UserCredential.Query().Where(usercredential.UserID(user)).All(v.ctx)
	v.must(err)
	open := 0
	for _, row := range rows {
		for _, s := range []credent.Secret{row.APIKey, row.SecretKey} {
			if _, err := s.Reveal(); err == nil {
				open++
			}
		}
	}
	if v.reads.Add(int64(len(rows))); open != 0 && open != 2*len(rows) {
		v.found(&v.wrong, "%d of %d secrets open after a destruction that was killed", open, 2*len(rows))
	}
}

// plainVault is a vault in its own database, with columns that accept
// plaintext.
func plainVault(tr *trial, server *pgserver.Server) *vault {
	tr.Helper()
	databaseURL, _, err := server.CreateDatabase(tr.ctx, "")
	tr.must(err)
	v := newVault(newWorld(tr, databaseURL), 30, 8)
	v.exec("ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_api_key_encrypted, " +
		"DROP CONSTRAINT user_credentials_secret_key_encrypted")
	return v
}

func (v *vault) encryptVictim() victim {
	args := []string{"encrypt", "--batch", "40"}
	return victim{"encrypt", 1, 26, func() (string, []string) {
		var ids, apiKeys, secretKeys []string
		for id, s := range v.rows {
			ids = append(ids, id.String())
			apiKeys, secretKeys = append(apiKeys, s.apiKey), append(secretKeys, s.secretKey)
		}
		v.exec("UPDATE user_credentials c SET api_key = p.a, secret_key = p.s FROM "+
			"unnest($1::uuid[], $2::text[], $3::text[]) p (id, a, s) WHERE c.id = p.id", ids, apiKeys, secretKeys)
		return v.does(args...)()
	}, func([]string, string, string) {
		v.finish(args...)
		v.finish("verify")
		v.check()
	}}
}

// migrateVictim migrates a new database each time.
func migrateVictim(tr *trial, server *pgserver.Server) victim {
	w := &world{trial: tr}
	v := &vault{world: w}
	v.key = keyring.GenerateKey()
	return victim{"migrate", 2, 26, func() (string, []string) {
		var err error
		v.url, _, err = server.CreateDatabase(tr.ctx, "")
		v.must(err)
		return v.does("migrate", "apply")()
	}, func([]string, string, string) {
		v.finish("migrate", "apply")
		v.finish("migrate", "check")
		v.finish("account", "add", "--user", "u-1", "--name", "Ada")
	}}
}

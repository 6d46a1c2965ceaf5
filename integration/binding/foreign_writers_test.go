package binding

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/rotate"
)

// foreignWriter stores a token in a row's api_key, bypassing Credent's driver.
type foreignWriter struct {
	setup string // SQL to run before
	query string // args: the row's ID and the token; or
	write func(t *testing.T, env *testdb.Env, id uuid.UUID, token string)
	// adds is set if the query adds a row, with its second argument as ID and
	// the other columns copied from the given row.
	adds bool
}

// copied are the columns that a writer copies from another row.
const copied = "user_account_id, user_id, credential_type, secret_key"

// viewTrigger makes a view writable, which SQLite doesn't do automatically.
const viewTrigger = "; CREATE TRIGGER foreign_keys_update INSTEAD OF UPDATE ON foreign_keys BEGIN " +
	"UPDATE user_credentials SET api_key = NEW.k WHERE id = NEW.i; END"

// writersOfBoth work on both databases.
var writersOfBoth = map[string]foreignWriter{
	"UPDATE":     {query: "UPDATE user_credentials SET api_key = $2 WHERE id = $1"},
	"WITH first": {query: "WITH x AS (SELECT 1) UPDATE user_credentials SET api_key = $2 WHERE id = $1"},
	"UPDATE FROM": {query: "UPDATE user_credentials SET api_key = $2 FROM user_accounts AS a " +
		"WHERE a.id = user_credentials.user_account_id AND user_credentials.id = $1"},
	"UPDATE of a list": {query: "UPDATE user_credentials SET (api_key, is_active) = ($2, false) WHERE id = $1"},
	"upsert": {query: "INSERT INTO user_credentials (id, " + copied + ", api_key) SELECT id, " + copied +
		", $2 FROM user_credentials " +
		"WHERE id = $1 ON CONFLICT (id) DO UPDATE SET api_key = excluded.api_key"},
	"INSERT SELECT": {adds: true, query: "INSERT INTO user_credentials (id, " + copied + ", api_key) " +
		"SELECT $3, " + copied + ", $2 FROM user_credentials WHERE id = $1"},
	"SQL of the client": {write: func(t *testing.T, env *testdb.Env, id uuid.UUID, token string) {
		t.Helper()
		query := env.Placeholders("UPDATE user_credentials SET api_key = $1 WHERE id = $2")
		if _, err := env.Client.ExecContext(t.Context(), query, token, id); err != nil {
			t.Fatal(err)
		}
	}},
}

var writersOfPostgres = map[string]foreignWriter{
	"a view": {
		setup: "CREATE VIEW foreign_keys AS SELECT id AS i, api_key AS k FROM user_credentials",
		query: "UPDATE foreign_keys SET k = $2 WHERE i = $1",
	},
	"a view of a view": {
		setup: "CREATE VIEW inner_keys AS SELECT * FROM user_credentials; CREATE VIEW outer_keys AS SELECT id, " +
			"api_key FROM inner_keys",
		query: "UPDATE outer_keys SET api_key = $2 WHERE id = $1",
	},
	"a view, upserted": {
		setup: "CREATE VIEW all_keys AS SELECT * FROM user_credentials",
		query: "INSERT INTO all_keys (id, " + copied + ", api_key) SELECT id, " + copied +
			", $2 FROM user_credentials " +
			"WHERE id = $1 ON CONFLICT (id) DO UPDATE SET api_key = excluded.api_key",
	},
	"MERGE": {query: "MERGE INTO user_credentials AS c USING (SELECT CAST($1 AS uuid) AS id) AS n ON c.id = n.id " +
		"WHEN MATCHED THEN UPDATE SET api_key = $2"},
	"MERGE that inserts": {adds: true, query: "MERGE INTO user_credentials AS c USING (SELECT CAST($3 AS uuid) AS " +
		"new, " + copied +
		" FROM user_credentials WHERE id = $1) AS n ON c.id = n.new WHEN NOT MATCHED THEN INSERT (id, " +
		copied + ", api_key) " +
		"VALUES (n.new, n.user_account_id, n.user_id, n.credential_type, n.secret_key, $2)"},
	"a data-modifying WITH": {query: "WITH x AS (UPDATE user_credentials SET api_key = $2 WHERE id = $1 RETURNING " +
		"id) SELECT id FROM x"},
	"a WITH that inserts": {adds: true, query: "WITH x AS (INSERT INTO user_credentials (id, " +
		copied + ", api_key) " +
		"SELECT CAST($3 AS uuid), " + copied + ", $2 FROM user_credentials WHERE id = $1 RETURNING id) SELECT id " +
		"FROM x"},
	"a function": {
		setup: "CREATE FUNCTION store(i uuid, k text) RETURNS void LANGUAGE plpgsql AS 'BEGIN EXECUTE ''UPDATE " +
			"user_credentials SET api_key = $1 WHERE id = $2'' USING k, i; END'",
		query: "SELECT store($1, $2)",
	},
	"COPY by psql": {adds: true, write: func(t *testing.T, env *testdb.Env, id uuid.UUID, token string) {
		t.Helper()
		var account, secretKey string
		env.Value(t, &account, "SELECT user_account_id FROM user_credentials WHERE user_id = 'u1' LIMIT 1")
		env.Value(t, &secretKey, "SELECT secret_key FROM user_credentials WHERE user_id = 'u1' LIMIT 1")
		cmd := exec.CommandContext(t.Context(), filepath.Join(testdb.Server(t).BinDir(), "psql"), "--quiet",
			"--set=ON_ERROR_STOP=1", "--dbname", env.URL,
			"--command", "COPY user_credentials (id, "+copied+", api_key) FROM STDIN")
		cmd.Stdin = strings.NewReader(strings.Join([]string{
			id.String(), account, "u1", "alpaca", secretKey,
			token,
		}, "\t") + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("psql: %v\n%s", err, out)
		}
	}},
}

var writersOfSQLite = map[string]foreignWriter{
	"a view": {
		setup: "CREATE VIEW foreign_keys AS SELECT id AS i, api_key AS k FROM user_credentials" + viewTrigger,
		query: "UPDATE foreign_keys SET k = $2 WHERE i = $1",
	},
	"INSERT OR REPLACE": {query: "INSERT OR REPLACE INTO user_credentials (id, " + copied + ", api_key) " +
		"SELECT id, " + copied + ", $2 FROM user_credentials WHERE id = $1"},
	"UPDATE OR REPLACE": {query: "UPDATE OR REPLACE user_credentials SET api_key = $2 WHERE id = $1"},
	"without recursive triggers": {
		setup: "PRAGMA recursive_triggers = 0", query: "UPDATE user_credentials SET api_key = $2 WHERE id = $1",
	},
	"with recursive triggers": {
		setup: "PRAGMA recursive_triggers = 1", query: "UPDATE user_credentials SET api_key = $2 WHERE id = $1",
	},
}

// foreignTokens are the tokens they store: one made with the keyring, and
// copies from another row, possibly bound, of the same or another user.
var foreignTokens = map[string]struct {
	token     func(t *testing.T, env *testdb.Env, own, others *ent.UserCredential) string
	plaintext string
	// bound is the error of revealing it if tokens are bound, and rotated the
	// error of a rotate.Run that binds.
	bound, rotated error
}{
	"a new token": {
		token: func(t *testing.T, env *testdb.Env, _, _ *ent.UserCredential) string {
			t.Helper()
			return testdb.Must(env.Ring.Encrypt("new"))
		},
		plaintext: "new", bound: credent.ErrWrongLocation,
	},
	"a token of the user's": {
		token: func(t *testing.T, env *testdb.Env, own, _ *ent.UserCredential) string {
			t.Helper()
			return env.Tokens(t)[own.ID].APIKey
		},
		plaintext: "api1",
	},
	"a token of another's": {
		token: func(t *testing.T, env *testdb.Env, _, others *ent.UserCredential) string {
			t.Helper()
			return env.Tokens(t)[others.ID].APIKey
		},
		plaintext: "another's", bound: credent.ErrWrongLocation, rotated: rotate.ErrQuarantined,
	},
}

// TestForeignWriters has writers that ignore blind indexes and bound tokens.
// Their token has its own digest or none, and opens where it belongs or is
// refused; rotate.Run then fills in missing digests.
func TestForeignWriters(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		env.DB.SetMaxOpenConns(4)
		writers := []map[string]foreignWriter{writersOfBoth, writersOfPostgres}
		if env.IsSQLite() {
			writers[1] = writersOfSQLite
		}
		plain, bound := env.Client, env.OnPool(env.IsBound()...)
		for _, all := range writers {
			for name, writer := range all {
				if writer.setup != "" {
					env.Exec(t, writer.setup)
				}
				for token := range foreignTokens {
					t.Run(name+", "+token, func(t *testing.T) {
						env.Client = plain
						tryForeign(t, env, writer, token, false)
					})
					t.Run(name+", "+token+", bound", func(t *testing.T) {
						env.Client = bound
						tryForeign(t, env, writer, token, true)
					})
				}
			}
		}
	})
}

// tryForeign lets a writer store a token in the first row, or in a new one.
func tryForeign(t *testing.T, env *testdb.Env, w foreignWriter, kind string, bound bool) {
	t.Helper()
	test := foreignTokens[kind]
	_, rows := env.Seed(t)
	others := env.Credential(t, env.Account(t, "another"), "another's", "secret")
	token := test.token(t, env, rows[1], others)
	id, added := rows[0].ID, uuid.New()
	args := []any{id, token}
	if w.adds {
		id, args = added, append(args, added)
	}
	if w.write != nil {
		w.write(t, env, id, token)
	} else {
		query := w.query
		if !env.IsSQLite() {
			query = strings.ReplaceAll(query, "SELECT $3,", "SELECT CAST($3 AS uuid),")
		}
		env.Exec(t, env.Placeholders(query), args...)
	}
	if stored := env.Tokens(t)[id].APIKey; stored != token {
		t.Fatalf("the row has %.9q…, not the written token", stored)
	}

	digest := hex.EncodeToString(testdb.Must(new(blindindex.Digester).Primary((*engine.Ring)(env.Ring),
		usercredential.APIKeyColumn, test.plaintext)))
	if got := env.Indexes(t)[id]; got != "" && got != digest {
		t.Errorf("the digest is of another plaintext")
	}
	if testdb.Found(t, env.Client, "api0")[id] {
		t.Error("the row is found by a plaintext that it doesn't hold")
	}
	wantError := test.bound
	if !bound {
		wantError = nil
	}
	checkForeign(t, env, id, test.plaintext, wantError)

	cfg := rotate.Config{}
	wantRotate := error(nil)
	if bound {
		cfg.States, wantRotate = testdb.InState(states.Binding, credent.Write), test.rotated
	}
	if report, err := rotate.Run(t.Context(), env.DB, env.Ring, cfg); !errors.Is(err, wantRotate) {
		t.Errorf("rotate: %+v, %v", report, err)
	}
	if wantRotate != nil {
		checkForeign(t, env, id, test.plaintext, wantError)
		return
	}
	checkForeign(t, env, id, test.plaintext, nil)
	if got := env.Indexes(t)[id]; got != digest {
		t.Errorf("after rotate the digest is %q", got)
	}
	if !testdb.Found(t, env.Client, test.plaintext)[id] {
		t.Error("after rotate the row isn't found")
	}
	for _, row := range rows[1:] {
		if !testdb.Found(t, env.Client, testdb.Reveal(t, row.APIKey))[row.ID] {
			t.Error("another row isn't found any more")
		}
	}
}

// checkForeign reveals a row's api_key, or fails with the wanted error.
func checkForeign(t *testing.T, env *testdb.Env, id uuid.UUID, plaintext string, want error) {
	t.Helper()
	got, err := env.Client.UserCredential.GetX(t.Context(), id).APIKey.Reveal()
	if !errors.Is(err, want) || err == nil && got != plaintext {
		t.Errorf("revealed %q, %v, want %q, %v", got, err, plaintext, want)
	}
}

// TestForeignPython uses the Python application as the writer, which encrypts
// on its own.
func TestForeignPython(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		for _, bound := range []bool{false, true} {
			cfg, want := rotate.Config{}, error(nil)
			if bound {
				env.Client = env.OnPool(env.IsBound()...)
				cfg.States, want = testdb.InState(states.Binding, credent.Write), credent.ErrWrongLocation
			}
			_, rows := env.Seed(t)
			written := []uuid.UUID{}
			if bound { // it can't update a row that it can't read
				cmd := exec.CommandContext(t.Context(), testdb.Python(), "../twin/twin.py", "read")
				cmd.Env = append(os.Environ(), "DATABASE_URL="+env.URL, "ENCRYPTION_KEY="+env.Key)
				if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "InvalidToken") {
					t.Errorf("Python reads bound tokens: %v\n%s", err, out)
				}
			} else {
				testdb.Twin(t, env.URL, env.Key, map[string]any{"api_key": "new"}, "update", rows[0].ID.String())
				written = append(written, rows[0].ID)
			}
			user := fmt.Sprint("python ", bound)
			testdb.Twin(t, env.URL, env.Key, []testdb.TwinAccount{{
				UserID: user, AccountName: "n",
				Credentials: []testdb.TwinCredential{
					{CredentialType: "alpaca", APIKey: "new", SecretKey: "secret"},
				},
			}}, "write")
			added := env.Client.UserCredential.Query().Where(usercredential.UserID(user)).OnlyIDX(t.Context())
			written = append(written, added)
			old, again := testdb.Found(t, env.Client, "api0"), testdb.Found(t, env.Client, "new")
			for _, id := range written {
				if old[id] || again[id] != (want == nil) { // it finds rows that open
					t.Errorf("found by the old key: %v, by the new one: %v", old, again)
				}
				checkForeign(t, env, id, "new", want)
			}
			if report, err := rotate.Run(t.Context(), env.DB, env.Ring, cfg); err != nil {
				t.Errorf("rotate: %+v, %v", report, err)
			}
			again = testdb.Found(t, env.Client, "new")
			for _, id := range written {
				checkForeign(t, env, id, "new", nil)
				if !again[id] {
					t.Errorf("after rotate, found %v", again)
				}
			}
		}
	})
}

// TestForeignPartitions has writers that name a partition of the table.
func TestForeignPartitions(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		if env.IsSQLite() {
			return // SQLite has no partitions
		}
		env.Exec(t, "CREATE TABLE parted (LIKE user_credentials INCLUDING DEFAULTS, PRIMARY KEY (id), "+
			"FOREIGN KEY (user_account_id) REFERENCES user_accounts ON DELETE CASCADE) PARTITION BY HASH (id)")
		env.Exec(t, "CREATE TABLE part PARTITION OF parted FOR VALUES WITH (MODULUS 1, REMAINDER 0)")
		env.Exec(t, "DROP TABLE user_credentials CASCADE")
		env.Exec(t, "ALTER TABLE parted RENAME TO user_credentials")
		for _, statement := range encrypted.IndexTriggers(dialect.Postgres, usercredential.APIKeyColumn) {
			env.Exec(t, statement)
		}
		plain, bound := env.Client, env.OnPool(env.IsBound()...)
		for name, writer := range map[string]foreignWriter{
			"UPDATE": {query: "UPDATE part SET api_key = $2 WHERE id = $1"},
			"INSERT": {adds: true, query: "INSERT INTO part (id, " + copied + ", api_key) " +
				"SELECT $3, " + copied + ", $2 FROM part WHERE id = $1"},
			"MERGE": {query: "MERGE INTO part AS c USING (SELECT CAST($1 AS uuid) AS id) AS n ON c.id = n.id " +
				"WHEN MATCHED THEN UPDATE SET api_key = $2"},
		} {
			for token := range foreignTokens {
				t.Run(name+", "+token, func(t *testing.T) {
					env.Client = plain
					tryForeign(t, env, writer, token, false)
				})
				t.Run(name+", "+token+", bound", func(t *testing.T) {
					env.Client = bound
					tryForeign(t, env, writer, token, true)
				})
			}
		}
	})
}

package integration

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
	"github.com/credent-go/credent/rotate"
)

// foreignWriter stores a token in api_key of a row, past Credent's driver.
type foreignWriter struct {
	setup string // SQL to run before
	query string // of the row's ID and the token; or
	write func(t *testing.T, env *environment, id uuid.UUID, token string)
	// adds means that it adds a row, whose ID is the second argument of the
	// query, with the other columns of the given one.
	adds bool
}

// copied are the columns that a writer copies from another row.
const copied = "user_account_id, user_id, credential_type, secret_key"

// viewTrigger makes a view writable, which on SQLite none is by itself.
const viewTrigger = "; CREATE TRIGGER foreign_keys_update INSTEAD OF UPDATE ON foreign_keys BEGIN " +
	"UPDATE user_credentials SET api_key = NEW.k WHERE id = NEW.i; END"

// writersOfBoth are what both databases know.
var writersOfBoth = map[string]foreignWriter{
	"UPDATE":     {query: "UPDATE user_credentials SET api_key = $2 WHERE id = $1"},
	"WITH first": {query: "WITH x AS (SELECT 1) UPDATE user_credentials SET api_key = $2 WHERE id = $1"},
	"UPDATE FROM": {query: "UPDATE user_credentials SET api_key = $2 FROM user_accounts AS a " +
		"WHERE a.id = user_credentials.user_account_id AND user_credentials.id = $1"},
	"UPDATE of a list": {query: "UPDATE user_credentials SET (api_key, is_active) = ($2, false) WHERE id = $1"},
	"upsert": {query: "INSERT INTO user_credentials (id, " + copied + ", api_key) SELECT id, " + copied + ", $2 FROM user_credentials " +
		"WHERE id = $1 ON CONFLICT (id) DO UPDATE SET api_key = excluded.api_key"},
	"INSERT SELECT": {adds: true, query: "INSERT INTO user_credentials (id, " + copied + ", api_key) " +
		"SELECT $3, " + copied + ", $2 FROM user_credentials WHERE id = $1"},
	"SQL of the client": {write: func(t *testing.T, env *environment, id uuid.UUID, token string) {
		t.Helper()
		query := env.placeholders("UPDATE user_credentials SET api_key = $1 WHERE id = $2")
		if _, err := env.client.ExecContext(t.Context(), query, token, id); err != nil {
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
		setup: "CREATE VIEW inner_keys AS SELECT * FROM user_credentials; CREATE VIEW outer_keys AS SELECT id, api_key FROM inner_keys",
		query: "UPDATE outer_keys SET api_key = $2 WHERE id = $1",
	},
	"a view, upserted": {
		setup: "CREATE VIEW all_keys AS SELECT * FROM user_credentials",
		query: "INSERT INTO all_keys (id, " + copied + ", api_key) SELECT id, " + copied + ", $2 FROM user_credentials " +
			"WHERE id = $1 ON CONFLICT (id) DO UPDATE SET api_key = excluded.api_key",
	},
	"MERGE": {query: "MERGE INTO user_credentials AS c USING (SELECT CAST($1 AS uuid) AS id) AS n ON c.id = n.id " +
		"WHEN MATCHED THEN UPDATE SET api_key = $2"},
	"MERGE that inserts": {adds: true, query: "MERGE INTO user_credentials AS c USING (SELECT CAST($3 AS uuid) AS new, " + copied +
		" FROM user_credentials WHERE id = $1) AS n ON c.id = n.new WHEN NOT MATCHED THEN INSERT (id, " + copied + ", api_key) " +
		"VALUES (n.new, n.user_account_id, n.user_id, n.credential_type, n.secret_key, $2)"},
	"a data-modifying WITH": {query: "WITH x AS (UPDATE user_credentials SET api_key = $2 WHERE id = $1 RETURNING id) SELECT id FROM x"},
	"a WITH that inserts": {adds: true, query: "WITH x AS (INSERT INTO user_credentials (id, " + copied + ", api_key) " +
		"SELECT CAST($3 AS uuid), " + copied + ", $2 FROM user_credentials WHERE id = $1 RETURNING id) SELECT id FROM x"},
	"a function": {
		setup: "CREATE FUNCTION store(i uuid, k text) RETURNS void LANGUAGE plpgsql AS 'BEGIN EXECUTE ''UPDATE user_credentials SET api_key = $1 " +
			"WHERE id = $2'' USING k, i; END'",
		query: "SELECT store($1, $2)",
	},
	"COPY by psql": {adds: true, write: func(t *testing.T, env *environment, id uuid.UUID, token string) {
		t.Helper()
		var account, secretKey string
		env.value(t, &account, "SELECT user_account_id FROM user_credentials WHERE user_id = 'u1' LIMIT 1")
		env.value(t, &secretKey, "SELECT secret_key FROM user_credentials WHERE user_id = 'u1' LIMIT 1")
		cmd := exec.CommandContext(t.Context(), filepath.Join(server.BinDir(), "psql"), "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", env.url,
			"--command", "COPY user_credentials (id, "+copied+", api_key) FROM STDIN")
		cmd.Stdin = strings.NewReader(strings.Join([]string{id.String(), account, "u1", "alpaca", secretKey, token}, "\t") + "\n")
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

// foreignTokens are what they store: a token of the keyring; and what they copy
// from another row of the user or of another user, which may be bound.
var foreignTokens = map[string]struct {
	token     func(t *testing.T, env *environment, own, others *ent.UserCredential) string
	plaintext string
	// bound is the error to reveal it with where tokens are bound, and rotated
	// the error of rotate.Run that binds.
	bound, rotated error
}{
	"a new token": {
		token: func(t *testing.T, env *environment, _, _ *ent.UserCredential) string {
			t.Helper()
			return must(env.ring.Encrypt("new"))
		},
		plaintext: "new", bound: credent.ErrWrongLocation,
	},
	"a token of the user's": {
		token: func(t *testing.T, env *environment, own, _ *ent.UserCredential) string {
			t.Helper()
			return env.tokens(t)[own.ID].APIKey
		},
		plaintext: "api1",
	},
	"a token of another's": {
		token: func(t *testing.T, env *environment, _, others *ent.UserCredential) string {
			t.Helper()
			return env.tokens(t)[others.ID].APIKey
		},
		plaintext: "another's", bound: credent.ErrWrongLocation, rotated: rotate.ErrQuarantined,
	},
}

// TestForeignWriters has writers that know nothing of blind indexes and of
// bound tokens. What they store has its own digest or none, and opens where it
// belongs or is refused; rotate.Run then fills in what is missing.
func TestForeignWriters(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, env *environment) {
		env.db.SetMaxOpenConns(4)
		writers := []map[string]foreignWriter{writersOfBoth, writersOfPostgres}
		if env.isSQLite() {
			writers[1] = writersOfSQLite
		}
		plain, bound := env.client, env.onPool(env.isBound()...)
		for _, all := range writers {
			for name, writer := range all {
				if writer.setup != "" {
					env.exec(t, writer.setup)
				}
				for token := range foreignTokens {
					t.Run(name+", "+token, func(t *testing.T) {
						env.client = plain
						env.tryForeign(t, writer, token, false)
					})
					t.Run(name+", "+token+", bound", func(t *testing.T) {
						env.client = bound
						env.tryForeign(t, writer, token, true)
					})
				}
			}
		}
	})
}

// tryForeign lets a writer store a token in the first row, or in a new one.
func (env *environment) tryForeign(t *testing.T, w foreignWriter, kind string, bound bool) {
	t.Helper()
	test := foreignTokens[kind]
	_, rows := env.seed(t)
	others := env.credential(t, env.account(t, "another"), "another's", "secret")
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
		if !env.isSQLite() {
			query = strings.ReplaceAll(query, "SELECT $3,", "SELECT CAST($3 AS uuid),")
		}
		env.exec(t, env.placeholders(query), args...)
	}
	if stored := env.tokens(t)[id].APIKey; stored != token {
		t.Fatalf("the row has %.9q…, not what was written", stored)
	}

	digest := hex.EncodeToString(must(new(blindindex.Digester).Primary((*engine.Ring)(env.ring), usercredential.APIKeyColumn, test.plaintext)))
	if got := env.indexes(t)[id]; got != "" && got != digest {
		t.Errorf("the digest is of another plaintext")
	}
	if found(t, env.client, "api0")[id] {
		t.Error("the row is found by what it doesn't hold")
	}
	wantError := test.bound
	if !bound {
		wantError = nil
	}
	env.checkForeign(t, id, test.plaintext, wantError)

	cfg := rotate.Config{}
	wantRotate := error(nil)
	if bound {
		cfg.States, wantRotate = inState(states.Binding, credent.Write), test.rotated
	}
	if report, err := rotate.Run(t.Context(), env.db, env.ring, cfg); !errors.Is(err, wantRotate) {
		t.Errorf("rotate: %+v, %v", report, err)
	}
	if wantRotate != nil {
		env.checkForeign(t, id, test.plaintext, wantError)
		return
	}
	env.checkForeign(t, id, test.plaintext, nil)
	if got := env.indexes(t)[id]; got != digest {
		t.Errorf("after rotate the digest is %q", got)
	}
	if !found(t, env.client, test.plaintext)[id] {
		t.Error("after rotate the row isn't found")
	}
	for _, row := range rows[1:] {
		if !found(t, env.client, reveal(t, row.APIKey))[row.ID] {
			t.Error("another row isn't found any more")
		}
	}
}

// checkForeign reveals a row's api_key, or fails with the wanted error.
func (env *environment) checkForeign(t *testing.T, id uuid.UUID, plaintext string, want error) {
	t.Helper()
	got, err := env.client.UserCredential.GetX(t.Context(), id).APIKey.Reveal()
	if !errors.Is(err, want) || err == nil && got != plaintext {
		t.Errorf("revealed %q, %v, want %q, %v", got, err, plaintext, want)
	}
}

// TestForeignPython has the Python application as the writer, which encrypts by
// itself.
func TestForeignPython(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, env *environment) {
		for _, bound := range []bool{false, true} {
			cfg, want := rotate.Config{}, error(nil)
			if bound {
				env.client = env.onPool(env.isBound()...)
				cfg.States, want = inState(states.Binding, credent.Write), credent.ErrWrongLocation
			}
			_, rows := env.seed(t)
			written := []uuid.UUID{}
			if bound { // a row that it can't read, it can't update either
				cmd := exec.CommandContext(t.Context(), python(), "twin/twin.py", "read")
				cmd.Env = append(os.Environ(), "DATABASE_URL="+env.url, "ENCRYPTION_KEY="+env.key)
				if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "InvalidToken") {
					t.Errorf("Python reads bound tokens: %v\n%s", err, out)
				}
			} else {
				twin(t, env.url, env.key, map[string]any{"api_key": "new"}, "update", rows[0].ID.String())
				written = append(written, rows[0].ID)
			}
			user := fmt.Sprint("python ", bound)
			twin(t, env.url, env.key, []twinAccount{{UserID: user, AccountName: "n", Credentials: []twinCredential{
				{CredentialType: "alpaca", APIKey: "new", SecretKey: "secret"},
			}}}, "write")
			added := env.client.UserCredential.Query().Where(usercredential.UserID(user)).OnlyIDX(t.Context())
			written = append(written, added)
			old, again := found(t, env.client, "api0"), found(t, env.client, "new")
			for _, id := range written {
				if old[id] || again[id] != (want == nil) { // it finds what opens
					t.Errorf("found by the old key: %v, by the new one: %v", old, again)
				}
				env.checkForeign(t, id, "new", want)
			}
			if report, err := rotate.Run(t.Context(), env.db, env.ring, cfg); err != nil {
				t.Errorf("rotate: %+v, %v", report, err)
			}
			again = found(t, env.client, "new")
			for _, id := range written {
				env.checkForeign(t, id, "new", nil)
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
	forEachDatabase(t, func(t *testing.T, env *environment) {
		if env.isSQLite() {
			return // it has no partitions
		}
		env.exec(t, "CREATE TABLE parted (LIKE user_credentials INCLUDING DEFAULTS, PRIMARY KEY (id), "+
			"FOREIGN KEY (user_account_id) REFERENCES user_accounts ON DELETE CASCADE) PARTITION BY HASH (id)")
		env.exec(t, "CREATE TABLE part PARTITION OF parted FOR VALUES WITH (MODULUS 1, REMAINDER 0)")
		env.exec(t, "DROP TABLE user_credentials CASCADE")
		env.exec(t, "ALTER TABLE parted RENAME TO user_credentials")
		for _, statement := range encrypted.IndexTriggers(dialect.Postgres, usercredential.APIKeyColumn) {
			env.exec(t, statement)
		}
		plain, bound := env.client, env.onPool(env.isBound()...)
		for name, writer := range map[string]foreignWriter{
			"UPDATE": {query: "UPDATE part SET api_key = $2 WHERE id = $1"},
			"INSERT": {adds: true, query: "INSERT INTO part (id, " + copied + ", api_key) " +
				"SELECT $3, " + copied + ", $2 FROM part WHERE id = $1"},
			"MERGE": {query: "MERGE INTO part AS c USING (SELECT CAST($1 AS uuid) AS id) AS n ON c.id = n.id " +
				"WHEN MATCHED THEN UPDATE SET api_key = $2"},
		} {
			for token := range foreignTokens {
				t.Run(name+", "+token, func(t *testing.T) {
					env.client = plain
					env.tryForeign(t, writer, token, false)
				})
				t.Run(name+", "+token+", bound", func(t *testing.T) {
					env.client = bound
					env.tryForeign(t, writer, token, true)
				})
			}
		}
	})
}

package store

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

// TestServerSeesNoPlaintext writes and reads secrets on every path while the
// server records everything: each statement with all parameters, statement
// statistics, and running statements.
func TestServerSeesNoPlaintext(t *testing.T) {
	t.Parallel()
	recorder, err := pgserver.Start(t.Context(), pgserver.Private(),
		pgserver.WithSetting("log_statement", "all"),
		pgserver.WithSetting("log_min_duration_statement", "0"),
		pgserver.WithSetting("log_parameter_max_length", "-1"),
		pgserver.WithSetting("log_parameter_max_length_on_error", "-1"),
		pgserver.WithSetting("log_error_verbosity", "verbose"),
		pgserver.WithSetting("shared_preload_libraries", "pg_stat_statements"),
		pgserver.WithSetting("pg_stat_statements.track", "all"),
		pgserver.WithSetting("track_activity_query_size", "100kB"),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := recorder.Stop(); err != nil {
			t.Error(err)
		}
	})
	for name, opts := range testdb.Drivers {
		url, _, err := recorder.CreateDatabase(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		db := testdb.OpenDB(t, url, opts...)
		if err := testopt.Apply(t.Context(), db); err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(t.Context(), "CREATE EXTENSION pg_stat_statements"); err != nil {
			t.Fatal(err)
		}
		ring, err := keyring.New(keyring.GenerateKey())
		if err != nil {
			t.Fatal(err)
		}
		var debug bytes.Buffer
		client := testdb.Open(t, url, append(opts, testopt.WithKeyring(ring))...)
		watched, stop := watchActivity(t, testdb.OpenDB(t, url), "pg_sleep")
		errs := useSecrets(t, client)
		errs = append(errs, useSecrets(t, debugTo(t, url, &debug, append(opts, testopt.WithKeyring(ring))...))...)
		for seen := false; !seen; {
			if _, err := db.ExecContext(t.Context(), "SELECT $1::text, pg_sleep(0.1)", testdb.Control); err != nil {
				t.Fatal(err)
			}
			select {
			case <-watched:
				seen = true
			default:
			}
		}
		activity := stop()

		for _, err := range errs {
			testdb.FindCanary(t, name+": error", fmt.Sprintf("%v %+v %#v", err, err, err))
		}
		if !strings.Contains(debug.String(), "user_credentials") {
			t.Errorf("%s: the debug log is empty", name)
		}
		testdb.FindCanary(t, name+": ent's debug log", debug.String())
		testdb.FindCanary(t, name+": pg_stat_activity", activity)
		var statements string
		if err := db.QueryRowContext(t.Context(), "SELECT string_agg(query, E'\\n') FROM pg_stat_statements").
			Scan(&statements); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(statements, "user_credentials") {
			t.Errorf("%s: pg_stat_statements has none of our statements", name)
		}
		testdb.FindCanary(t, name+": pg_stat_statements", statements)
	}
	log, err := os.ReadFile(recorder.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), testdb.Control); n < len(testdb.Drivers) {
		t.Errorf("the server's log contains the control %d times, so it doesn't show parameters", n)
	}
	if n := strings.Count(string(log), "gAAAA"); n < 20 {
		t.Errorf("the log has %d tokens", n)
	}
	testdb.FindCanary(t, "server log", string(log))
}

// debugTo returns a client with a debug log in a buffer.
func debugTo(t *testing.T, url string, to *bytes.Buffer, opts ...testopt.Option) *ent.Client {
	t.Helper()
	db, d, err := testopt.OpenDB(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	client := testdb.Must(testopt.FromDriver(entsql.OpenDB(d, db), opts, ent.Debug(), ent.Log(func(v ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(to, v...)
		for _, arg := range v {
			fmt.Fprintf(to, "%v %+v %#v\n", arg, arg, arg)
		}
	})))
	t.Cleanup(func() { testdb.CloseAll(t, client) })
	return client
}

// watchActivity samples pg_stat_activity until stop is called, which returns
// everything it saw. The channel is closed when it sees a statement with the
// given text.
func watchActivity(t *testing.T, db *sql.DB, text string) (watched <-chan struct{}, stop func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	saw, all := make(chan struct{}), make(chan string, 1)
	go func() {
		var seen strings.Builder
		once := sync.OnceFunc(func() { close(saw) })
		for ctx.Err() == nil {
			var queries sql.NullString
			if err := db.QueryRowContext(ctx, "SELECT string_agg(query, E'\\n') FROM pg_stat_activity WHERE pid <> "+
				"pg_backend_pid()").
				Scan(&queries); err != nil {
				break
			}
			seen.WriteString(queries.String)
			if strings.Contains(queries.String, text) {
				once()
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
		all <- seen.String()
	}()
	return saw, func() string {
		cancel()
		return <-all
	}
}

// useSecrets writes and reads secrets with the canary on every path, successful
// or failing, and returns the errors.
func useSecrets(t *testing.T, client *ent.Client) (errs []error) {
	t.Helper()
	ctx := t.Context()
	secret := func(s string) credent.Secret { return credent.NewSecret(testdb.Canary + s) }
	account := client.UserAccount.Create().SetUserID(fmt.Sprintf("u%d", time.Now().UnixNano())).
		SetAccountName("n").SaveX(ctx)
	create := func(i int) *ent.UserCredentialCreate {
		return client.UserCredential.Create().SetAccount(account).SetUserID(account.UserID).SetCredentialType("alpaca").
			SetAPIKey(secret(fmt.Sprint(i))).SetSecretKey(secret(" secret"))
	}
	failed := func(err error) {
		t.Helper()
		if err == nil {
			t.Error("a statement that should fail succeeded")
		}
		errs = append(errs, err)
	}
	one := create(0).SaveX(ctx)
	client.UserCredential.CreateBulk(create(1), create(2)).SaveX(ctx)
	one.Update().SetAPIKey(secret("new")).ExecX(ctx)
	create(3).SetID(one.ID).OnConflictColumns(usercredential.FieldID).UpdateNewValues().ExecX(ctx)
	create(4).SetID(one.ID).OnConflictColumns(usercredential.FieldID).Update(func(u *ent.UserCredentialUpsert) {
		u.SetAPIKey(secret("upserted"))
	}).ExecX(ctx)
	modified := func(secret any) func(u *entsql.UpdateBuilder) {
		return func(u *entsql.UpdateBuilder) { u.Set(usercredential.FieldSecretKey, secret) }
	}
	modifying := encrypted.At(secret("modified"), usercredential.SecretKeyColumn, account.UserID)
	one.Update().Modify(modified(modifying)).ExecX(ctx)
	executed := func(secret, digest any) error {
		_, err := client.ExecContext(ctx, "UPDATE user_credentials SET api_key = $1, api_key_index = $2 WHERE id = $3",
			secret, digest, one.ID)
		return err
	}
	exec, digest := encrypted.At(secret("exec"), usercredential.APIKeyColumn,
		account.UserID), encrypted.DigestOf(secret("exec"), usercredential.APIKeyColumn, nil)
	if err := executed(exec, digest); err != nil {
		t.Error(err)
	}
	read := account.QueryCredentials().AllX(ctx)
	for _, c := range read {
		if got := testdb.Reveal(t, c.APIKey); !strings.HasPrefix(got, testdb.Canary) {
			t.Errorf("revealed %q", got)
		}
	}
	failed(one.Update().Modify(modified(secret("bare"))).Exec(ctx))
	failed(one.Update().Modify(modified(map[string]any{"a": secret("hidden")})).Exec(ctx))
	failed(executed(secret("bare"), nil))
	failed(executed(exec, nil))
	failed(executed(exec, encrypted.DigestOf(secret("other"), usercredential.APIKeyColumn, nil)))
	failed(create(5).SetID(one.ID).Exec(ctx))                                  // duplicate key
	failed(create(6).SetAPIKey(secret(strings.Repeat("x", 400))).Exec(ctx))    // too long
	failed(create(7).SetCredentialType(strings.Repeat("x", 60)).Exec(ctx))     // validator
	failed(create(8).SetSecretKey(credent.Secret{}).Exec(ctx))                 // NOT NULL
	failed(create(9).SetUserID("another's").Exec(ctx))                         // trigger
	failed(client.UserCredential.Update().SetAPIKey(secret("many")).Exec(ctx)) // many rows
	_, err := client.ExecContext(ctx, "SELECT $1::text::int, api_key FROM user_credentials", secret("cast"))
	failed(err)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	failed(create(10).Exec(cancelled))
	return errs
}

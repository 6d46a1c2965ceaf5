package copying

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
)

// forEachCopy runs a test for both ways in which Copy sends rows: by COPY over
// pgx, and by INSERT over lib/pq.
func forEachCopy(t *testing.T, test func(t *testing.T, env *testdb.Env)) {
	t.Helper()
	testdb.ForEachDriver(t, test)
}

func copyInto(t *testing.T, env *testdb.Env, rows iter.Seq2[credent.CopyRow, error], cfg credent.CopyConfig,
	opts ...testopt.Option,
) (int64, error) {
	t.Helper()
	return testopt.Copy(t.Context(), env.DB, rows, cfg, append(opts, testopt.WithKeyring(env.Ring))...)
}

func countOf(t *testing.T, env *testdb.Env) (n int) {
	t.Helper()
	env.Value(t, &n, "SELECT count(*) FROM user_credentials")
	return n
}

// TestCopy compares the rows that Copy and Create store.
func TestCopy(t *testing.T) {
	t.Parallel()
	forEachCopy(t, func(t *testing.T, env *testdb.Env) {
		account := env.Account(t, "u1")
		expires := time.Date(2027, 1, 31, 17, 30, 0, 123456789, time.FixedZone("", 3600))
		rows := testdb.CopyRows(1203, "u1")
		rows[0].ExpiresAt, rows[0].Inactive = &expires, true
		rows[1].UserAccountID, rows[1].UserID = account.ID, ""
		rows[2].UserAccountID = account.ID
		rows[3].APIKey, rows[3].SecretKey = credent.NewSecret(""), credent.NewSecret(strings.Repeat("x", 303))
		var progress []int64
		n, err := copyInto(t, env, testdb.Sequence(rows...), credent.CopyConfig{
			Batch:    600,
			Progress: func(n int64) { progress = append(progress, n) },
		})
		if n != 1203 || err != nil {
			t.Fatalf("got %d rows, %v", n, err)
		}
		if diff := cmp.Diff([]int64{600, 1200, 1203}, progress); diff != "" {
			t.Errorf("progress:\n%s", diff)
		}
		stored := make(map[uuid.UUID]*ent.UserCredential)
		for _, c := range env.Client.UserCredential.Query().AllX(t.Context()) {
			stored[c.ID] = c
		}
		for i, row := range rows {
			c := stored[row.ID]
			if c == nil {
				t.Fatalf("row %d is not stored", i)
			}
			if c.UserID != "u1" || c.UserAccountID != account.ID || c.CredentialType != "alpaca" ||
				c.IsActive == row.Inactive {
				t.Errorf("row %d: got %v", i, c)
			}
			if !c.APIKey.Equal(row.APIKey) || !c.SecretKey.Equal(row.SecretKey) {
				t.Errorf("row %d has other secrets", i)
			}
			if age := time.Since(c.CreatedAt); age < 0 || age > time.Minute ||
				!c.CreatedAt.Equal(c.UpdatedAt) && c.UpdatedAt.Before(c.CreatedAt) {
				t.Errorf("row %d: created %v, updated %v", i, c.CreatedAt, c.UpdatedAt)
			}
		}
		if got, want := stored[rows[0].ID].ExpiresAt, expires.UTC().Truncate(time.Microsecond); got == nil ||
			!got.Equal(want) {
			t.Errorf("expires: got %v, want %v", got, want)
		}
		var tokens int
		env.Value(t, &tokens, "SELECT count(DISTINCT api_key) + count(DISTINCT secret_key) FROM user_credentials "+
			"WHERE api_key LIKE 'gAAAA%' AND secret_key LIKE 'gAAAA%'")
		if tokens != 2*1203 {
			t.Errorf("got %d tokens, want two for each row", tokens)
		}
	})
}

// TestCopyRefuses has rows that a Create refuses: Copy returns the same error
// with the row's position, and stores the batches before it.
func TestCopyRefuses(t *testing.T) {
	t.Parallel()
	forEachCopy(t, func(t *testing.T, env *testdb.Env) {
		account := env.Account(t, "u1")
		taken := env.Credential(t, account, "a", "b")
		for name, test := range map[string]struct {
			change func(*credent.CopyRow)
			is     func(error) bool
		}{
			"too long": {func(r *credent.CopyRow) {
				r.APIKey = credent.NewSecret("PLAIN" + strings.Repeat("x",
					300))
			}, isError(credent.ErrTooLong)},
			"marker": {
				func(r *credent.CopyRow) { r.SecretKey = credent.NewSecret("[REDACTED]") },
				isError(credent.ErrRedacted),
			},
			"not UTF-8": {
				func(r *credent.CopyRow) { r.APIKey = credent.NewSecret("PLAIN\xff") },
				isError(credent.ErrNotText),
			},
			"absent":  {func(r *credent.CopyRow) { r.APIKey = credent.Secret{} }, ent.IsValidationError},
			"no type": {func(r *credent.CopyRow) { r.CredentialType = "" }, ent.IsValidationError},
			"long type": {
				func(r *credent.CopyRow) { r.CredentialType = strings.Repeat("x", 51) },
				ent.IsValidationError,
			},
			"no account": {func(r *credent.CopyRow) { r.UserID = "" }, ent.IsValidationError},
			"type with NUL": {
				func(r *credent.CopyRow) { r.CredentialType = "al\x00paca" },
				func(err error) bool { return err != nil },
			},
			"type not UTF-8": {
				func(r *credent.CopyRow) { r.CredentialType = "al\xffpaca" },
				func(err error) bool { return err != nil },
			},
			"user with NUL":  {func(r *credent.CopyRow) { r.UserID = "u\x001" }, ent.IsNotFound},
			"user not UTF-8": {func(r *credent.CopyRow) { r.UserID = "u\xff1" }, ent.IsNotFound},
			"unknown user":   {func(r *credent.CopyRow) { r.UserID = "u9" }, ent.IsNotFound},
			"unknown account": {func(r *credent.CopyRow) {
				r.UserID, r.UserAccountID = "", uuid.New()
			}, ent.IsNotFound},
			"unknown account of a user": {
				func(r *credent.CopyRow) { r.UserAccountID = uuid.New() },
				ent.IsConstraintError,
			},
			"another's account": {func(r *credent.CopyRow) {
				r.UserID, r.UserAccountID = "u2", account.ID
			}, isError(credent.ErrTenantMismatch)},
			"the same key": {func(r *credent.CopyRow) { r.ID = taken.ID }, ent.IsConstraintError},
		} {
			t.Run(name, func(t *testing.T) {
				before := countOf(t, env)
				rows := testdb.CopyRows(1500, "u1")
				test.change(&rows[1233])
				n, err := copyInto(t, env, testdb.Sequence(rows...), credent.CopyConfig{Batch: 500})
				var of *credent.CopyError
				if !errors.As(err, &of) || of.Row != 1234 || !test.is(err) {
					t.Fatalf("got %v", err)
				}
				if text := fmt.Sprintf("%v %+v", err, err); strings.Contains(text, "PLAIN") ||
					strings.Contains(text, "gAAAA") {
					t.Errorf("the error shows a secret: %s", text)
				}
				if got := countOf(t, env) - before; n != 1000 || got != 1000 {
					t.Errorf("stored %d, says %d, want 1000", got, n)
				}
				// Copy can continue after the stored rows.
				rows[1233] = testdb.CopyRows(1, "u1")[0]
				if n, err := copyInto(t, env, testdb.Sequence(rows[n:]...), credent.CopyConfig{}); n != 500 ||
					err != nil {
					t.Errorf("continue: got %d, %v", n, err)
				}
			})
		}
	})
}

func isError(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

// TestCopyErrorsAreACreates compares the error texts of Copy and Create.
func TestCopyErrorsAreACreates(t *testing.T) {
	t.Parallel()
	forEachCopy(t, func(t *testing.T, env *testdb.Env) {
		account := env.Account(t, "u1")
		taken := env.Credential(t, account, "a", "b")
		for name, change := range map[string]func(*credent.CopyRow){
			"too long":          func(r *credent.CopyRow) { r.APIKey = credent.NewSecret(strings.Repeat("x", 304)) },
			"no type":           func(r *credent.CopyRow) { r.CredentialType = "" },
			"another's account": func(r *credent.CopyRow) { r.UserID = "u2" },
			"the same key":      func(r *credent.CopyRow) { r.ID = taken.ID },
		} {
			row := testdb.CopyRows(1, "u1")[0]
			row.UserAccountID = account.ID
			change(&row)
			create := env.Client.UserCredential.Create().SetID(row.ID).SetUserAccountID(row.UserAccountID).
				SetUserID(row.UserID).
				SetCredentialType(row.CredentialType).SetAPIKey(row.APIKey).SetSecretKey(row.SecretKey)
			want := create.Exec(t.Context())
			_, got := copyInto(t, env, testdb.Sequence(row), credent.CopyConfig{})
			if want == nil || got == nil || got.Error() != "credent: copy: row 1: "+want.Error() {
				t.Errorf("%s:\n got %v\nwant …%v", name, got, want)
			}
		}
	})
}

// TestCopyAtomic stores all rows or none.
func TestCopyAtomic(t *testing.T) {
	t.Parallel()
	forEachCopy(t, func(t *testing.T, env *testdb.Env) {
		env.Account(t, "u1")
		rows := testdb.CopyRows(1200, "u1")
		cfg := credent.CopyConfig{Batch: 500, Atomic: true}
		bad := slices.Clone(rows)
		bad[1199].ID = rows[0].ID
		n, err := copyInto(t, env, testdb.Sequence(bad...), cfg)
		if got := countOf(t, env); n != 0 || !ent.IsConstraintError(err) || got != 0 {
			t.Fatalf("stored %d, says %d, %v", got, n, err)
		}
		n, err = copyInto(t, env, testdb.Sequence(rows...), cfg)
		if got := countOf(t, env); n != 1200 || err != nil || got != 1200 {
			t.Fatalf("stored %d, says %d, %v", got, n, err)
		}
	})
}

// TestCopyLeavesOut has refused rows, and a caller that wants to store the
// others.
func TestCopyLeavesOut(t *testing.T) {
	t.Parallel()
	forEachCopy(t, func(t *testing.T, env *testdb.Env) {
		env.Account(t, "u1")
		rows := testdb.CopyRows(30, "u1")
		rows[4].CredentialType = ""
		rows[17].UserID = "u9"
		broken := errors.New("line 30 is broken")
		all := func(yield func(credent.CopyRow, error) bool) {
			for i, row := range rows {
				var err error
				if i == 29 {
					err = broken
				}
				if !yield(row, err) {
					return
				}
			}
		}
		var refused []int64
		cfg := credent.CopyConfig{Batch: 10, Refused: func(e *credent.CopyError) bool {
			refused = append(refused, e.Row)
			return true
		}}
		dry := cfg
		dry.DryRun = true
		n, err := copyInto(t, env, all, dry)
		if got := countOf(t, env); n != 27 || err != nil || got != 0 {
			t.Fatalf("dry run: stored %d, says %d, %v", got, n, err)
		}
		if diff := cmp.Diff([]int64{5, 18, 30}, refused); diff != "" {
			t.Errorf("dry run refused:\n%s", diff)
		}
		refused = nil
		n, err = copyInto(t, env, all, cfg)
		if got := countOf(t, env); n != 27 || err != nil || got != 27 {
			t.Fatalf("stored %d, says %d, %v", got, n, err)
		}
		if diff := cmp.Diff([]int64{5, 18, 30}, refused); diff != "" {
			t.Errorf("refused:\n%s", diff)
		}
		// The error names the row that the database refused, even if other rows
		// were left out before it.
		again := slices.Clone(rows[:10])
		for i := range again {
			again[i].ID = uuid.New()
		}
		again[7].ID = rows[0].ID
		_, err = copyInto(t, env, testdb.Sequence(again...), cfg)
		var of *credent.CopyError
		if !errors.As(err, &of) || of.Row != 8 || !ent.IsConstraintError(err) {
			t.Errorf("got %v, want a constraint error of row 8", err)
		}
		// Without Refused, an error of the sequence stops it.
		if _, err := copyInto(t, env, all,
			credent.CopyConfig{Refused: func(e *credent.CopyError) bool { return e.Row != 30 }}); !errors.Is(err,
			broken) {
			t.Errorf("got %v", err)
		}
	})
}

// TestCopySequenceFails stores the rows before the error.
func TestCopySequenceFails(t *testing.T) {
	t.Parallel()
	forEachCopy(t, func(t *testing.T, env *testdb.Env) {
		env.Account(t, "u1")
		broken := errors.New("line 24 is broken")
		rows := func(yield func(credent.CopyRow, error) bool) {
			for _, row := range testdb.CopyRows(23, "u1") {
				if !yield(row, nil) {
					return
				}
			}
			yield(credent.CopyRow{}, broken)
		}
		n, err := copyInto(t, env, rows, credent.CopyConfig{Batch: 10})
		var of *credent.CopyError
		if got := countOf(t, env); n != 23 || got != 23 || !errors.Is(err, broken) ||
			!errors.As(err, &of) || of.Row != 24 {
			t.Errorf("stored %d, says %d, %v", got, n, err)
		}
	})
}

// TestCopyOptions has formats, an audit log, and a cancelled context, after
// which the pool still works.
func TestCopyOptions(t *testing.T) {
	t.Parallel()
	forEachCopy(t, func(t *testing.T, env *testdb.Env) {
		env.Account(t, "u1")
		rows := testdb.CopyRows(20, "u1")
		_, err := copyInto(t, env, testdb.Sequence(rows...), credent.CopyConfig{}, testopt.WithFormats())
		var of *credent.CopyError
		if !errors.Is(err, credent.ErrFormat) || !errors.As(err, &of) || of.Row != 1 {
			t.Errorf("formats: got %v", err)
		}
		var log bytes.Buffer
		logger := slog.New(slog.NewJSONHandler(&log, nil))
		if _, err := copyInto(t, env, testdb.Sequence(rows[:10]...), credent.CopyConfig{},
			testopt.WithFormatWarnings(logger)); err != nil {
			t.Errorf("warnings: got %v", err)
		}
		if n := strings.Count(log.String(), "credent format"); n != 10 {
			t.Errorf("got %d warnings, want 10", n)
		}
		log.Reset()
		ctx := credent.WithActor(t.Context(), "loader")
		if _, err := testopt.Copy(ctx, env.DB, testdb.Sequence(rows[10:]...), credent.CopyConfig{Batch: 4},
			testopt.WithKeyring(env.Ring), testopt.WithAudit(logger)); err != nil {
			t.Fatal(err)
		}
		if text := log.String(); strings.Count(text, `"operation":"create"`) != 3 || strings.Count(text, `"actor":"loader"`) != 3 ||
			!strings.Contains(text, rows[10].ID.String()) || !strings.Contains(text, rows[19].ID.String()) ||
			strings.Contains(text, "PLAIN") {
			t.Errorf("audit: got %s", text)
		}

		ctx, cancel := context.WithCancel(t.Context())
		endless := func(yield func(credent.CopyRow, error) bool) {
			for {
				if !yield(testdb.CopyRows(1, "u1")[0], nil) {
					return
				}
			}
		}
		before := countOf(t, env)
		n, err := testopt.Copy(ctx, env.DB, endless, credent.CopyConfig{Batch: 7, Progress: func(n int64) {
			if n > 20 {
				cancel()
			}
		}}, testopt.WithKeyring(env.Ring))
		if got := countOf(t, env) - before; !errors.Is(err, context.Canceled) || n != 21 || got != 21 {
			t.Errorf("cancelled: stored %d, says %d, %v", got, n, err)
		}
	})
}

// TestCopyAsService copies as a member of credent_app, for which Postgres
// refuses COPY: rows are the user's own or refused.
func TestCopyAsService(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		db := testdb.OpenDB(t, s.ServiceURL, s.Opts...)
		ctx := credent.WithUser(t.Context(), "u1")
		if n, err := testopt.Copy(ctx, db, testdb.Sequence(testdb.CopyRows(700, "u1")...), credent.CopyConfig{},
			s.Opts...); n != 700 || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
		if n := s.App.UserCredential.Query().Where(usercredential.UserID("u1")).CountX(ctx); n != 702 {
			t.Errorf("got %d rows, want 702", n)
		}
		// Another user's account is invisible, and can't be named.
		if _, err := testopt.Copy(ctx, db, testdb.Sequence(testdb.CopyRows(1, "u2")...), credent.CopyConfig{},
			s.Opts...); !ent.IsNotFound(err) {
			t.Errorf("another's user_id: got %v", err)
		}
		row := testdb.CopyRows(1, "u2")[0]
		row.UserAccountID = s.Accounts["u2"].ID
		if _, err := testopt.Copy(ctx, db, testdb.Sequence(row), credent.CopyConfig{}, s.Opts...); err == nil {
			t.Error("another user's account accepted a credential")
		}
		// Without a user, nothing is stored.
		if _, err := testopt.Copy(t.Context(), db, testdb.Sequence(testdb.CopyRows(1, "u1")...), credent.CopyConfig{},
			s.Opts...); !ent.IsNotFound(err) {
			t.Errorf("no user: got %v", err)
		}
		var user string
		if err := db.QueryRowContext(t.Context(), "SELECT coalesce(current_setting('app.user_id', true), '')").
			Scan(&user); err != nil || user != "" {
			t.Errorf("the connection keeps user %q, %v", user, err)
		}
	})
}

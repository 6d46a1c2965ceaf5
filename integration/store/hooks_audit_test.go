package store

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
)

// auditRecord is a record without time and message.
type auditRecord struct {
	Level     string   `json:"level"`
	Actor     string   `json:"actor"`
	Operation string   `json:"operation"`
	Entity    string   `json:"entity"`
	IDs       []string `json:"ids"`
	Fields    string   `json:"fields"`
	Error     string   `json:"error"`
}

// auditOf returns the records logged since the last call.
func auditOf(t *testing.T, log *bytes.Buffer) (records []auditRecord) {
	t.Helper()
	lines := bufio.NewScanner(bytes.NewReader(log.Bytes()))
	for lines.Scan() {
		var r auditRecord
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	log.Reset()
	return records
}

const (
	createFields = "is_active,created_at,updated_at,user_account_id,user_id,credential_type,api_key,secret_key"
	canaryUser   = "CANARYUSER"
)

func TestAudit(t *testing.T) {
	t.Parallel()
	forEachStore(t, func(t *testing.T, s *store) {
		var log, everything bytes.Buffer
		handler := slog.NewJSONHandler(&log, nil)
		client := s.with(t, testopt.WithAudit(slog.New(handler)))
		ctx := credent.WithActor(t.Context(), "alice")
		// records compares the records since the last call, ignoring IDs that
		// want doesn't name.
		records := func(what string, want ...auditRecord) {
			t.Helper()
			everything.Write(log.Bytes())
			got := auditOf(t, &log)
			for i := range want {
				if i < len(got) && want[i].IDs == nil {
					want[i].IDs = got[i].IDs
				}
				if want[i].Level == "" {
					want[i].Level = "INFO"
				}
				if i < len(got) && want[i].Error != "" && strings.Contains(got[i].Error, want[i].Error) {
					want[i].Error = got[i].Error
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", what, diff)
			}
		}
		secret := func(s string) credent.Secret { return credent.NewSecret(testdb.Canary + s) }
		create := func(accountID [16]byte) *ent.UserCredentialCreate {
			return client.UserCredential.Create().SetUserAccountID(accountID).SetCredentialType("CANARYTYPE").
				SetAPIKey(secret("key")).SetSecretKey(secret("secret"))
		}

		account := client.UserAccount.Create().SetUserID(canaryUser).SetAccountName("CANARYNAME").SaveX(ctx)
		records("account", auditRecord{
			Actor: "alice", Operation: "create", Entity: "account", IDs: []string{account.ID.String()},
			Fields: "is_active,created_at,updated_at,user_id,account_name",
		})

		one := create(account.ID).SaveX(ctx)
		records("create", auditRecord{
			Actor: "alice", Operation: "create", Entity: "credential",
			IDs: []string{one.ID.String()}, Fields: createFields,
		})

		// No actor and no user.
		one.Update().SetAPIKey(secret("new")).ClearExpiresAt().ExecX(t.Context())
		client.UserCredential.UpdateOneID(one.ID).SetIsActive(false).SetSecretKey(secret("newer")).ExecX(t.Context())
		records("update one",
			auditRecord{
				Operation: "update", Entity: "credential", IDs: []string{one.ID.String()},
				Fields: "updated_at,api_key,expires_at",
			},
			auditRecord{
				Operation: "update", Entity: "credential", IDs: []string{one.ID.String()},
				Fields: "is_active,updated_at,secret_key",
			})

		bulk := client.UserCredential.CreateBulk(create(account.ID), create(account.ID)).SaveX(ctx)
		everything.Write(log.Bytes())
		got := auditOf(t, &log)
		var ids []string
		for _, r := range got {
			if r.Operation != "create" || r.Entity != "credential" || r.Fields != createFields {
				t.Errorf("bulk: %+v", r)
			}
			ids = append(ids, r.IDs...)
		}
		want := []string{bulk[0].ID.String(), bulk[1].ID.String()}
		slices.Sort(ids)
		slices.Sort(want)
		if diff := cmp.Diff(want, ids); diff != "" {
			t.Errorf("bulk: %s", diff)
		}

		// An existing row keeps its ID.
		create(account.ID).SetID(one.ID).OnConflictColumns("id").UpdateNewValues().ExecX(ctx)
		records("upsert", auditRecord{
			Actor: "alice", Operation: "create", Entity: "credential",
			IDs: []string{one.ID.String()}, Fields: createFields,
		})
		client.UserAccount.Create().SetUserID(canaryUser).SetAccountName("CANARYAGAIN").OnConflictColumns("user_id").
			UpdateNewValues().ExecX(ctx)
		records("upsert by user_id", auditRecord{
			Actor: "alice", Operation: "create", Entity: "account", IDs: []string{account.ID.String()},
			Fields: "is_active,created_at,updated_at,user_id,account_name",
		})

		client.UserCredential.Update().Where(usercredential.IDIn(bulk[0].ID)).
			SetCredentialType("CANARYOTHER").ExecX(ctx)
		client.UserCredential.Update().Where(usercredential.CredentialType("nothing")).SetIsActive(false).ExecX(ctx)
		records("update",
			auditRecord{
				Actor: "alice", Operation: "update", Entity: "credential", IDs: []string{bulk[0].ID.String()},
				Fields: "updated_at,credential_type",
			},
			auditRecord{
				Actor: "alice", Operation: "update", Entity: "credential", IDs: []string{},
				Fields: "is_active,updated_at",
			})

		account.Update().RemoveCredentials(bulk[0]).ExecX(ctx)
		records("remove",
			auditRecord{Actor: "alice", Operation: "delete", Entity: "credential", IDs: []string{bulk[0].ID.String()}},
			auditRecord{
				Actor: "alice", Operation: "update", Entity: "account", IDs: []string{account.ID.String()},
				Fields: "updated_at",
			})

		client.UserCredential.DeleteOne(bulk[1]).ExecX(ctx)
		client.UserCredential.Delete().Where(usercredential.CredentialType("nothing")).ExecX(ctx)
		records("delete",
			auditRecord{Actor: "alice", Operation: "delete", Entity: "credential", IDs: []string{bulk[1].ID.String()}},
			auditRecord{Actor: "alice", Operation: "delete", Entity: "credential", IDs: []string{}})

		// A refused write is recorded with the reason.
		if err := create(account.ID).SetUserID("CANARYWRONG").Exec(ctx); !errors.Is(err, credent.ErrTenantMismatch) {
			t.Error(err)
		}
		if err := client.UserAccount.Create().SetUserID(canaryUser).SetAccountName("CANARYTWICE").
			Exec(ctx); !ent.IsConstraintError(err) {
			t.Error(err)
		}
		if err := create(account.ID).SetAPIKey(secret(strings.Repeat("x", 400))).
			Exec(ctx); !errors.Is(err, credent.ErrTooLong) {
			t.Error(err)
		}
		create(account.ID).ExecX(t.Context())
		if err := client.UserCredential.Update().SetAPIKey(secret("many")).
			Exec(ctx); !errors.Is(err, credent.ErrManyRows) {
			t.Error(err)
		}
		records("refused",
			auditRecord{
				Level: "WARN", Actor: "alice", Operation: "create", Entity: "credential", Fields: createFields,
				Error: "have the same user_id",
			},
			auditRecord{
				Level: "WARN", Actor: "alice", Operation: "create", Entity: "account",
				Fields: "is_active,created_at,updated_at,user_id,account_name", Error: "constraint",
			},
			auditRecord{
				Level: "WARN", Actor: "alice", Operation: "create", Entity: "credential", Fields: createFields,
				Error: "too long",
			},
			auditRecord{Operation: "create", Entity: "credential", Fields: createFields},
			auditRecord{
				Level: "WARN", Actor: "alice", Operation: "update", Entity: "credential",
				Fields: "updated_at,api_key", Error: "row by row",
			})

		tx, err := client.Tx(ctx)
		if err != nil {
			t.Fatal(err)
		}
		tx.UserAccount.DeleteOne(account).ExecX(ctx)
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		records("delete account", auditRecord{
			Actor: "alice", Operation: "delete", Entity: "account",
			IDs: []string{account.ID.String()},
		})

		// The log contains no secret and no other value, stored or not.
		testdb.FindCanary(t, "audit log", everything.String())
		if i := strings.Index(everything.String(), "CANARY"); i >= 0 {
			t.Errorf("the audit log has a value: %.80s", everything.String()[i:])
		}
	})
}

// Without an actor, the user is recorded as actor; an actor may act for a user.
func TestAuditOfAUser(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		var log bytes.Buffer
		client := testdb.Open(t, s.ServiceURL, append(slices.Clone(s.Opts),
			testopt.WithAudit(slog.New(slog.NewJSONHandler(&log, nil))))...)
		ids := []string{s.Credentials["u1"][0].ID.String(), s.Credentials["u1"][1].ID.String()}
		slices.Sort(ids)
		client.UserCredential.Update().SetIsActive(false).ExecX(testdb.As(t, "u1"))
		client.UserCredential.Update().SetIsActive(false).ExecX(credent.WithActor(testdb.As(t, "u1"), "support"))
		client.UserCredential.Update().SetIsActive(false).
			ExecX(credent.WithUser(credent.WithActor(t.Context(), "support"), "u2"))
		client.UserCredential.Update().SetIsActive(false).ExecX(t.Context())
		if err := client.UserAccount.Create().SetUserID("u3").SetAccountName("n").Exec(testdb.As(t, "u1")); err == nil {
			t.Error("another user's account")
		}
		records := auditOf(t, &log)
		for i, want := range []struct {
			actor string
			ids   []string
		}{
			{"u1", ids},
			{"support", ids},
			{"support", []string{s.Credentials["u2"][0].ID.String()}},
			{"", []string{}},
			{"u1", nil},
		} {
			slices.Sort(records[i].IDs)
			if records[i].Actor != want.actor || want.ids != nil && !slices.Equal(records[i].IDs, want.ids) {
				t.Errorf("record %d: %+v, want %+v", i, records[i], want)
			}
		}
		if r := records[4]; r.Level != "WARN" || !strings.Contains(r.Error, "row-level security") {
			t.Errorf("refused: %+v", r)
		}
	})
}

func TestFormats(t *testing.T) {
	t.Parallel()
	const (
		alpacaKey, alpacaSecret = "PKTEST7UQ0NJ2IGT9A3Z", "9tzkSGWEMw5dnXyZ0aCrh3oLPuQvB1jF2sKiNlHt"
		polygonKey              = "b2k9xq7hnd3vlt0m5r8wzcfyje1gaspo"
	)
	forEachStore(t, func(t *testing.T, s *store) {
		ctx := t.Context()
		var log bytes.Buffer
		clients := map[string]*ent.Client{
			"refuse": s.with(t, testopt.WithFormats()),
			"warn":   s.with(t, testopt.WithFormatWarnings(slog.New(slog.NewTextHandler(&log, nil)))),
			"own": s.with(t, testopt.WithFormats(credent.Format{
				Type: "other", APIKey: regexp.MustCompile(`\Aok`), Hint: "it begins with ok",
			})),
			"none": s.Client,
		}
		create := func(client *ent.Client, name, key, secret string) *ent.UserCredentialCreate {
			return client.UserCredential.Create().SetAccount(s.u1).SetCredentialType(name).
				SetAPIKey(credent.NewSecret(key)).SetSecretKey(credent.NewSecret(secret))
		}
		// bad writes keys that match no broker's format.
		bad := func(client *ent.Client) map[string]error {
			row := create(s.Client, "alpaca", alpacaKey, alpacaSecret).SaveX(ctx)
			polygon := create(s.Client, "polygon", polygonKey, "").SaveX(ctx)
			return map[string]error{
				"key":        create(client, "alpaca", testdb.Canary, alpacaSecret).Exec(ctx),
				"secret":     create(client, "alpaca", alpacaKey, testdb.Canary).Exec(ctx),
				"line break": create(client, "alpaca", alpacaKey+"\n", alpacaSecret).Exec(ctx),
				"empty":      create(client, "alpaca", "", alpacaSecret).Exec(ctx),
				"polygon":    create(client, "polygon", alpacaKey+testdb.Canary, "").Exec(ctx),
				"bulk": client.UserCredential.CreateBulk(create(client, "other", testdb.Canary, ""),
					create(client, "alpaca", testdb.Canary, "")).Exec(ctx),
				"update one": client.UserCredential.UpdateOneID(row.ID).
					SetAPIKey(credent.NewSecret(testdb.Canary)).Exec(ctx),
				"update": client.UserCredential.Update().Where(usercredential.ID(row.ID)).
					SetSecretKey(credent.NewSecret(testdb.Canary)).Exec(ctx),
				"update polygon": client.UserCredential.UpdateOneID(polygon.ID).
					SetAPIKey(credent.NewSecret(testdb.Canary)).Exec(ctx),
				"type and secret": client.UserCredential.UpdateOneID(polygon.ID).SetCredentialType("alpaca").
					SetSecretKey(credent.NewSecret(testdb.Canary)).Exec(ctx),
				"upsert": create(client, "alpaca", testdb.Canary, alpacaSecret).SetID(row.ID).OnConflictColumns("id").
					UpdateNewValues().Exec(ctx),
			}
		}
		good := func(client *ent.Client) map[string]error {
			row := create(s.Client, "alpaca", alpacaKey, alpacaSecret).SaveX(ctx)
			return map[string]error{
				"alpaca":       create(client, "alpaca", alpacaKey, alpacaSecret).Exec(ctx),
				"live":         create(client, "alpaca", "AKFZXJH121U18SHHDRFO", alpacaSecret).Exec(ctx),
				"polygon":      create(client, "polygon", polygonKey, "any").Exec(ctx),
				"unknown type": create(client, "unknown", testdb.Canary, testdb.Canary).Exec(ctx),
				"update one": client.UserCredential.UpdateOneID(row.ID).
					SetAPIKey(credent.NewSecret(alpacaKey)).Exec(ctx),
				"not a secret": client.UserCredential.UpdateOneID(row.ID).SetIsActive(false).Exec(ctx),
				"no row": client.UserCredential.Update().Where(usercredential.CredentialType("nothing")).
					SetAPIKey(credent.NewSecret(testdb.Canary)).Exec(ctx),
				"another type": client.UserCredential.UpdateOneID(row.ID).SetCredentialType("unknown").
					SetAPIKey(credent.NewSecret(testdb.Canary)).Exec(ctx),
			}
		}
		s.UserCredential.Delete().ExecX(ctx)
		for name, err := range bad(clients["refuse"]) {
			if !errors.Is(err, credent.ErrFormat) {
				t.Errorf("refuse, %s: %v", name, err)
			}
			testdb.FindCanary(t, name, err.Error())
		}
		if n := s.UserCredential.Query().CountX(ctx); n != 2 {
			t.Errorf("refused, and stored %d", n)
		}
		bads := bad(clients["warn"])
		for name, err := range bads {
			if err != nil {
				t.Errorf("warn, %s: %v", name, err)
			}
		}
		if n := strings.Count(log.String(), "credent format"); n != len(bads) {
			t.Errorf("%d warnings, want %d", n, len(bads))
		}
		testdb.FindCanary(t, "the warnings", log.String())
		log.Reset()
		for how := range maps.Keys(clients) {
			for name, err := range good(clients[how]) {
				if err != nil {
					t.Errorf("%s, %s: %v", how, name, err)
				}
			}
		}
		if log.Len() > 0 {
			t.Errorf("warned of good keys: %s", &log)
		}
		for _, how := range []string{"own", "none"} {
			for name, err := range bad(clients[how]) {
				if (err != nil) != (how == "own" && name == "bulk") {
					t.Errorf("%s, %s: %v", how, name, err)
				}
			}
		}
		if err := create(clients["own"], "other", "ok "+testdb.Canary, "").Exec(ctx); err != nil {
			t.Error(err)
		}
		if err := create(clients["own"], "other", testdb.Canary, "").Exec(ctx); !errors.Is(err, credent.ErrFormat) ||
			!strings.Contains(err.Error(), "begins with ok") {
			t.Error(err)
		}
		// An unset key isn't checked against the formats.
		err := clients["refuse"].UserCredential.Create().SetAccount(s.u1).SetAPIKey(credent.NewSecret("k")).
			SetSecretKey(credent.NewSecret("s")).Exec(ctx)
		if !ent.IsValidationError(err) {
			t.Errorf("without a type: %v", err)
		}
		err = create(clients["refuse"], "alpaca", alpacaKey, alpacaSecret).SetAPIKey(credent.Secret{}).Exec(ctx)
		if err == nil || errors.Is(err, credent.ErrFormat) {
			t.Errorf("an absent secret: %v", err)
		}
	})
}

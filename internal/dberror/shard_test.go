package dberror_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/credent-go/credent/internal/dberror"
)

// Errors of both drivers, as a Citus 13 coordinator passes on its workers'
// errors: with the context for a statement, with a different SQLSTATE for a
// COPY.
func TestAnswersOfNodes(t *testing.T) {
	t.Parallel()
	const (
		key     = "user_credentials_user_id_user_account_id_fkey"
		foreign = `insert or update on table "user_credentials_102050" violates foreign key constraint "` + key + `_102050"`
		detail  = `Key (user_id, user_account_id)=(u1, 52b78ec7-9521-4338-8ada-80631236a166) is not present in table "user_accounts_102018".`
		context = "while executing command on 127.0.0.1:55451"
		nested  = "COPY user_credentials_102050, line 1\n" + context
	)
	for name, test := range map[string]struct {
		state, message, where string
		want                  dberror.Answer
	}{
		"foreign key": {"23503", foreign, context, dberror.Answer{
			State: "23503", Table: "user_credentials",
			Constraint: key,
		}},
		"foreign key of a COPY": {
			"XX000", foreign, "", dberror.Answer{State: "23503", Table: "user_credentials", Constraint: key},
		},
		"check of a COPY": {
			"XX000", `new row for relation "user_credentials_102050" violates check constraint "user_credentials_api_key_encrypted"`, "",
			dberror.Answer{State: "23514", Table: "user_credentials", Constraint: "user_credentials_api_key_encrypted"},
		},
		"unique": {
			"23505", `duplicate key value violates unique constraint "user_accounts_user_id_key_102018"`, nested,
			dberror.Answer{State: "23505", Constraint: "user_accounts_user_id_key"},
		},
		"unique of a COPY": {
			"XX000", `duplicate key value violates unique constraint "user_credentials_pkey_1020500"`, "",
			dberror.Answer{State: "23505", Constraint: "user_credentials_pkey"},
		},
		"not null": {
			"XX000", `null value in column "user_id" of relation "user_credentials_102050" violates not-null constraint`, "",
			dberror.Answer{State: "23502", Table: "user_credentials"},
		},
		"row-level security": {
			"42501", `new row violates row-level security policy for table "user_credentials_102050"`, context,
			dberror.Answer{State: "42501", Table: "user_credentials"},
		},
		"deadlock of a COPY": {"XX000", "deadlock detected", "", dberror.Answer{State: "40P01"}},
		"timeout of a COPY": {
			"XX000", "canceling statement due to statement timeout", "",
			dberror.Answer{State: "57014"},
		},
		"lock of a COPY":      {"XX000", "canceling statement due to lock timeout", "", dberror.Answer{State: "55P03"}},
		"a node that is gone": {"08006", "connection to the remote node failed", "", dberror.Answer{State: "08006"}},
		"repartition": {
			"XX000", "the query contains a join that requires repartitioning", "", dberror.Answer{State: "XX000"},
		},
		// A single server's errors aren't changed, whatever the names in them.
		"not of a node": {"23503", foreign, "", dberror.Answer{State: "23503"}},
		"internal":      {"XX000", `could not find block in relation "x_102050"`, "", dberror.Answer{State: "XX000"}},
	} {
		test.want.Message, test.want.Detail, test.want.Where = test.message, detail, test.where
		for driver, err := range map[string]error{
			"pgx": &pgconn.PgError{Code: test.state, Message: test.message, Detail: detail, Where: test.where},
			"pq":  &pq.Error{Code: pqerror.Code(test.state), Message: test.message, Detail: detail, Where: test.where},
		} {
			got, ok := dberror.Of(fmt.Errorf("copy: %w", err))
			if diff := cmp.Diff(test.want, got); !ok || diff != "" {
				t.Errorf("%s, %s: %v %s", name, driver, ok, diff)
			}
			if state := dberror.State(err); state != test.want.State {
				t.Errorf("%s, %s: state %s", name, driver, state)
			}
		}
	}
	if _, ok := dberror.Of(errors.New(foreign)); ok {
		t.Error("a plain text counts as a server's answer")
	}
	plain := &pgconn.PgError{Code: "23503", Message: foreign, TableName: "t_102050", ConstraintName: "t_102050"}
	if got, _ := dberror.Of(plain); got.Table != "t_102050" || got.Constraint != "t_102050" {
		t.Errorf("names of a single server: %+v", got)
	}
}

// Statements that a coordinator refuses to plan, and what to do instead.
func TestSpread(t *testing.T) {
	t.Parallel()
	const context = "while executing command on 127.0.0.1:55451"
	for name, test := range map[string]struct {
		state, message, where, want string
	}{
		"move": {"0A000", "modifying the partition value of rows is not allowed", "", "keeps its user_id"},
		"lock": {
			"0A000", "could not run distributed query with FOR UPDATE/SHARE commands", "",
			"add it to the conditions",
		},
		"join": {
			"0A000",
			"complex joins are only supported when all distributed tables are co-located", "", "query the one first",
		},
		"repartition": {
			"XX000", "the query contains a join that requires repartitioning", "",
			"query the one first",
		},
		"another":          {"0A000", "cannot use a hash table", "", ""},
		"another internal": {"XX000", "could not find block", context, ""},
	} {
		got := dberror.Spread(&pgconn.PgError{Code: test.state, Message: test.message, Where: test.where})
		if got == "" != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
	if got := dberror.Spread(errors.New("modifying the partition value of rows is not allowed")); got != "" {
		t.Errorf("a plain text counts as a server's answer: %q", got)
	}
}

package integration

import (
	"context"
	"database/sql"
	"errors"

	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqljson"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/predicate"
	"github.com/credent-go/credent/ent/usercredential"
)

func modifierPaths() []writePath {
	setAPIKey := func(value any) func(*entsql.UpdateBuilder) {
		return func(u *entsql.UpdateBuilder) { u.Set("api_key", value) }
	}
	one := func(ctx context.Context, w *writer, modify func(*entsql.UpdateBuilder)) error {
		return w.row(ctx, 0).Update().Modify(modify).Exec(ctx)
	}
	return []writePath{
		{name: "UpdateOne, Modify", raw: true, covers: "UserCredentialUpdateOne.Modify", write: func(ctx context.Context, w *writer) error {
			return one(ctx, w, setAPIKey(w.wantAPIKey(0, "new")))
		}},
		{name: "UpdateOne, Modify with a pointer", raw: true, write: func(ctx context.Context, w *writer) error {
			secret := w.wantAPIKey(0, "new")
			return one(ctx, w, setAPIKey(&secret))
		}},
		{name: "UpdateOne, Modify with sql.Null", raw: true, write: func(ctx context.Context, w *writer) error {
			return one(ctx, w, setAPIKey(sql.Null[credent.Secret]{V: w.wantAPIKey(0, "new"), Valid: true}))
		}},
		{name: "UpdateOne, Modify beside a setter", raw: true, write: func(ctx context.Context, w *writer) error {
			return w.row(ctx, 0).Update().SetSecretKey(w.wantSecretKey(0, "new secret")).SetIsActive(false).
				Modify(setAPIKey(w.wantAPIKey(0, "new"))).Exec(ctx)
		}},
		{name: "UpdateOne, Modify with a string", refused: errConstraint, write: func(ctx context.Context, w *writer) error {
			return one(ctx, w, setAPIKey("PKPLAIN"))
		}},
		{name: "UpdateOne, Modify with bytes", refused: errConstraint, write: func(ctx context.Context, w *writer) error {
			return one(ctx, w, setAPIKey([]byte("PKPLAIN")))
		}},
		{name: "UpdateOne, Modify with SQL", refused: errConstraint, write: func(ctx context.Context, w *writer) error {
			return one(ctx, w, setAPIKey(entsql.Expr("'PKPLAIN'")))
		}},
		{name: "UpdateOne, Modify with a printed secret", refused: credent.ErrRedacted, write: func(ctx context.Context, w *writer) error {
			return one(ctx, w, setAPIKey(credent.NewSecret("new").String()))
		}},
		{name: "UpdateOne, Modify with a list of secrets", raw: true, refused: credent.ErrPredicate, write: func(ctx context.Context, w *writer) error {
			return one(ctx, w, setAPIKey([]credent.Secret{credent.NewSecret("new")}))
		}},
		{name: "UpdateOne, Modify with NULL", refused: errNotNull, write: func(ctx context.Context, w *writer) error {
			return one(ctx, w, func(u *entsql.UpdateBuilder) { u.SetNull("api_key") })
		}},
		{name: "UpdateOne, Modify with Add", raw: true, refused: credent.ErrPredicate, write: func(ctx context.Context, w *writer) error {
			return one(ctx, w, func(u *entsql.UpdateBuilder) { u.Add("api_key", credent.NewSecret("new")) })
		}},
		{name: "Update, Modify", raw: true, covers: "UserCredentialUpdate.Modify", write: func(ctx context.Context, w *writer) error {
			return w.client.UserCredential.Update().Where(usercredential.ID(w.rows[0].ID)).
				Modify(setAPIKey(w.wantAPIKey(0, "new"))).Exec(ctx)
		}},
		{name: "Update, Modify of all rows", raw: true, refused: credent.ErrManyRows, write: func(ctx context.Context, w *writer) error {
			return w.client.UserCredential.Update().Modify(setAPIKey(credent.NewSecret("new"))).Exec(ctx)
		}},
		{name: "Update, Modify of an account's rows", raw: true, refused: credent.ErrManyRows, write: func(ctx context.Context, w *writer) error {
			return w.client.UserCredential.Update().Where(usercredential.UserAccountID(w.account.ID)).
				Modify(setAPIKey(credent.NewSecret("new"))).Exec(ctx)
		}},
	}
}

// sqlRunner runs SQL of the caller's.
type sqlRunner interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// door is a generated type that is one.
type door struct {
	name string
	sqlRunner
}

// doors are all of them. In a transaction, each is the transaction's.
func doors(w *writer) []door {
	c := w.client.UserCredential
	all := []door{
		{"Client", w.client},
		{"UserCredentialClient", c},
		{"UserCredential", w.row(context.Background(), 0)},
		{"UserCredentialCreate", c.Create()},
		{"UserCredentialCreateBulk", c.CreateBulk()},
		{"UserCredentialUpdate", c.Update()},
		{"UserCredentialUpdateOne", c.UpdateOneID(uuid.New())},
		{"UserCredentialDelete", c.Delete()},
		{"UserCredentialQuery", c.Query()},
		{"UserCredentialMutation", c.Create().Mutation()},
	}
	if w.tx != nil {
		all = append(all, door{"Tx", w.tx})
	}
	return all
}

const doorsExec = "Client.ExecContext UserCredentialClient.ExecContext UserCredential.ExecContext UserCredentialCreate.ExecContext " +
	"UserCredentialCreateBulk.ExecContext UserCredentialUpdate.ExecContext UserCredentialUpdateOne.ExecContext " +
	"UserCredentialDelete.ExecContext UserCredentialQuery.ExecContext UserCredentialMutation.ExecContext Tx.ExecContext"

const doorsQuery = "Client.QueryContext UserCredentialClient.QueryContext UserCredential.QueryContext UserCredentialCreate.QueryContext " +
	"UserCredentialCreateBulk.QueryContext UserCredentialUpdate.QueryContext UserCredentialUpdateOne.QueryContext " +
	"UserCredentialDelete.QueryContext UserCredentialQuery.QueryContext UserCredentialMutation.QueryContext Tx.QueryContext"

// query runs a statement by QueryContext, to the end of its rows.
func query(ctx context.Context, d door, text string, args ...any) (err error) {
	rows, err := d.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Err(), rows.Close()) }()
	for rows.Next() {
	}
	return nil
}

func statementPaths() []writePath {
	const update = "UPDATE user_credentials SET api_key = $1 WHERE id = $2"
	const insert = "INSERT INTO user_credentials (id, user_account_id, user_id, credential_type, api_key, secret_key) " +
		"VALUES ($1, $2, 'u1', 'alpaca', $3, $4)"
	exec := func(ctx context.Context, w *writer, query string, args ...any) error {
		_, err := w.client.ExecContext(ctx, w.env.placeholders(query), args...)
		return err
	}
	refusedBy := func(name, query string, err error, args ...any) writePath {
		return writePath{name: "ExecContext, " + name, raw: true, refused: err, write: func(ctx context.Context, w *writer) error {
			return exec(ctx, w, query, args...)
		}}
	}
	s := credent.NewSecret("new")
	id := uuid.New()
	return []writePath{
		{name: "ExecContext, of everything", raw: true, covers: doorsExec, write: func(ctx context.Context, w *writer) error {
			for _, d := range doors(w) {
				if _, err := d.ExecContext(ctx, w.env.placeholders(update), w.wantAPIKey(0, "by "+d.name), w.rows[0].ID); err != nil {
					return err
				}
			}
			return nil
		}},
		{name: "QueryContext, of everything", raw: true, covers: doorsQuery, write: func(ctx context.Context, w *writer) error {
			for _, d := range doors(w) {
				if err := query(ctx, d, w.env.placeholders(update+" RETURNING id"), w.wantAPIKey(0, "by "+d.name), w.rows[0].ID); err != nil {
					return err
				}
			}
			return nil
		}},
		{name: "ExecContext, a pointer", raw: true, write: func(ctx context.Context, w *writer) error {
			secret := w.wantAPIKey(0, "new")
			return exec(ctx, w, update, &secret, w.rows[0].ID)
		}},
		{name: "ExecContext, sql.Null", raw: true, write: func(ctx context.Context, w *writer) error {
			return exec(ctx, w, update, sql.Null[credent.Secret]{V: w.wantAPIKey(0, "new"), Valid: true}, w.rows[0].ID)
		}},
		{name: "ExecContext, sql.Named", raw: true, write: func(ctx context.Context, w *writer) error {
			query := update // the drivers of Postgres take the value
			if w.env.isSQLite() {
				query = "UPDATE user_credentials SET api_key = :secret WHERE id = :id"
			}
			return exec(ctx, w, query, sql.Named("secret", w.wantAPIKey(0, "new")), sql.Named("id", w.rows[0].ID))
		}},
		{name: "ExecContext, INSERT", raw: true, write: func(ctx context.Context, w *writer) error {
			id := uuid.New()
			w.want[id] = pair{"a", "b"}
			return exec(ctx, w, insert, id, w.account.ID, credent.NewSecret("a"), credent.NewSecret("b"))
		}},
		{name: "ExecContext, INSERT with a conflict", raw: true, write: func(ctx context.Context, w *writer) error {
			return exec(ctx, w, insert+" ON CONFLICT (id) DO UPDATE SET api_key = $5", w.rows[0].ID, w.account.ID,
				credent.NewSecret("a"), credent.NewSecret("b"), w.wantAPIKey(0, "new"))
		}},
		{name: "ExecContext, a string", refused: errConstraint, write: func(ctx context.Context, w *writer) error {
			return exec(ctx, w, update, "PKPLAIN", w.rows[0].ID)
		}},
		{name: "ExecContext, a nil pointer", refused: errNotNull, write: func(ctx context.Context, w *writer) error {
			return exec(ctx, w, update, (*credent.Secret)(nil), w.rows[0].ID)
		}},
		{name: "ExecContext, text that ent's own INSERT would store", refused: errConstraint, write: func(ctx context.Context, w *writer) error {
			return exec(ctx, w, insert, uuid.New(), w.account.ID, "PKPLAIN", "secret")
		}},
		refusedBy("UPDATE of all rows", "UPDATE user_credentials SET api_key = $1", credent.ErrManyRows, s),
		refusedBy("UPDATE of a user's rows", "UPDATE user_credentials SET api_key = $1 WHERE user_id = $2", credent.ErrManyRows, s, "u1"),
		refusedBy("UPDATE of other rows", "UPDATE user_credentials SET api_key = $1 WHERE id <> $2", credent.ErrManyRows, s, id),
		refusedBy("UPDATE by a row of another table", "UPDATE user_credentials SET api_key = $1 FROM user_accounts AS a WHERE a.id = $2", credent.ErrManyRows, s, id),
		refusedBy("one value for two columns", "UPDATE user_credentials SET api_key = $1, secret_key = $1 WHERE id = $2", credent.ErrManyRows, s, id),
		refusedBy("INSERT of what is selected", "INSERT INTO user_credentials (user_account_id, user_id, credential_type, api_key, secret_key) "+
			"SELECT id, user_id, 'alpaca', $1, $2 FROM user_accounts", credent.ErrPredicate, s, s),
		refusedBy("DELETE", "DELETE FROM user_credentials WHERE api_key = $1", credent.ErrPredicate, s),
		refusedBy("DELETE of all others", "DELETE FROM user_credentials WHERE api_key <> $1", credent.ErrPredicate, s),
		refusedBy("WITH … DELETE", "WITH x AS (SELECT 1) DELETE FROM user_credentials WHERE api_key <> $1", credent.ErrPredicate, s),
		refusedBy("WITH … UPDATE", "WITH x AS (SELECT 1) UPDATE user_credentials SET api_key = $1", credent.ErrPredicate, s),
		refusedBy("compare in UPDATE", "UPDATE user_credentials SET is_active = false WHERE api_key <> $1", credent.ErrPredicate, s),
		refusedBy("shortened", "UPDATE user_credentials SET api_key = substr($1, 1, 100) WHERE id = $2", credent.ErrPredicate, s, id),
	}
}

func predicatePaths() []writePath {
	s := credent.NewSecret("api0")
	deletion := func(name string, err error, p predicate.UserCredential) writePath {
		return writePath{name: "Delete, " + name, raw: true, refused: err, write: func(ctx context.Context, w *writer) error {
			_, err := w.client.UserCredential.Delete().Where(p).Exec(ctx)
			return err
		}}
	}
	return []writePath{
		deletion("FieldEQ", credent.ErrPredicate, entsql.FieldEQ("api_key", s)),
		deletion("FieldNEQ", credent.ErrPredicate, entsql.FieldNEQ("api_key", s)),
		deletion("FieldNEQ of a pointer", credent.ErrPredicate, entsql.FieldNEQ("api_key", &s)),
		deletion("FieldIn", credent.ErrPredicate, entsql.FieldIn("api_key", s, s)),
		deletion("FieldNotIn", credent.ErrPredicate, entsql.FieldNotIn("api_key", s)),
		deletion("FieldGT", credent.ErrPredicate, entsql.FieldGT("api_key", s)),
		deletion("a selector", credent.ErrPredicate, func(q *entsql.Selector) { q.Where(entsql.Not(entsql.EQ(q.C("api_key"), s))) }),
		deletion("SQL", credent.ErrPredicate, func(q *entsql.Selector) {
			q.Where(entsql.ExprP("api_key <> $1", s))
		}),
		{name: "Delete, a printed secret", refused: credent.ErrRedacted, marker: true, write: func(ctx context.Context, w *writer) error {
			_, err := w.client.UserCredential.Delete().Where(entsql.FieldNEQ("api_key", s.String())).Exec(ctx)
			return err
		}},
		deletion("a list of secrets", credent.ErrPredicate, func(q *entsql.Selector) {
			q.Where(entsql.ExprP("NOT api_key = ANY($1)", []credent.Secret{s}))
		}),
		deletion("sqljson.ValueEQ", credent.ErrPredicate, func(q *entsql.Selector) { q.Where(sqljson.ValueEQ("api_key", s)) }),
		deletion("sqljson.ValueNEQ", credent.ErrPredicate, func(q *entsql.Selector) { q.Where(sqljson.ValueNEQ("api_key", s, sqljson.Path("a"))) }),
		deletion("sqljson.ValueContains", errCompared, func(q *entsql.Selector) { q.Where(sqljson.ValueContains("api_key", s)) }),
		{name: "DeleteOne with a secret", raw: true, refused: credent.ErrPredicate, write: func(ctx context.Context, w *writer) error {
			return w.client.UserCredential.DeleteOneID(w.rows[0].ID).Where(entsql.FieldEQ("api_key", s)).Exec(ctx)
		}},
		{name: "UpdateOne with a secret", raw: true, refused: credent.ErrPredicate, write: func(ctx context.Context, w *writer) error {
			return w.row(ctx, 0).Update().SetIsActive(false).Where(entsql.FieldEQ("api_key", s)).Exec(ctx)
		}},
		{name: "Update with a secret", raw: true, refused: credent.ErrPredicate, write: func(ctx context.Context, w *writer) error {
			return w.client.UserCredential.Update().SetAPIKey(s).
				Where(usercredential.ID(w.rows[0].ID), entsql.FieldNEQ("api_key", s)).Exec(ctx)
		}},
		{name: "accounts by the secrets of their credentials", raw: true, refused: credent.ErrPredicate, write: func(ctx context.Context, w *writer) error {
			_, err := w.client.UserAccount.Query().Where(func(q *entsql.Selector) {
				t := entsql.Table(usercredential.Table)
				q.Where(entsql.In(q.C("id"), entsql.Select(t.C("user_account_id")).From(t).Where(entsql.EQ(t.C("api_key"), s))))
			}).All(ctx)
			return err
		}},
		{name: "Query with a secret", raw: true, refused: credent.ErrPredicate, write: func(ctx context.Context, w *writer) error {
			_, err := w.client.UserCredential.Query().Where(entsql.FieldEQ("api_key", s)).All(ctx)
			return err
		}},
		{name: "Query, modified with a secret", raw: true, refused: credent.ErrPredicate, write: func(ctx context.Context, w *writer) error {
			return w.client.UserCredential.Query().
				Modify(func(q *entsql.Selector) { q.Where(entsql.EQ("api_key", s)) }).Scan(ctx, new([]ent.UserCredential))
		}},
		{name: "Query, ordered by a secret", raw: true, refused: credent.ErrPredicate, write: func(ctx context.Context, w *writer) error {
			_, err := w.client.UserCredential.Query().Order(func(q *entsql.Selector) {
				q.OrderExpr(entsql.ExprFunc(func(b *entsql.Builder) { b.Ident("api_key").WriteString(" = ").Arg(s) }))
			}).All(ctx)
			return err
		}},
	}
}

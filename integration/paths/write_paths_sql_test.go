package paths

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqljson"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/predicate"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
)

// passing is how the caller's own SQL passes a secret: bare, or with the place
// where it is stored.
type passing struct{ bare bool }

// apiKey returns the argument for a secret in api_key.
func (p passing) apiKey(v any) any { return p.at(v, usercredential.APIKeyColumn) }

// secretKey returns the argument for a secret in secret_key.
func (p passing) secretKey(v any) any { return p.at(v, usercredential.SecretKeyColumn) }

func (p passing) at(v any, c encrypted.Column) any {
	if p.bare {
		return v
	}
	return encrypted.At(v, c, "u1")
}

// digest returns the argument for the blind index of api_key.
func (p passing) digest(v any) any {
	if p.bare {
		return nil
	}
	return encrypted.DigestOf(v, usercredential.APIKeyColumn, nil)
}

// passed returns two paths: the bare secret is refused, and with its place the
// same statement stores it.
func passed(path writePath, write func(ctx context.Context, w *writer, as passing) error) []writePath {
	path.raw = true
	bare := path
	bare.name, bare.covers, bare.refused = path.name+", bare", "", errBare
	bare.write = func(ctx context.Context, w *writer) error { return write(ctx, w, passing{bare: true}) }
	path.write = func(ctx context.Context, w *writer) error { return write(ctx, w, passing{}) }
	return []writePath{bare, path}
}

func modifierPaths() []writePath {
	set := func(column string, value any) func(*entsql.UpdateBuilder) {
		return func(u *entsql.UpdateBuilder) { u.Set(column, value) }
	}
	setAPIKey := func(as passing, value any) func(*entsql.UpdateBuilder) {
		return func(u *entsql.UpdateBuilder) {
			u.Set("api_key", as.apiKey(value)).Set("api_key_index", as.digest(value))
		}
	}
	one := func(ctx context.Context, w *writer, modify func(*entsql.UpdateBuilder)) error {
		return w.row(ctx, 0).Update().Modify(modify).Exec(ctx)
	}
	return slices.Concat(
		passed(writePath{name: "UpdateOne, Modify", covers: "UserCredentialUpdateOne.Modify"},
			func(ctx context.Context, w *writer, as passing) error {
				return one(ctx, w, setAPIKey(as, w.wantAPIKey(0, "new")))
			}),
		passed(writePath{name: "UpdateOne, Modify with a pointer"}, func(ctx context.Context, w *writer,
			as passing,
		) error {
			secret := w.wantAPIKey(0, "new")
			return one(ctx, w, setAPIKey(as, &secret))
		}),
		passed(writePath{name: "UpdateOne, Modify with sql.Null"}, func(ctx context.Context, w *writer,
			as passing,
		) error {
			return one(ctx, w, setAPIKey(as, sql.Null[credent.Secret]{V: w.wantAPIKey(0, "new"), Valid: true}))
		}),
		passed(writePath{name: "UpdateOne, Modify beside a setter"}, func(ctx context.Context, w *writer,
			as passing,
		) error {
			return w.row(ctx, 0).Update().SetSecretKey(w.wantSecretKey(0, "new secret")).SetIsActive(false).
				Modify(setAPIKey(as, w.wantAPIKey(0, "new"))).Exec(ctx)
		}),
		passed(writePath{name: "UpdateOne, Modify of the other column"}, func(ctx context.Context, w *writer,
			as passing,
		) error {
			return one(ctx, w, set("secret_key", as.secretKey(w.wantSecretKey(0, "new secret"))))
		}),
		passed(writePath{name: "Update, Modify", covers: "UserCredentialUpdate.Modify"},
			func(ctx context.Context, w *writer, as passing) error {
				return w.client.UserCredential.Update().Where(usercredential.ID(w.rows[0].ID)).
					Modify(setAPIKey(as, w.wantAPIKey(0, "new"))).Exec(ctx)
			}),
		[]writePath{
			{
				name: "UpdateOne, Modify without the digest", raw: true, refused: credent.ErrBlindIndex,
				write: func(ctx context.Context, w *writer) error {
					return one(ctx, w, set("api_key", passing{}.apiKey(credent.NewSecret("new"))))
				},
			},
			{
				name: "UpdateOne, Modify with the digest of another", raw: true, refused: credent.ErrBlindIndex,
				write: func(ctx context.Context, w *writer) error {
					return one(ctx, w, func(u *entsql.UpdateBuilder) {
						u.Set("api_key", passing{}.apiKey(credent.NewSecret("new"))).
							Set("api_key_index", passing{}.digest(credent.NewSecret("old")))
					})
				},
			},
			{
				name: "UpdateOne, Modify with the digest alone", raw: true, refused: credent.ErrBlindIndex,
				write: func(ctx context.Context, w *writer) error {
					return one(ctx, w, set("api_key_index", passing{}.digest(credent.NewSecret("new"))))
				},
			},
			{name: "UpdateOne, Modify for another tenant", raw: true, write: func(ctx context.Context,
				w *writer,
			) error {
				secret := w.wantAPIKey(0, "new")
				return one(ctx, w, func(u *entsql.UpdateBuilder) {
					u.Set("api_key", encrypted.At(secret, usercredential.APIKeyColumn, "another")).
						Set("api_key_index", passing{}.digest(secret))
				})
			}},
			{name: "UpdateOne, Modify without the tenant", raw: true, write: func(ctx context.Context,
				w *writer,
			) error {
				secret := w.wantAPIKey(0, "new")
				return one(ctx, w, func(u *entsql.UpdateBuilder) {
					u.Set("api_key", encrypted.At(secret, usercredential.APIKeyColumn, nil)).
						Set("api_key_index", passing{}.digest(secret))
				})
			}},
			{name: "UpdateOne, Modify with a string", refused: errStored, write: func(ctx context.Context,
				w *writer,
			) error {
				return one(ctx, w, set("api_key", "PKPLAIN"))
			}},
			{name: "UpdateOne, Modify with bytes", refused: errStored, write: func(ctx context.Context,
				w *writer,
			) error {
				return one(ctx, w, set("api_key", []byte("PKPLAIN")))
			}},
			{name: "UpdateOne, Modify with SQL", refused: errStored, write: func(ctx context.Context, w *writer) error {
				return one(ctx, w, set("api_key", entsql.Expr("'PKPLAIN'")))
			}},
			{
				name: "UpdateOne, Modify of the other column with a string", refused: errConstraint,
				write: func(ctx context.Context, w *writer) error {
					return one(ctx, w, set("secret_key", "PKPLAIN"))
				},
			},
			{
				name: "UpdateOne, Modify of the other column with SQL", refused: errConstraint,
				write: func(ctx context.Context, w *writer) error {
					return one(ctx, w, set("secret_key", entsql.Expr("'PKPLAIN'")))
				},
			},
			{
				name: "UpdateOne, Modify with a printed secret", refused: credent.ErrRedacted,
				write: func(ctx context.Context, w *writer) error {
					return one(ctx, w, set("api_key", credent.NewSecret("new").String()))
				},
			},
			{
				name: "UpdateOne, Modify with a list of secrets", raw: true, refused: credent.ErrNoLocation,
				write: func(ctx context.Context, w *writer) error {
					return one(ctx, w, set("api_key", []credent.Secret{credent.NewSecret("new")}))
				},
			},
			{name: "UpdateOne, Modify with NULL", refused: errNotNullOrIndex, write: func(ctx context.Context,
				w *writer,
			) error {
				return one(ctx, w, func(u *entsql.UpdateBuilder) { u.SetNull("api_key") })
			}},
			{name: "UpdateOne, Modify with NULL and its digest", refused: errNotNull, write: func(ctx context.Context,
				w *writer,
			) error {
				return one(ctx, w, func(u *entsql.UpdateBuilder) { u.SetNull("api_key").SetNull("api_key_index") })
			}},
			{name: "UpdateOne, Modify with Add", raw: true, refused: errBare, write: func(ctx context.Context,
				w *writer,
			) error {
				return one(ctx, w, func(u *entsql.UpdateBuilder) { u.Add("api_key", credent.NewSecret("new")) })
			}},
			{name: "Update, Modify of all rows, bare", raw: true, refused: errBare, write: func(ctx context.Context,
				w *writer,
			) error {
				return w.client.UserCredential.Update().
					Modify(setAPIKey(passing{bare: true}, credent.NewSecret("new"))).Exec(ctx)
			}},
			{
				name: "Update, Modify of all rows", raw: true, refused: credent.ErrManyRows,
				write: func(ctx context.Context, w *writer) error {
					return w.client.UserCredential.Update().Modify(setAPIKey(passing{}, credent.NewSecret("new"))).
						Exec(ctx)
				},
			},
			{
				name: "Update, Modify of an account's rows", raw: true, refused: credent.ErrManyRows,
				write: func(ctx context.Context, w *writer) error {
					return w.client.UserCredential.Update().Where(usercredential.UserAccountID(w.account.ID)).
						Modify(set("secret_key", passing{}.secretKey(credent.NewSecret("new")))).Exec(ctx)
				},
			},
		})
}

// sqlRunner runs the caller's SQL.
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

const doorsExec = "Client.ExecContext UserCredentialClient.ExecContext UserCredential.ExecContext " +
	"UserCredentialCreate.ExecContext UserCredentialCreateBulk.ExecContext UserCredentialUpdate.ExecContext " +
	"UserCredentialUpdateOne.ExecContext UserCredentialDelete.ExecContext UserCredentialQuery.ExecContext " +
	"UserCredentialMutation.ExecContext Tx.ExecContext"

const doorsQuery = "Client.QueryContext UserCredentialClient.QueryContext UserCredential.QueryContext " +
	"UserCredentialCreate.QueryContext UserCredentialCreateBulk.QueryContext UserCredentialUpdate.QueryContext " +
	"UserCredentialUpdateOne.QueryContext UserCredentialDelete.QueryContext UserCredentialQuery.QueryContext " +
	"UserCredentialMutation.QueryContext Tx.QueryContext"

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

// statement runs a statement that is written for Postgres by ExecContext.
func statement(ctx context.Context, w *writer, query string, args ...any) error {
	_, err := w.client.ExecContext(ctx, w.env.Placeholders(query), args...)
	return err
}

// The caller's own statements.
const (
	updateStatement = "UPDATE user_credentials SET api_key = $1, api_key_index = $2 WHERE id = $3"
	insertStatement = "INSERT INTO user_credentials (id, user_account_id, user_id, credential_type, api_key, " +
		"secret_key, api_key_index) VALUES ($1, $2, 'u1', 'alpaca', $3, $4, $5)"
	selectStatement = "INSERT INTO user_credentials (id, user_account_id, user_id, credential_type, api_key, " +
		"secret_key, api_key_index) SELECT CAST($1 AS uuid), id, user_id, 'alpaca', $2, $3, CAST($4 AS bytea) FROM " +
		"user_accounts"
)

func statementPaths() []writePath {
	return slices.Concat(storedStatements(), refusedStatements())
}

// storedStatements store secrets, if they say where.
func storedStatements() []writePath {
	return slices.Concat(
		passed(writePath{name: "ExecContext, of everything", covers: doorsExec}, func(ctx context.Context, w *writer,
			as passing,
		) error {
			for _, d := range doors(w) {
				secret := w.wantAPIKey(0, "by "+d.name)
				if _, err := d.ExecContext(ctx, w.env.Placeholders(updateStatement), as.apiKey(secret),
					as.digest(secret), w.rows[0].ID); err != nil {
					return err
				}
			}
			return nil
		}),
		passed(writePath{name: "QueryContext, of everything", covers: doorsQuery}, func(ctx context.Context, w *writer,
			as passing,
		) error {
			for _, d := range doors(w) {
				secret := w.wantAPIKey(0, "by "+d.name)
				if err := query(ctx, d, w.env.Placeholders(updateStatement+" RETURNING id"), as.apiKey(secret),
					as.digest(secret), w.rows[0].ID); err != nil {
					return err
				}
			}
			return nil
		}),
		passed(writePath{name: "ExecContext, the other column"}, func(ctx context.Context, w *writer,
			as passing,
		) error {
			return statement(ctx, w, "UPDATE user_credentials SET secret_key = $1 WHERE id = $2",
				as.secretKey(w.wantSecretKey(0, "new")), w.rows[0].ID)
		}),
		passed(writePath{name: "ExecContext, both columns"}, func(ctx context.Context, w *writer, as passing) error {
			secret, other := w.wantAPIKey(0, "new"), w.wantSecretKey(0, "new")
			return statement(ctx, w, "UPDATE user_credentials SET api_key = $1, secret_key = $2, api_key_index = $3 "+
				"WHERE id = $4", as.apiKey(secret), as.secretKey(other), as.digest(secret), w.rows[0].ID)
		}),
		passed(writePath{name: "ExecContext, a pointer"}, func(ctx context.Context, w *writer, as passing) error {
			secret := w.wantAPIKey(0, "new")
			return statement(ctx, w, updateStatement, as.apiKey(&secret), as.digest(&secret), w.rows[0].ID)
		}),
		passed(writePath{name: "ExecContext, sql.Null"}, func(ctx context.Context, w *writer, as passing) error {
			secret := sql.Null[credent.Secret]{V: w.wantAPIKey(0, "new"), Valid: true}
			return statement(ctx, w, updateStatement, as.apiKey(secret), as.digest(secret), w.rows[0].ID)
		}),
		passed(writePath{name: "ExecContext, sql.Named"}, func(ctx context.Context, w *writer, as passing) error {
			query := updateStatement // the drivers of Postgres take the value
			if w.env.IsSQLite() {
				query = "UPDATE user_credentials SET api_key_index = :digest, api_key = :secret WHERE id = :id"
			}
			secret := w.wantAPIKey(0, "new")
			return statement(ctx, w, query, sql.Named("secret", as.apiKey(secret)),
				sql.Named("digest", as.digest(secret)), sql.Named("id", w.rows[0].ID))
		}),
		passed(writePath{name: "ExecContext, INSERT"}, func(ctx context.Context, w *writer, as passing) error {
			id, secret := uuid.New(), credent.NewSecret("a")
			w.want[id] = testdb.Pair{APIKey: "a", SecretKey: "b"}
			return statement(ctx, w, insertStatement, id, w.account.ID, as.apiKey(secret),
				as.secretKey(credent.NewSecret("b")), as.digest(secret))
		}),
		passed(writePath{name: "ExecContext, INSERT of two rows"}, func(ctx context.Context, w *writer,
			as passing,
		) error {
			args := []any{w.account.ID}
			for _, p := range []testdb.Pair{{APIKey: "a", SecretKey: "b"}, {APIKey: "a", SecretKey: "a"}} {
				id, secret := uuid.New(), credent.NewSecret(p.APIKey)
				w.want[id] = p
				args = append(args, id, as.apiKey(secret), as.secretKey(credent.NewSecret(p.SecretKey)),
					as.digest(secret))
			}
			return statement(ctx, w, "INSERT INTO user_credentials (id, user_account_id, user_id, credential_type, "+
				"api_key, secret_key, api_key_index) VALUES ($2, $1, 'u1', 'alpaca', $3, $4, $5), ($6, $1, 'u1', "+
				"'alpaca', $7, $8, $9)", args...)
		}),
		passed(writePath{name: "ExecContext, INSERT with a conflict"}, func(ctx context.Context, w *writer,
			as passing,
		) error {
			secret, other := credent.NewSecret("a"), w.wantAPIKey(0, "new")
			return statement(ctx, w, insertStatement+" ON CONFLICT (id) DO UPDATE SET api_key = $6, api_key_index = $7",
				w.rows[0].ID, w.account.ID,
				as.apiKey(secret), as.secretKey(credent.NewSecret("b")), as.digest(secret), as.apiKey(other),
				as.digest(other))
		}),
		passed(writePath{name: "ExecContext, INSERT from a SELECT"}, func(ctx context.Context, w *writer,
			as passing,
		) error {
			id, secret := uuid.New(), credent.NewSecret("a")
			w.want[id] = testdb.Pair{APIKey: "a", SecretKey: "b"}
			return statement(ctx, w, w.env.Casts(selectStatement), id, as.apiKey(secret),
				as.secretKey(credent.NewSecret("b")), as.digest(secret))
		}),
		passed(writePath{name: "ExecContext, WITH … UPDATE"}, func(ctx context.Context, w *writer, as passing) error {
			secret := w.wantAPIKey(0, "new")
			return statement(ctx, w, "WITH x AS (SELECT 1) "+updateStatement, as.apiKey(secret),
				as.digest(secret), w.rows[0].ID)
		}),
		passed(writePath{name: "ExecContext, a secret read from a row"}, func(ctx context.Context, w *writer,
			as passing,
		) error {
			old := w.row(ctx, 1).SecretKey
			w.wantAPIKey(0, "secret1")
			return statement(ctx, w, updateStatement, as.apiKey(old), as.digest(old), w.rows[0].ID)
		}),
	)
}

// refusedStatements store no secret, whether they say where or not.
func refusedStatements() []writePath {
	s, other := credent.NewSecret("new"), uuid.New()
	bare := func(name, query string, args ...any) writePath {
		return writePath{
			name: "ExecContext, " + name + ", bare", raw: true, refused: errBare,
			write: func(ctx context.Context, w *writer) error {
				return statement(ctx, w, query, args...)
			},
		}
	}
	placed := func(name string, err error, write func(ctx context.Context, w *writer, as passing) error) writePath {
		return writePath{name: "ExecContext, " + name, raw: true, refused: err, write: func(ctx context.Context,
			w *writer,
		) error {
			return write(ctx, w, passing{})
		}}
	}
	const wholeUpdate = "UPDATE user_credentials SET api_key = $1, api_key_index = $2"
	updating := func(name, where string, args ...any) writePath {
		return placed(name, credent.ErrManyRows, func(ctx context.Context, w *writer, as passing) error {
			return statement(ctx, w, wholeUpdate+where, append([]any{as.apiKey(s), as.digest(s)}, args...)...)
		})
	}
	return []writePath{
		{name: "ExecContext, a string", refused: errConstraint, write: func(ctx context.Context, w *writer) error {
			return statement(ctx, w, updateStatement, "PKPLAIN", nil, w.rows[0].ID)
		}},
		{name: "ExecContext, a nil pointer, bare", raw: true, refused: errBare, write: func(ctx context.Context,
			w *writer,
		) error {
			return statement(ctx, w, updateStatement, (*credent.Secret)(nil), nil, w.rows[0].ID)
		}},
		{name: "ExecContext, a nil pointer", refused: errNotNull, write: func(ctx context.Context, w *writer) error {
			secret := (*credent.Secret)(nil)
			return statement(ctx, w, updateStatement, passing{}.apiKey(secret), passing{}.digest(secret), w.rows[0].ID)
		}},
		{name: "ExecContext, an absent secret, bare", raw: true, refused: errBare, write: func(ctx context.Context,
			w *writer,
		) error {
			return statement(ctx, w, updateStatement, credent.Secret{}, nil, w.rows[0].ID)
		}},
		{
			name: "ExecContext, text that ent's own INSERT would store", refused: errConstraint,
			write: func(ctx context.Context, w *writer) error {
				return statement(ctx, w, insertStatement, uuid.New(), w.account.ID, "PKPLAIN", "secret", nil)
			},
		},
		{name: "ExecContext, a printed secret", refused: credent.ErrRedacted, write: func(ctx context.Context,
			w *writer,
		) error {
			return statement(ctx, w, updateStatement, s.String(), nil, w.rows[0].ID)
		}},
		placed("without the digest", credent.ErrBlindIndex, func(ctx context.Context, w *writer, as passing) error {
			return statement(ctx, w, "UPDATE user_credentials SET api_key = $1 WHERE id = $2",
				as.apiKey(s), w.rows[0].ID)
		}),
		placed("with the digest of another secret", credent.ErrBlindIndex, func(ctx context.Context, w *writer,
			as passing,
		) error {
			return statement(ctx, w, updateStatement, as.apiKey(s), as.digest(credent.NewSecret("old")), w.rows[0].ID)
		}),
		placed("the digest alone", credent.ErrBlindIndex, func(ctx context.Context, w *writer, as passing) error {
			return statement(ctx, w, "UPDATE user_credentials SET api_key_index = $1 WHERE id = $2",
				as.digest(s), w.rows[0].ID)
		}),
		placed("a digest of a column without an index", credent.ErrBlindIndex, func(ctx context.Context, w *writer,
			as passing,
		) error {
			return statement(ctx, w, updateStatement, as.apiKey(s),
				encrypted.DigestOf(s, usercredential.SecretKeyColumn, nil), w.rows[0].ID)
		}),
		placed("At of a string", credent.ErrValue, func(ctx context.Context, w *writer, as passing) error {
			return statement(ctx, w, updateStatement, as.apiKey("PKPLAIN"), nil, w.rows[0].ID)
		}),
		bare("UPDATE of all rows", wholeUpdate, s, nil),
		updating("UPDATE of all rows", ""),
		bare("UPDATE of a user's rows", wholeUpdate+" WHERE user_id = $3", s, nil, "u1"),
		updating("UPDATE of a user's rows", " WHERE user_id = $3", "u1"),
		bare("UPDATE of other rows", wholeUpdate+" WHERE id <> $3", s, nil, other),
		updating("UPDATE of other rows", " WHERE id <> $3", other),
		bare("UPDATE by a row of another table", wholeUpdate+" FROM user_accounts AS a WHERE a.id <> $3", s, nil,
			other),
		updating("UPDATE by a row of another table", " FROM user_accounts AS a WHERE a.id <> $3", other),
		bare("one value for two columns", "UPDATE user_credentials SET api_key = $1, secret_key = $1 WHERE id = $2", s,
			other),
		placed("INSERT from a SELECT, twice", credent.ErrManyRows, func(ctx context.Context, w *writer,
			as passing,
		) error {
			query := w.env.Casts(strings.Replace(selectStatement, "CAST($1 AS uuid)", w.env.NewID(), 1))
			query = strings.NewReplacer("$2", "$1", "$3", "$2", "$4", "$3").Replace(query)
			return statement(ctx, w, query+", (SELECT 1 AS x UNION SELECT 2) AS twice", as.apiKey(s),
				as.secretKey(s), as.digest(s))
		}),
		bare("DELETE", "DELETE FROM user_credentials WHERE api_key = $1", s),
		placed("DELETE", credent.ErrBlindIndex, func(ctx context.Context, w *writer, as passing) error {
			return statement(ctx, w, "DELETE FROM user_credentials WHERE api_key = $1", as.apiKey(s))
		}),
		bare("DELETE of all others", "DELETE FROM user_credentials WHERE api_key <> $1", s),
		placed("DELETE of all others", credent.ErrBlindIndex, func(ctx context.Context, w *writer, as passing) error {
			return statement(ctx, w, "DELETE FROM user_credentials WHERE api_key <> $1", as.apiKey(s))
		}),
		placed("DELETE of all others, by the other column", credent.ErrManyRows, func(ctx context.Context, w *writer,
			as passing,
		) error {
			return statement(ctx, w, "DELETE FROM user_credentials WHERE secret_key <> $1", as.secretKey(s))
		}),
		bare("WITH … DELETE", "WITH x AS (SELECT 1) DELETE FROM user_credentials WHERE api_key <> $1", s),
		bare("WITH … UPDATE of all rows", "WITH x AS (SELECT 1) "+wholeUpdate, s, nil),
		placed("WITH … UPDATE of all rows", credent.ErrManyRows, func(ctx context.Context, w *writer,
			as passing,
		) error {
			return statement(ctx, w, "WITH x AS (SELECT 1) "+wholeUpdate, as.apiKey(s), as.digest(s))
		}),
		bare("compare in UPDATE", "UPDATE user_credentials SET is_active = false WHERE api_key <> $1", s),
		placed("compare in UPDATE", credent.ErrManyRows, func(ctx context.Context, w *writer, as passing) error {
			return statement(ctx, w, "UPDATE user_credentials SET is_active = false WHERE secret_key <> $1",
				as.secretKey(s))
		}),
		bare("shortened", "UPDATE user_credentials SET api_key = substr($1, 1, 100) WHERE id = $2", s, other),
		{
			name: "QueryContext, UPDATE of all rows", raw: true, refused: credent.ErrManyRows,
			write: func(ctx context.Context, w *writer) error {
				return query(ctx, door{sqlRunner: w.client}, w.env.Placeholders(wholeUpdate+" RETURNING id"),
					passing{}.apiKey(s), passing{}.digest(s))
			},
		},
		{
			name: "ExecContext, numbered parameters of Postgres", raw: true, refused: errDollar,
			write: func(ctx context.Context, w *writer) error {
				if !w.env.IsSQLite() {
					return errDollar // where they are right
				}
				_, err := w.client.ExecContext(ctx, updateStatement, passing{}.apiKey(s),
					passing{}.digest(s), w.rows[0].ID)
				return err
			},
		},
	}
}

func predicatePaths() []writePath {
	s := credent.NewSecret("api0")
	deletion := func(name string, err error, p predicate.UserCredential) writePath {
		return writePath{name: "Delete, " + name, raw: true, refused: err, write: func(ctx context.Context,
			w *writer,
		) error {
			_, err := w.client.UserCredential.Delete().Where(p).Exec(ctx)
			return err
		}}
	}
	return []writePath{
		deletion("FieldEQ", errBare, entsql.FieldEQ("api_key", s)),
		deletion("FieldNEQ", errBare, entsql.FieldNEQ("api_key", s)),
		deletion("FieldNEQ of a pointer", errBare, entsql.FieldNEQ("api_key", &s)),
		deletion("FieldIn", errBare, entsql.FieldIn("api_key", s, s)),
		deletion("FieldNotIn", errBare, entsql.FieldNotIn("api_key", s)),
		deletion("FieldGT", errBare, entsql.FieldGT("api_key", s)),
		deletion("a selector", errBare, func(q *entsql.Selector) { q.Where(entsql.Not(entsql.EQ(q.C("api_key"), s))) }),
		deletion("SQL", errBare, func(q *entsql.Selector) {
			q.Where(entsql.ExprP("api_key <> $1", s))
		}),
		{name: "Delete, a printed secret", refused: credent.ErrRedacted, marker: true, write: func(ctx context.Context,
			w *writer,
		) error {
			_, err := w.client.UserCredential.Delete().Where(entsql.FieldNEQ("api_key", s.String())).Exec(ctx)
			return err
		}},
		deletion("a list of secrets", credent.ErrNoLocation, func(q *entsql.Selector) {
			q.Where(entsql.ExprP("NOT api_key = ANY($1)", []credent.Secret{s}))
		}),
		deletion("sqljson.ValueEQ", errBare, func(q *entsql.Selector) { q.Where(sqljson.ValueEQ("api_key", s)) }),
		deletion("sqljson.ValueNEQ", errBare,
			func(q *entsql.Selector) { q.Where(sqljson.ValueNEQ("api_key", s, sqljson.Path("a"))) }),
		deletion("sqljson.ValueContains", errCompared,
			func(q *entsql.Selector) { q.Where(sqljson.ValueContains("api_key", s)) }),
		{name: "DeleteOne with a secret", raw: true, refused: errBare, write: func(ctx context.Context,
			w *writer,
		) error {
			return w.client.UserCredential.DeleteOneID(w.rows[0].ID).Where(entsql.FieldEQ("api_key", s)).Exec(ctx)
		}},
		{name: "UpdateOne with a secret", raw: true, refused: errBare, write: func(ctx context.Context,
			w *writer,
		) error {
			return w.row(ctx, 0).Update().SetIsActive(false).Where(entsql.FieldEQ("api_key", s)).Exec(ctx)
		}},
		{name: "Update with a secret", raw: true, refused: errBare, write: func(ctx context.Context, w *writer) error {
			return w.client.UserCredential.Update().SetAPIKey(s).
				Where(usercredential.ID(w.rows[0].ID), entsql.FieldNEQ("api_key", s)).Exec(ctx)
		}},
		{
			name: "accounts by the secrets of their credentials", raw: true, refused: errBare,
			write: func(ctx context.Context, w *writer) error {
				_, err := w.client.UserAccount.Query().Where(func(q *entsql.Selector) {
					t := entsql.Table(usercredential.Table)
					q.Where(entsql.In(q.C("id"), entsql.Select(t.C("user_account_id")).From(t).
						Where(entsql.EQ(t.C("api_key"), s))))
				}).All(ctx)
				return err
			},
		},
		{name: "Query with a secret", raw: true, refused: errBare, write: func(ctx context.Context, w *writer) error {
			_, err := w.client.UserCredential.Query().Where(entsql.FieldEQ("api_key", s)).All(ctx)
			return err
		}},
		{name: "Query, modified with a secret", raw: true, refused: errBare, write: func(ctx context.Context,
			w *writer,
		) error {
			return w.client.UserCredential.Query().
				Modify(func(q *entsql.Selector) { q.Where(entsql.EQ("api_key", s)) }).
				Scan(ctx, new([]ent.UserCredential))
		}},
		{name: "Query, ordered by a secret", raw: true, refused: errBare, write: func(ctx context.Context,
			w *writer,
		) error {
			_, err := w.client.UserCredential.Query().Order(func(q *entsql.Selector) {
				q.OrderExpr(entsql.ExprFunc(func(b *entsql.Builder) { b.Ident("api_key").WriteString(" = ").Arg(s) }))
			}).All(ctx)
			return err
		}},
	}
}

package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/testdb"
)

// The tables after the last migration, column for column.
func TestTables(t *testing.T) {
	t.Parallel()
	env := testdb.New(t)
	const (
		uuidDefault = "gen_random_uuid()"
		utcNow      = "timezone('utc'::text, now())"
	)
	for _, test := range []struct {
		name  string
		query string
		want  []string
	}{
		{
			"columns",
			`SELECT concat_ws(' ', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
				CASE WHEN a.attnotnull THEN 'NOT NULL' ELSE 'NULL' END, pg_get_expr(d.adbin, d.adrelid))
			FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
			WHERE c.relname IN ('user_accounts', 'user_credentials') AND a.attnum > 0 AND NOT a.attisdropped
			ORDER BY c.relname, a.attnum`,
			[]string{
				"user_accounts id uuid NOT NULL " + uuidDefault,
				"user_accounts user_id character varying(255) NOT NULL",
				"user_accounts account_name character varying(255) NOT NULL",
				"user_accounts is_active boolean NOT NULL true",
				"user_accounts created_at timestamp without time zone NOT NULL " + utcNow,
				"user_accounts updated_at timestamp without time zone NOT NULL " + utcNow,
				"user_credentials id uuid NOT NULL " + uuidDefault,
				"user_credentials user_account_id uuid NOT NULL",
				"user_credentials user_id character varying(255) NOT NULL",
				"user_credentials credential_type character varying(50) NOT NULL",
				"user_credentials api_key character varying(500) NOT NULL",
				"user_credentials secret_key character varying(500) NOT NULL",
				"user_credentials is_active boolean NOT NULL true",
				"user_credentials expires_at timestamp without time zone NULL",
				"user_credentials created_at timestamp without time zone NOT NULL " + utcNow,
				"user_credentials updated_at timestamp without time zone NOT NULL " + utcNow,
				"user_credentials api_key_index bytea NULL",
			},
		},
		{
			"constraints",
			`SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
			WHERE conrelid IN ('user_accounts'::regclass, 'user_credentials'::regclass) AND contype <> 'n' ORDER BY conname`,
			[]string{
				"credent_user_credentials__user_id_move TRIGGER DEFERRABLE INITIALLY DEFERRED",
				"user_accounts_pkey PRIMARY KEY (id)",
				"user_accounts_user_id_key UNIQUE (user_id)",
				"user_credentials_api_key_encrypted CHECK (((api_key)::text ~~ 'gAAAA%'::text))",
				"user_credentials_pkey PRIMARY KEY (id)",
				"user_credentials_secret_key_encrypted CHECK (((secret_key)::text ~~ 'gAAAA%'::text))",
				"user_credentials_user_id_user_account_id_fkey FOREIGN KEY (user_id, user_account_id) " +
					"REFERENCES user_accounts(user_id, id) ON UPDATE CASCADE ON DELETE CASCADE",
			},
		},
		{
			"indexes",
			`SELECT indexdef FROM pg_indexes WHERE tablename IN ('user_accounts', 'user_credentials') ORDER BY indexname`,
			[]string{
				"CREATE INDEX idx_user_accounts_user_id ON public.user_accounts USING btree (user_id)",
				"CREATE INDEX idx_user_credentials_account_id ON public.user_credentials USING btree (user_account_id)",
				"CREATE INDEX idx_user_credentials_api_key_index ON public.user_credentials USING btree " +
					"(api_key_index)",
				"CREATE INDEX idx_user_credentials_user_id ON public.user_credentials USING btree (user_id)",
				"CREATE UNIQUE INDEX user_accounts_pkey ON public.user_accounts USING btree (id)",
				"CREATE UNIQUE INDEX user_accounts_user_id_id_key ON public.user_accounts USING btree (user_id, id)",
				"CREATE UNIQUE INDEX user_accounts_user_id_key ON public.user_accounts USING btree (user_id)",
				"CREATE UNIQUE INDEX user_credentials_pkey ON public.user_credentials USING btree (id)",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rows, err := env.DB.QueryContext(t.Context(), test.query)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = rows.Close() }()
			var got []string
			for rows.Next() {
				var line string
				if err := rows.Scan(&line); err != nil {
					t.Fatal(err)
				}
				got = append(got, line)
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

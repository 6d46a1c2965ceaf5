-- Makes the trigger of a new credential cheaper: its function had a search_path of its own, which Postgres sets and takes back for
-- every row. Now it names the schema of all that it uses instead, operators included, so that nobody's table or operator of the
-- same name comes before ours.

-- Create function "credent_credential_tenant"
DO $$
BEGIN
  EXECUTE format($create$
CREATE OR REPLACE FUNCTION %1$I."credent_credential_tenant"() RETURNS trigger LANGUAGE plpgsql AS $body$
DECLARE
  owner_id pg_catalog.text;
BEGIN
  -- The lock makes a concurrent change of the account's user_id wait, or this wait for it.
  SELECT a."user_id" INTO owner_id FROM %1$I."user_accounts" AS a WHERE a."id" OPERATOR(pg_catalog.=) NEW."user_account_id" FOR KEY SHARE;
  IF NOT FOUND THEN
    IF pg_catalog.row_security_active(pg_catalog.format('%%I.user_accounts', TG_TABLE_SCHEMA))
      AND COALESCE(pg_catalog.current_setting('app.user_id', true), '') OPERATOR(pg_catalog.=) '' THEN
      RAISE insufficient_privilege USING
        MESSAGE = 'new row violates row-level security policy for table "user_credentials": app.user_id is not set',
        TABLE = 'user_credentials';
    END IF;
    -- Not there, or another user's: the answer is the same.
    RAISE foreign_key_violation USING
      MESSAGE = 'insert or update on table "user_credentials" violates foreign key constraint "user_credentials_user_account_id_fkey"',
      TABLE = 'user_credentials', CONSTRAINT = 'user_credentials_user_account_id_fkey';
  END IF;
  IF NEW."user_id" IS NULL OR TG_OP OPERATOR(pg_catalog.=) 'UPDATE'
    AND NEW."user_account_id" OPERATOR(pg_catalog.<>) OLD."user_account_id"
    AND NEW."user_id"::pg_catalog.text OPERATOR(pg_catalog.=) OLD."user_id"::pg_catalog.text THEN
    NEW."user_id" := owner_id;
  END IF;
  IF NEW."user_id"::pg_catalog.text OPERATOR(pg_catalog.<>) owner_id THEN
    RAISE check_violation USING
      MESSAGE = 'new row for relation "user_credentials" violates check constraint "user_credentials_user_id_of_account"',
      TABLE = 'user_credentials', CONSTRAINT = 'user_credentials_user_id_of_account';
  END IF;
  RETURN NEW;
END
$body$
$create$, current_schema());
END
$$;

-- Makes bulk insertions and COPY cheaper: the user_id of new credentials is compared with their accounts' once for each statement,
-- in one query. Where row-level security hides accounts from the writer, and where user_id is to be filled in, it goes row by row
-- as before as well: then an account of another user is refused before the foreign key could tell it from none.

-- Create function "credent_inserted_tenant"
DO $$
BEGIN
  EXECUTE format($create$
CREATE OR REPLACE FUNCTION %1$I."credent_inserted_tenant"() RETURNS trigger LANGUAGE plpgsql AS $body$
DECLARE
  wrong_id pg_catalog.uuid;
BEGIN
  -- The lock makes a concurrent change of an account's user_id wait, or this wait for it. An account that is not there has no user_id.
  -- The plan is kept for the session, whatever is inserted next. The limits keep Postgres from compiling it for a first bulk, and let
  -- it stop at the account.
  SELECT c."id" INTO wrong_id FROM "inserted" AS c WHERE COALESCE((
    SELECT a."user_id"::pg_catalog.text FROM %1$I."user_accounts" AS a WHERE a."id" OPERATOR(pg_catalog.=) c."user_account_id" LIMIT 1 FOR KEY SHARE
  ) OPERATOR(pg_catalog.<>) c."user_id"::pg_catalog.text COLLATE pg_catalog."C", true) LIMIT 1;
  IF FOUND THEN
    RAISE check_violation USING
      MESSAGE = 'new row for relation "user_credentials" violates check constraint "user_credentials_user_id_of_account"',
      DETAIL = pg_catalog.format('Key (id)=(%%s) has a user_id that is not its account''s.', wrong_id),
      TABLE = 'user_credentials', CONSTRAINT = 'user_credentials_user_id_of_account';
  END IF;
  RETURN NULL;
END
$body$;
$create$, current_schema());
END
$$;
-- Create trigger "user_credentials_tenant"
DROP TRIGGER IF EXISTS "user_credentials_tenant" ON "user_credentials";
CREATE TRIGGER "user_credentials_tenant" BEFORE UPDATE OF "user_account_id", "user_id" ON "user_credentials" FOR EACH ROW EXECUTE FUNCTION "credent_credential_tenant"();
-- Create trigger "user_credentials_tenant_row"
DROP TRIGGER IF EXISTS "user_credentials_tenant_row" ON "user_credentials";
CREATE TRIGGER "user_credentials_tenant_row" BEFORE INSERT ON "user_credentials" FOR EACH ROW WHEN (NEW."user_id" IS NULL OR pg_catalog.row_security_active('user_credentials'::regclass)) EXECUTE FUNCTION "credent_credential_tenant"();
-- Create trigger "user_credentials_tenant_statement"
DROP TRIGGER IF EXISTS "user_credentials_tenant_statement" ON "user_credentials";
CREATE TRIGGER "user_credentials_tenant_statement" AFTER INSERT ON "user_credentials" REFERENCING NEW TABLE AS "inserted" FOR EACH STATEMENT EXECUTE FUNCTION "credent_inserted_tenant"();

-- Keeps a credential's user_id equal to its account's, and lets every role but the tables' owner see the rows of one user
-- only: the one in the setting app.user_id, and none if it is not set. Services connect as a member of credent_app.

-- Mend copies that differ
UPDATE "user_credentials" AS c SET "user_id" = a."user_id" FROM "user_accounts" AS a WHERE a."id" = c."user_account_id" AND a."user_id" <> c."user_id";
-- Create function "credent_credential_tenant". It compares as text, since whoever may create things in the schema could
-- make an operator of their own for character varying.
CREATE OR REPLACE FUNCTION "credent_credential_tenant"() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  owner_id text;
BEGIN
  -- The lock makes a concurrent change of the account's user_id wait, or this wait for it.
  SELECT "user_id" INTO owner_id FROM "user_accounts" WHERE "id" = NEW."user_account_id" FOR KEY SHARE;
  IF NOT FOUND AND row_security_active('user_accounts') AND COALESCE(current_setting('app.user_id', true), '') = '' THEN
    RAISE insufficient_privilege USING
      MESSAGE = 'new row violates row-level security policy for table "user_credentials": app.user_id is not set',
      TABLE = 'user_credentials';
  END IF;
  IF NOT FOUND THEN
    -- Not there, or another user's: the answer is the same.
    RAISE foreign_key_violation USING
      MESSAGE = 'insert or update on table "user_credentials" violates foreign key constraint "user_credentials_user_account_id_fkey"',
      TABLE = 'user_credentials', CONSTRAINT = 'user_credentials_user_account_id_fkey';
  END IF;
  IF NEW."user_id" IS NULL OR TG_OP = 'UPDATE' AND NEW."user_account_id" <> OLD."user_account_id" AND NEW."user_id"::text = OLD."user_id"::text THEN
    NEW."user_id" := owner_id;
  END IF;
  IF NEW."user_id"::text <> owner_id THEN
    RAISE check_violation USING
      MESSAGE = 'new row for relation "user_credentials" violates check constraint "user_credentials_user_id_of_account"',
      TABLE = 'user_credentials', CONSTRAINT = 'user_credentials_user_id_of_account';
  END IF;
  RETURN NEW;
END
$$;
-- Create function "credent_account_tenant"
CREATE OR REPLACE FUNCTION "credent_account_tenant"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW."user_id"::text = OLD."user_id"::text THEN
    RETURN NULL;
  END IF;
  -- A snapshot that is older than the lock lacks the credentials which were committed while this waited for it.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE feature_not_supported USING
      MESSAGE = 'the user_id of an account can be changed at the isolation level READ COMMITTED only', TABLE = 'user_accounts';
  END IF;
  UPDATE "user_credentials" SET "user_id" = NEW."user_id" WHERE "user_account_id" = NEW."id" AND "user_id"::text <> NEW."user_id"::text;
  RETURN NULL;
END
$$;
-- Let nobody put a table of the same name before ours
DO $$
BEGIN
  EXECUTE format('ALTER FUNCTION "credent_credential_tenant"() SET search_path = %I, pg_temp', current_schema());
  EXECUTE format('ALTER FUNCTION "credent_account_tenant"() SET search_path = %I, pg_temp', current_schema());
END
$$;
-- Create trigger "user_credentials_tenant"
DROP TRIGGER IF EXISTS "user_credentials_tenant" ON "user_credentials";
CREATE TRIGGER "user_credentials_tenant" BEFORE INSERT OR UPDATE OF "user_account_id", "user_id" ON "user_credentials" FOR EACH ROW EXECUTE FUNCTION "credent_credential_tenant"();
-- Create trigger "user_accounts_tenant"
DROP TRIGGER IF EXISTS "user_accounts_tenant" ON "user_accounts";
CREATE TRIGGER "user_accounts_tenant" AFTER UPDATE OF "user_id" ON "user_accounts" FOR EACH ROW EXECUTE FUNCTION "credent_account_tenant"();
-- Enable row-level security; not for the owner, who is the migrator and the Python application
DROP POLICY IF EXISTS "user_accounts_tenant" ON "user_accounts";
CREATE POLICY "user_accounts_tenant" ON "user_accounts" USING ("user_id" = NULLIF(current_setting('app.user_id', true), '')) WITH CHECK ("user_id" = NULLIF(current_setting('app.user_id', true), ''));
ALTER TABLE "user_accounts" ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS "user_credentials_tenant" ON "user_credentials";
CREATE POLICY "user_credentials_tenant" ON "user_credentials" USING ("user_id" = NULLIF(current_setting('app.user_id', true), '')) WITH CHECK ("user_id" = NULLIF(current_setting('app.user_id', true), ''));
ALTER TABLE "user_credentials" ENABLE ROW LEVEL SECURITY;
-- Create role "credent_app", which belongs to the whole server, and may be there already
DO $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'credent_app') THEN
    CREATE ROLE "credent_app" NOLOGIN;
  END IF;
  IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'credent_app' AND (rolsuper OR rolbypassrls)) THEN
    RAISE EXCEPTION 'the role credent_app gets around row-level security; let an administrator run: ALTER ROLE credent_app NOSUPERUSER NOBYPASSRLS; then migrate again';
  END IF;
EXCEPTION
  WHEN duplicate_object OR unique_violation THEN
    NULL; -- another database of the server was migrated at the same moment
  WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'the role credent_app is missing, and % may not create it; let an administrator run: CREATE ROLE credent_app NOLOGIN; then migrate again', current_user;
END
$$;
-- Grant what a service needs
DO $$
BEGIN
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO "credent_app"', current_schema());
END
$$;
GRANT SELECT, INSERT, UPDATE, DELETE ON "user_accounts", "user_credentials" TO "credent_app";

-- Makes it a foreign key that a credential's account exists and has its user_id. New rows are held to it from here on, and
-- the next file looks at the others.

-- An index whose making was interrupted is no key, and IF NOT EXISTS took it for one
DO $$
BEGIN
  IF EXISTS (SELECT 1 FROM pg_catalog.pg_index WHERE indexrelid = to_regclass('"user_accounts_user_id_id_key"') AND NOT indisvalid) THEN
    RAISE EXCEPTION 'the index user_accounts_user_id_id_key is invalid: its making was interrupted; run REINDEX INDEX CONCURRENTLY user_accounts_user_id_id_key; then migrate again';
  END IF;
END
$$;
-- Give up before Postgres looks for deadlocks, or it might end a service's transaction that changes an account
SELECT set_config('lock_timeout', '500ms', true) FROM pg_catalog.pg_settings WHERE "name" = 'lock_timeout' AND ("setting" = '0' OR "setting"::int > 500);
-- Modify "user_credentials" table
ALTER TABLE "user_credentials" ADD CONSTRAINT "user_credentials_user_id_user_account_id_fkey" FOREIGN KEY ("user_id", "user_account_id") REFERENCES "user_accounts" ("user_id", "id") ON UPDATE CASCADE ON DELETE CASCADE NOT VALID;

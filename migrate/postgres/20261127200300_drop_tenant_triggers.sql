-- Drops what the foreign key replaces: the one of user_account_id alone, and the triggers that compared a credential's user_id
-- with its account's, filled it in, and took an account's change of user_id along.

-- Give up before Postgres looks for deadlocks, or it might end a service's transaction that changes an account
SELECT set_config('lock_timeout', '500ms', true) FROM pg_catalog.pg_settings WHERE "name" = 'lock_timeout' AND ("setting" = '0' OR "setting"::int > 500);
-- Modify "user_credentials" table. This comes first, since it is what locks both tables.
-- atlas:nolint condrop the new key says more
ALTER TABLE "user_credentials" DROP CONSTRAINT IF EXISTS "user_credentials_user_account_id_fkey";
-- Drop triggers
DROP TRIGGER IF EXISTS "user_credentials_tenant" ON "user_credentials";
DROP TRIGGER IF EXISTS "user_credentials_tenant_row" ON "user_credentials";
DROP TRIGGER IF EXISTS "user_credentials_tenant_statement" ON "user_credentials";
DROP TRIGGER IF EXISTS "user_accounts_tenant" ON "user_accounts";
-- Drop functions
DROP FUNCTION IF EXISTS "credent_credential_tenant"();
DROP FUNCTION IF EXISTS "credent_inserted_tenant"();
DROP FUNCTION IF EXISTS "credent_account_tenant"();

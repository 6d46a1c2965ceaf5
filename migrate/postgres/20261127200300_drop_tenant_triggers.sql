-- Drops what the foreign key replaces: the one of user_account_id alone, and the triggers that compared a credential's user_id
-- with its account's, filled it in, and took an account's change of user_id along.

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

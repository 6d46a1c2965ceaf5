-- atlas:txmode none

-- Makes an account's user_id and id a key, to which a credential's foreign key can refer. Others read and write meanwhile.

-- Create index "user_accounts_user_id_id_key" to table: "user_accounts"
-- atlas:nolint data_depend user_id alone is unique
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS "user_accounts_user_id_id_key" ON "user_accounts" ("user_id", "id");

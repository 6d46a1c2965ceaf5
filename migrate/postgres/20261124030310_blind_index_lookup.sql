-- In a file of its own, so that only writers wait for it, and readers do not: adding a column locks both out.

-- Create index "idx_user_credentials_api_key_index" to table: "user_credentials"
-- atlas:nolint concurrent_index the column is new and NULL in every row, so that this takes one scan of the table and sorts nothing
CREATE INDEX "idx_user_credentials_api_key_index" ON "user_credentials" ("api_key_index");

-- Modify "integrations" table
ALTER TABLE "integrations" ADD COLUMN "refresh_token_index" bytea NULL;
-- Create index "integration_refresh_token_index" to table: "integrations"
-- atlas:nolint concurrent_index the column is new and NULL in every row
CREATE UNIQUE INDEX "integration_refresh_token_index" ON "integrations" ("refresh_token_index");

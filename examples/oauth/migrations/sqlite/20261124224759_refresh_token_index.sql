-- Add column "refresh_token_index" to table: "integrations"
ALTER TABLE `integrations` ADD COLUMN `refresh_token_index` blob NULL;
-- Create index "integration_refresh_token_index" to table: "integrations"
CREATE UNIQUE INDEX `integration_refresh_token_index` ON `integrations` (`refresh_token_index`);

-- Adds the blind index of api_key: a digest of the key that the Go client writes, by which a credential is found.

-- Add column "api_key_index" to table: "user_credentials"
ALTER TABLE `user_credentials` ADD COLUMN `api_key_index` blob NULL;
-- Create index "idx_user_credentials_api_key_index" to table: "user_credentials"
CREATE INDEX `idx_user_credentials_api_key_index` ON `user_credentials` (`api_key_index`);

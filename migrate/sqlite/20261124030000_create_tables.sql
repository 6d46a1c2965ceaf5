-- Create "user_accounts" table
CREATE TABLE `user_accounts` (
  `id` uuid NOT NULL DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-' || substr('89AB', 1 + (abs(random()) % 4), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))),
  `is_active` bool NOT NULL DEFAULT (true),
  `created_at` datetime NOT NULL DEFAULT (CURRENT_TIMESTAMP),
  `updated_at` datetime NOT NULL DEFAULT (CURRENT_TIMESTAMP),
  `user_id` varchar NOT NULL,
  `account_name` varchar NOT NULL,
  PRIMARY KEY (`id`)
);
-- Create index "user_accounts_user_id_key" to table: "user_accounts"
CREATE UNIQUE INDEX `user_accounts_user_id_key` ON `user_accounts` (`user_id`);
-- Create index "idx_user_accounts_user_id" to table: "user_accounts"
CREATE INDEX `idx_user_accounts_user_id` ON `user_accounts` (`user_id`);
-- Create "user_credentials" table
CREATE TABLE `user_credentials` (
  `id` uuid NOT NULL DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-' || substr('89AB', 1 + (abs(random()) % 4), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))),
  `is_active` bool NOT NULL DEFAULT (true),
  `created_at` datetime NOT NULL DEFAULT (CURRENT_TIMESTAMP),
  `updated_at` datetime NOT NULL DEFAULT (CURRENT_TIMESTAMP),
  `user_id` varchar NOT NULL,
  `credential_type` varchar NOT NULL,
  `api_key` varchar NOT NULL,
  `secret_key` varchar NOT NULL,
  `expires_at` datetime NULL,
  `user_account_id` uuid NOT NULL,
  PRIMARY KEY (`id`),
  CONSTRAINT `user_credentials_user_account_id_fkey` FOREIGN KEY (`user_account_id`) REFERENCES `user_accounts` (`id`) ON DELETE CASCADE,
  CONSTRAINT `user_credentials_api_key_encrypted` CHECK (api_key LIKE 'gAAAA%'),
  CONSTRAINT `user_credentials_secret_key_encrypted` CHECK (secret_key LIKE 'gAAAA%')
);
-- Create index "idx_user_credentials_user_id" to table: "user_credentials"
CREATE INDEX `idx_user_credentials_user_id` ON `user_credentials` (`user_id`);
-- Create index "idx_user_credentials_account_id" to table: "user_credentials"
CREATE INDEX `idx_user_credentials_account_id` ON `user_credentials` (`user_account_id`);

-- atlas:delimiter \n\n

-- Makes it a foreign key that a credential's account exists and has its user_id, in place of triggers. SQLite changes a table's
-- foreign keys only by making the table anew, and drops with the old one what belongs to it. So this fails, and changes nothing, if
-- the table has a column, an index or a trigger that is not of these migrations: drop it, and make it again afterwards.
-- A connection may have foreign keys off, as SQLite's default is. The triggers at the end hold it to the key nevertheless.
CREATE TABLE `credent_checked` (
  `columns` integer CONSTRAINT `user_credentials has a column of others` CHECK (columns = 0),
  `others` integer CONSTRAINT `user_credentials has an index or a trigger of others` CHECK (others = 0)
);

INSERT INTO `credent_checked` SELECT
  (SELECT count(*) FROM pragma_table_xinfo('user_credentials') WHERE name NOT IN ('id', 'is_active', 'created_at', 'updated_at', 'user_id',
    'credential_type', 'api_key', 'secret_key', 'expires_at', 'user_account_id', 'api_key_index')),
  (SELECT count(*) FROM sqlite_master WHERE lower(tbl_name) = 'user_credentials' AND type IN ('index', 'trigger') AND sql IS NOT NULL AND name NOT IN (
    'idx_user_credentials_user_id', 'idx_user_credentials_account_id', 'idx_user_credentials_api_key_index',
    'user_credentials_tenant_insert', 'user_credentials_tenant_update', 'user_credentials_tenant_move',
    'credent_user_credentials__api_key_1', 'credent_user_credentials__api_key_2', 'credent_user_credentials__user_id_move'));

DROP TABLE `credent_checked`;

-- Create index "user_accounts_user_id_id_key" to table: "user_accounts"
-- atlas:nolint data_depend user_id alone is unique
CREATE UNIQUE INDEX `user_accounts_user_id_id_key` ON `user_accounts` (`user_id`, `id`);

-- It would update a table that is not there meanwhile
DROP TRIGGER `user_accounts_tenant`;

-- Keep the rows meanwhile
CREATE TABLE `credent_kept` AS SELECT * FROM `user_credentials`;

-- Drop "user_credentials" table, with its triggers and indexes
-- atlas:nolint destructive its rows are kept
DROP TABLE `user_credentials`;

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
  `api_key_index` blob NULL,
  PRIMARY KEY (`id`),
  CONSTRAINT `user_credentials_user_id_user_account_id_fkey` FOREIGN KEY (`user_id`, `user_account_id`) REFERENCES `user_accounts` (`user_id`, `id`) ON UPDATE CASCADE ON DELETE CASCADE,
  CONSTRAINT `user_credentials_api_key_encrypted` CHECK (api_key LIKE 'gAAAA%'),
  CONSTRAINT `user_credentials_secret_key_encrypted` CHECK (secret_key LIKE 'gAAAA%')
);

INSERT INTO `user_credentials` (`id`, `is_active`, `created_at`, `updated_at`, `user_id`, `credential_type`, `api_key`, `secret_key`, `expires_at`, `user_account_id`, `api_key_index`)
SELECT `id`, `is_active`, `created_at`, `updated_at`, `user_id`, `credential_type`, `api_key`, `secret_key`, `expires_at`, `user_account_id`, `api_key_index` FROM `credent_kept` ORDER BY rowid;

DROP TABLE `credent_kept`;

-- Create index "idx_user_credentials_user_id" to table: "user_credentials"
CREATE INDEX `idx_user_credentials_user_id` ON `user_credentials` (`user_id`);

-- Create index "idx_user_credentials_account_id" to table: "user_credentials"
CREATE INDEX `idx_user_credentials_account_id` ON `user_credentials` (`user_account_id`);

-- Create index "idx_user_credentials_api_key_index" to table: "user_credentials"
CREATE INDEX `idx_user_credentials_api_key_index` ON `user_credentials` (`api_key_index`);

-- Empty "api_key_index" of "user_credentials" when another writer changes "api_key"
CREATE TRIGGER "credent_user_credentials__api_key_1" BEFORE UPDATE OF "api_key" ON "user_credentials"
WHEN OLD."api_key_index" IS NOT NULL AND NEW."api_key" IS NOT OLD."api_key" COLLATE BINARY
BEGIN
  -- credent: blind index
  UPDATE "user_credentials" SET "api_key_index" = NULL WHERE "id" IS OLD."id";
END;

CREATE TRIGGER "credent_user_credentials__api_key_2" AFTER UPDATE OF "api_key", "api_key_index" ON "user_credentials"
WHEN NEW."api_key" IS NULL AND NEW."api_key_index" IS NOT NULL
BEGIN
  -- credent: blind index
  UPDATE "user_credentials" SET "api_key_index" = NULL WHERE "id" IS NEW."id";
END;

-- Refuse that a user_id changes and tokens are left behind
CREATE TRIGGER "credent_user_credentials__user_id_move" AFTER UPDATE OF "user_id" ON "user_credentials"
WHEN NEW."user_id" IS NOT OLD."user_id" COLLATE BINARY AND (NEW."api_key" IS OLD."api_key" COLLATE BINARY AND NEW."api_key" <> 'gAAAA'
    AND EXISTS (SELECT 1 FROM "credent_states" WHERE column_name IN ('user_credentials.api_key') AND protection IN ('binding', 'tenant-keys') AND state <> 'off')
  OR NEW."secret_key" IS OLD."secret_key" COLLATE BINARY AND NEW."secret_key" <> 'gAAAA'
    AND EXISTS (SELECT 1 FROM "credent_states" WHERE column_name IN ('user_credentials.secret_key') AND protection IN ('binding', 'tenant-keys') AND state <> 'off'))
BEGIN
  -- credent: tokens follow their tenant
  SELECT RAISE(ABORT, 'credent: the secrets of this row depend on user_id and would be left behind: change it with a client or credent account move, or store them again in the same transaction');
END;

-- Hold connections without foreign keys to the key
CREATE TRIGGER `user_credentials_key_insert` AFTER INSERT ON `user_credentials`
WHEN NOT EXISTS (SELECT 1 FROM `user_accounts` WHERE `user_id` = NEW.`user_id` AND `id` = NEW.`user_account_id`)
BEGIN
  SELECT RAISE(ABORT, 'FOREIGN KEY constraint failed: user_credentials_user_id_user_account_id_fkey');
END;

CREATE TRIGGER `user_credentials_key_update` AFTER UPDATE OF `user_id`, `user_account_id` ON `user_credentials`
WHEN NOT EXISTS (SELECT 1 FROM `user_accounts` WHERE `user_id` = NEW.`user_id` AND `id` = NEW.`user_account_id`)
BEGIN
  SELECT RAISE(ABORT, 'FOREIGN KEY constraint failed: user_credentials_user_id_user_account_id_fkey');
END;

-- With foreign keys the credentials have followed already
CREATE TRIGGER `user_accounts_key_update` AFTER UPDATE OF `user_id` ON `user_accounts`
WHEN EXISTS (SELECT 1 FROM `user_credentials` WHERE `user_id` = OLD.`user_id` AND `user_account_id` = NEW.`id`)
BEGIN
  UPDATE `user_credentials` SET `user_id` = NEW.`user_id` WHERE `user_id` = OLD.`user_id` AND `user_account_id` = NEW.`id`;
END;

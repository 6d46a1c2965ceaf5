-- Keeps every verification of each encrypted column, and which keys its secrets were under, where there was only the last one.
-- Rows may be deleted at any time.

-- Create "new_credent_verifications" table
CREATE TABLE `new_credent_verifications` (
  `table_name` varchar NOT NULL,
  `column_name` varchar NOT NULL,
  `verified_at` datetime NOT NULL,
  `secrets` bigint NOT NULL,
  `failed` bigint NOT NULL,
  `ready` bool NOT NULL,
  `found` text NOT NULL DEFAULT '',
  PRIMARY KEY (`table_name`, `column_name`, `verified_at`)
);
-- Copy rows from "credent_verifications" to "new_credent_verifications"
INSERT INTO `new_credent_verifications` (`table_name`, `column_name`, `verified_at`, `secrets`, `failed`, `ready`) SELECT `table_name`, `column_name`, `verified_at`, `secrets`, `failed`, `ready` FROM `credent_verifications`;
-- atlas:nolint destructive its rows are kept
DROP TABLE `credent_verifications`;
-- Rename "new_credent_verifications" to "credent_verifications"
ALTER TABLE `new_credent_verifications` RENAME TO `credent_verifications`;

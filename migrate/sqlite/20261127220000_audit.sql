-- atlas:delimiter \n\n

-- Adds the audit trail: who did what with which secret, when, and how it ended; never a value. place is no part of an entry: it
-- says in which order entries were committed. docs/audit.md says what the trail proves.
CREATE TABLE `credent_audit` (
  `place` integer NOT NULL,
  `at` text NOT NULL,
  `id` text NOT NULL,
  `writer` text NOT NULL,
  `seq` integer NULL,
  `prev` blob NULL,
  `row_count` integer NOT NULL,
  `action` text NOT NULL,
  `actor` text NOT NULL,
  `tenant` text NOT NULL,
  `table_name` text NOT NULL,
  `column_name` text NOT NULL,
  `row_id` text NOT NULL,
  `key_id` text NOT NULL,
  `outcome` text NOT NULL,
  `request` text NOT NULL,
  `note` text NOT NULL,
  `signer` text NOT NULL,
  `mac` blob NOT NULL,
  PRIMARY KEY (`place`),
  CONSTRAINT `credent_audit_at` CHECK (typeof(at) = 'text' AND at GLOB '[2-9][0-9][0-9][0-9]-[0-1][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]'
    AND substr(at, 12, 2) < '24' AND strftime('%Y-%m-%d %H:%M:%S', at) = substr(at, 1, 19)),
  CONSTRAINT `credent_audit_mac` CHECK (length(mac) = 32 AND (length(prev) = 32 OR seq IS NULL))
);

-- Create index "credent_audit_at_id" to table: "credent_audit"
CREATE UNIQUE INDEX `credent_audit_at_id` ON `credent_audit` (`at`, `id`);

-- Create index "idx_credent_audit_chain" to table: "credent_audit"
CREATE INDEX `idx_credent_audit_chain` ON `credent_audit` (`writer`, `seq`);

-- Refuse changes. An INSERT OR REPLACE deletes without a trigger, so an entry that is there already is passed over.
CREATE TRIGGER `credent_audit_insert` BEFORE INSERT ON `credent_audit`
WHEN EXISTS (SELECT 1 FROM `credent_audit` WHERE `place` = NEW.`place` OR (`at` = NEW.`at` AND `id` = NEW.`id`))
BEGIN
  SELECT RAISE(IGNORE);
END;

CREATE TRIGGER `credent_audit_update` BEFORE UPDATE ON `credent_audit`
BEGIN
  SELECT RAISE(ABORT, 'credent: the audit trail takes new entries, and none is changed or removed; credent audit archive removes whole months');
END;

CREATE TRIGGER `credent_audit_delete` BEFORE DELETE ON `credent_audit`
BEGIN
  SELECT RAISE(ABORT, 'credent: the audit trail takes new entries, and none is changed or removed; credent audit archive removes whole months');
END;

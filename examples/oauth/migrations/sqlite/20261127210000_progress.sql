-- Keeps how far rotate and encrypt are in a table, so that a run goes on where another stopped. Its rows may be deleted at any
-- time.

-- Create "credent_progress" table
CREATE TABLE `credent_progress` (
  `goal` varchar NOT NULL,
  `table_name` varchar NOT NULL,
  `part` integer NOT NULL,
  `parts` integer NOT NULL DEFAULT 0,
  `pass` integer NOT NULL,
  `done_pass` integer NOT NULL DEFAULT 0,
  `since` text NOT NULL DEFAULT '',
  `began` text NOT NULL DEFAULT '',
  `bounds` text NOT NULL DEFAULT '',
  `after_key` text NOT NULL DEFAULT '',
  `up_to_key` text NOT NULL DEFAULT '',
  `at_key` text NOT NULL DEFAULT '',
  `rows_read` integer NOT NULL DEFAULT 0,
  `rows_found` integer NOT NULL DEFAULT 0,
  `rows_skipped` integer NOT NULL DEFAULT 0,
  `quarantined` integer NOT NULL DEFAULT 0,
  `owner` varchar NOT NULL DEFAULT '',
  `lease_until` datetime NULL,
  `updated_at` datetime NOT NULL,
  PRIMARY KEY (`goal`, `table_name`, `part`)
);

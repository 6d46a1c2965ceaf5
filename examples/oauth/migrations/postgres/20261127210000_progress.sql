-- Keeps how far rotate and encrypt are in each part of a table, so that a run goes on where another stopped, and several share
-- the work. Its rows may be deleted at any time.

-- Create "credent_progress" table
CREATE TABLE "credent_progress" (
  "goal" character varying(64) NOT NULL,
  "table_name" character varying(255) NOT NULL,
  "part" integer NOT NULL,
  "parts" integer NOT NULL DEFAULT 0,
  "pass" integer NOT NULL,
  "done_pass" integer NOT NULL DEFAULT 0,
  "since" text NOT NULL DEFAULT '',
  "began" text NOT NULL DEFAULT '',
  "bounds" text NOT NULL DEFAULT '',
  "after_key" text NOT NULL DEFAULT '',
  "up_to_key" text NOT NULL DEFAULT '',
  "at_key" text NOT NULL DEFAULT '',
  "rows_read" bigint NOT NULL DEFAULT 0,
  "rows_found" bigint NOT NULL DEFAULT 0,
  "rows_skipped" bigint NOT NULL DEFAULT 0,
  "quarantined" bigint NOT NULL DEFAULT 0,
  "owner" character varying(64) NOT NULL DEFAULT '',
  "lease_until" timestamp NULL,
  "updated_at" timestamp NOT NULL,
  PRIMARY KEY ("goal", "table_name", "part")
);

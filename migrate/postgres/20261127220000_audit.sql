-- Adds the audit trail: who did what with which secret, when, and how it ended; never a value. Services add entries, and neither
-- read nor change them. docs/audit.md says what the trail proves.

-- Create "credent_audit" table, a partition a month. place is no part of an entry: it says in which order commits are seen.
CREATE TABLE "credent_audit" (
  "at" timestamp NOT NULL,
  "id" uuid NOT NULL,
  "writer" uuid NOT NULL,
  "seq" bigint NULL,
  "prev" bytea NULL,
  "row_count" bigint NOT NULL,
  "action" text NOT NULL,
  "actor" text NOT NULL,
  "tenant" text NOT NULL,
  "table_name" text NOT NULL,
  "column_name" text NOT NULL,
  "row_id" text NOT NULL,
  "key_id" text NOT NULL,
  "outcome" text NOT NULL,
  "request" text NOT NULL,
  "note" text NOT NULL,
  "signer" text NOT NULL,
  "mac" bytea NOT NULL,
  "place" bigint NOT NULL DEFAULT txid_current(),
  CONSTRAINT "credent_audit_pkey" PRIMARY KEY ("at", "id"),
  CONSTRAINT "credent_audit_at" CHECK ("at" >= '2000-01-01'::timestamp AND "at" < '10000-01-01'::timestamp),
  CONSTRAINT "credent_audit_mac" CHECK (octet_length("mac") = 32 AND (octet_length("prev") = 32 OR "seq" IS NULL))
) PARTITION BY RANGE ("at");
-- Create index "idx_credent_audit_chain" to table: "credent_audit"
CREATE INDEX "idx_credent_audit_chain" ON "credent_audit" ("writer", "seq");
-- Create index "idx_credent_audit_place" to table: "credent_audit"
CREATE INDEX "idx_credent_audit_place" ON "credent_audit" USING brin ("place") WITH (autosummarize = true);
-- Primary keys compress badly
ALTER TABLE "credent_audit" ALTER COLUMN "row_id" SET STORAGE EXTERNAL;
-- Takes what has no partition, so that no entry is ever refused
CREATE TABLE "credent_audit_rest" PARTITION OF "credent_audit" DEFAULT;
-- Refuse changes to everybody, the owner included
CREATE OR REPLACE FUNCTION "credent_audit_append_only"() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $credent$
-- credent: the audit trail is append-only
BEGIN
  RAISE insufficient_privilege USING MESSAGE = 'credent: the audit trail takes new entries, and none is changed or removed; credent audit archive removes whole months', TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA;
END
$credent$;
CREATE TRIGGER "credent_audit_append_only" BEFORE UPDATE OR DELETE OR TRUNCATE ON "credent_audit" FOR EACH STATEMENT EXECUTE FUNCTION "credent_audit_append_only"();
ALTER TABLE "credent_audit" ENABLE ALWAYS TRIGGER "credent_audit_append_only";
CREATE TRIGGER "credent_audit_append_only" BEFORE UPDATE OR DELETE OR TRUNCATE ON "credent_audit_rest" FOR EACH STATEMENT EXECUTE FUNCTION "credent_audit_append_only"();
ALTER TABLE "credent_audit_rest" ENABLE ALWAYS TRIGGER "credent_audit_append_only";
-- Create function "credent_audit_partitions": it makes the partitions of this month and of the months ahead, and returns how many it
-- made. Services call it, so it belongs to the owner. What already went to credent_audit_rest stays there.
CREATE OR REPLACE FUNCTION "credent_audit_partitions"(ahead integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER AS $credent$
-- credent: makes the partitions of the audit trail
DECLARE
  month timestamp;
  part text;
  made integer := 0;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('credent_audit_partitions'), hashtext(current_schema())) THEN
    RETURN 0;
  END IF;
  FOR i IN 0..least(greatest(ahead, 0), 12) LOOP
    month := date_trunc('month', timezone('utc', now())) + make_interval(months => i);
    part := 'credent_audit_' || to_char(month, 'YYYY_MM');
    CONTINUE WHEN to_regclass(part) IS NOT NULL OR EXISTS (SELECT 1 FROM "credent_audit_rest" WHERE "at" >= month AND "at" < month + interval '1 month');
    EXECUTE format('CREATE TABLE %I (LIKE "credent_audit" INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', part);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', part);
    EXECUTE format('CREATE TRIGGER "credent_audit_append_only" BEFORE UPDATE OR DELETE OR TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION "credent_audit_append_only"()', part);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER "credent_audit_append_only"', part);
    EXECUTE format('ALTER TABLE "credent_audit" ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', part, month, month + interval '1 month');
    made := made + 1;
  END LOOP;
  RETURN made;
END
$credent$;
-- Let nobody put a table of the same name before ours, and let nobody wait for long
DO $$
BEGIN
  EXECUTE format('ALTER FUNCTION "credent_audit_partitions"(integer) SET search_path = %I, pg_temp', current_schema());
  ALTER FUNCTION "credent_audit_partitions"(integer) SET lock_timeout = '2s';
END
$$;
-- Create role "credent_auditor", which belongs to the whole server, and may be there already
DO $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'credent_auditor') THEN
    CREATE ROLE "credent_auditor" NOLOGIN;
  END IF;
EXCEPTION
  WHEN duplicate_object OR unique_violation THEN
    NULL; -- another database of the server was migrated at the same moment
  WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'the role credent_auditor is missing, and % may not create it; let an administrator run: CREATE ROLE credent_auditor NOLOGIN; then migrate again', current_user;
END
$$;
-- An auditor sees the entries of the tenant in app.user_id, and all if it is not set. A partition by its own name shows nothing.
CREATE POLICY "credent_audit_append" ON "credent_audit" FOR INSERT TO "credent_app" WITH CHECK (true);
CREATE POLICY "credent_audit_read" ON "credent_audit" FOR SELECT TO "credent_auditor" USING (COALESCE(current_setting('app.user_id', true), '') IN ('', "tenant"));
ALTER TABLE "credent_audit" ENABLE ROW LEVEL SECURITY;
ALTER TABLE "credent_audit_rest" ENABLE ROW LEVEL SECURITY;
-- Grant what a service and an auditor need
DO $$
BEGIN
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO "credent_auditor"', current_schema());
END
$$;
GRANT INSERT ("at", "id", "writer", "seq", "prev", "row_count", "action", "actor", "tenant", "table_name", "column_name", "row_id", "key_id", "outcome", "request", "note", "signer", "mac") ON "credent_audit" TO "credent_app";
GRANT SELECT ON "credent_audit" TO "credent_auditor";
REVOKE ALL ON FUNCTION "credent_audit_partitions"(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "credent_audit_partitions"(integer) TO "credent_app";

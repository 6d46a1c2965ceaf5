-- Lays user_accounts and user_credentials out in 16 hash partitions by user_id. They are made anew, so they must have no rows: the
-- layout is chosen with the first migrations. A primary key has the column that the partitions are chosen by, so it is
-- (user_id, id). That id alone is unique follows from how it is made, and no constraint says so.

-- Refuse tables with rows
LOCK TABLE "user_accounts", "user_credentials" IN ACCESS EXCLUSIVE MODE;
DO $$
BEGIN
  IF EXISTS (SELECT 1 FROM "user_accounts") OR EXISTS (SELECT 1 FROM "user_credentials") THEN
    RAISE object_not_in_prerequisite_state USING MESSAGE = 'user_accounts or user_credentials has rows, and both are made anew by the layout partitions';
  END IF;
END
$$;
DROP TABLE "user_credentials";
DROP TABLE "user_accounts";
-- Create table "user_accounts"
CREATE TABLE "user_accounts" (
  "id" uuid NOT NULL DEFAULT gen_random_uuid(),
  "user_id" character varying(255) NOT NULL,
  "account_name" character varying(255) NOT NULL,
  "is_active" boolean NOT NULL DEFAULT true,
  "created_at" timestamp NOT NULL DEFAULT timezone('utc'::text, now()),
  "updated_at" timestamp NOT NULL DEFAULT timezone('utc'::text, now()),
  CONSTRAINT "user_accounts_pkey" PRIMARY KEY ("user_id", "id"),
  CONSTRAINT "user_accounts_user_id_key" UNIQUE ("user_id")
) PARTITION BY HASH ("user_id");
CREATE INDEX "idx_user_accounts_user_id" ON "user_accounts" ("user_id");
-- By id alone, as accounts are looked up whose user is not known
CREATE INDEX "idx_user_accounts_id" ON "user_accounts" ("id");
-- Create table "user_credentials"
CREATE TABLE "user_credentials" (
  "id" uuid NOT NULL DEFAULT gen_random_uuid(),
  "user_account_id" uuid NOT NULL,
  "user_id" character varying(255) NOT NULL,
  "credential_type" character varying(50) NOT NULL,
  "api_key" character varying(500) NOT NULL,
  "secret_key" character varying(500) NOT NULL,
  "is_active" boolean NOT NULL DEFAULT true,
  "expires_at" timestamp NULL,
  "created_at" timestamp NOT NULL DEFAULT timezone('utc'::text, now()),
  "updated_at" timestamp NOT NULL DEFAULT timezone('utc'::text, now()),
  "api_key_index" bytea NULL,
  CONSTRAINT "user_credentials_pkey" PRIMARY KEY ("user_id", "id"),
  CONSTRAINT "user_credentials_api_key_encrypted" CHECK ("api_key" LIKE 'gAAAA%'),
  CONSTRAINT "user_credentials_secret_key_encrypted" CHECK ("secret_key" LIKE 'gAAAA%'),
  CONSTRAINT "user_credentials_user_id_user_account_id_fkey" FOREIGN KEY ("user_id", "user_account_id") REFERENCES "user_accounts" ("user_id", "id") ON UPDATE CASCADE ON DELETE CASCADE
) PARTITION BY HASH ("user_id");
CREATE INDEX "idx_user_credentials_user_id" ON "user_credentials" ("user_id");
CREATE INDEX "idx_user_credentials_account_id" ON "user_credentials" ("user_account_id");
CREATE INDEX "idx_user_credentials_api_key_index" ON "user_credentials" ("api_key_index");
CREATE INDEX "idx_user_credentials_id" ON "user_credentials" ("id");
-- Create partitions. The policies are the whole table's, and whoever reads a partition by its name gets around them. So each has
-- row-level security and no policy, which hides all from everybody but the owner, whatever is granted.
DO $$
BEGIN
  FOR i IN 0..15 LOOP
    EXECUTE format('CREATE TABLE %I PARTITION OF "user_accounts" FOR VALUES WITH (MODULUS 16, REMAINDER %s)', 'user_accounts_p' || to_char(i, 'FM00'), i);
    EXECUTE format('CREATE TABLE %I PARTITION OF "user_credentials" FOR VALUES WITH (MODULUS 16, REMAINDER %s)', 'user_credentials_p' || to_char(i, 'FM00'), i);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', 'user_accounts_p' || to_char(i, 'FM00'));
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', 'user_credentials_p' || to_char(i, 'FM00'));
  END LOOP;
END
$$;
-- Enable row-level security; not for the owner, who is the migrator and the Python application
CREATE POLICY "user_accounts_tenant" ON "user_accounts" USING ("user_id" = NULLIF(current_setting('app.user_id', true), '')) WITH CHECK ("user_id" = NULLIF(current_setting('app.user_id', true), ''));
ALTER TABLE "user_accounts" ENABLE ROW LEVEL SECURITY;
CREATE POLICY "user_credentials_tenant" ON "user_credentials" USING ("user_id" = NULLIF(current_setting('app.user_id', true), '')) WITH CHECK ("user_id" = NULLIF(current_setting('app.user_id', true), ''));
ALTER TABLE "user_credentials" ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON "user_accounts", "user_credentials" TO "credent_app";
-- Empty "api_key_index" of "user_credentials" when another writer changes "api_key"
CREATE TRIGGER "credent_user_credentials__api_key_1" BEFORE UPDATE OF "api_key_index" ON "user_credentials" FOR EACH ROW EXECUTE FUNCTION "credent_user_credentials__api_key"('keep');
CREATE TRIGGER "credent_user_credentials__api_key_2" BEFORE UPDATE ON "user_credentials" FOR EACH ROW EXECUTE FUNCTION "credent_user_credentials__api_key"('clear');
-- Refuse a transaction that changes a user_id and leaves tokens behind. For a row that comes to another partition Postgres calls the
-- triggers of a DELETE, so the row is looked for in the whole table at the end of the transaction.
CREATE FUNCTION "credent_user_credentials__user_id_part"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $credent$
-- credent: tokens follow their tenant
DECLARE
  whole regclass := coalesce(pg_partition_root(TG_RELID), TG_RELID);
  states regclass;
  names text[];
  held text[] := '{}';
  kept_api_key boolean;
  kept_secret_key boolean;
BEGIN
  EXECUTE format('SELECT bool_or(t."api_key"::text COLLATE "C" = $3), bool_or(t."secret_key"::text COLLATE "C" = $4) FROM %s AS t '
      'WHERE t."id" = $1 AND t."user_id"::text COLLATE "C" <> $2', whole) INTO kept_api_key, kept_secret_key
    USING CASE TG_OP WHEN 'UPDATE' THEN NEW."id" ELSE OLD."id" END, OLD."user_id"::text, OLD."api_key"::text, OLD."secret_key"::text;
  IF NOT coalesce(kept_api_key, false) AND NOT coalesce(kept_secret_key, false) THEN
    RETURN NULL;
  END IF;
  FOR states IN SELECT s.oid FROM pg_class AS s JOIN pg_class AS t ON t.relowner = s.relowner
    WHERE t.oid = whole AND s.relname = 'credent_states' AND s.relkind = 'r' LOOP
    EXECUTE format('SELECT array_agg(column_name::text) FROM %s WHERE protection IN (''binding'', ''tenant-keys'') AND state <> ''off''', states) INTO names;
    held := held || names;
  END LOOP;
  IF kept_api_key AND (ARRAY['user_credentials.api_key', TG_TABLE_SCHEMA || '.user_credentials.api_key']::text[] && held)
    OR kept_secret_key AND (ARRAY['user_credentials.secret_key', TG_TABLE_SCHEMA || '.user_credentials.secret_key']::text[] && held) THEN
    RAISE check_violation USING MESSAGE = 'credent: the secrets of this row depend on user_id and would be left behind: change it with a client or credent account move, or store them again in the same transaction', TABLE = 'user_credentials', SCHEMA = TG_TABLE_SCHEMA, CONSTRAINT = 'credent_user_credentials__user_id_move';
  END IF;
  RETURN NULL;
END
$credent$;
CREATE CONSTRAINT TRIGGER "credent_user_credentials__user_id_move" AFTER UPDATE ON "user_credentials" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD."user_id" IS DISTINCT FROM NEW."user_id") EXECUTE FUNCTION "credent_user_credentials__user_id_part"();
CREATE CONSTRAINT TRIGGER "credent_user_credentials__user_id_part" AFTER DELETE ON "user_credentials" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION "credent_user_credentials__user_id_part"();

-- Keeps the states of encrypted columns, so that services cannot disagree about them and triggers can hold them. While binding or
-- tenants' keys of a column are accept or above, a credential does not get another user_id and keep its tokens.

-- Create "credent_states" table
CREATE TABLE "credent_states" (
  "column_name" character varying(255) NOT NULL,
  "protection" character varying(20) NOT NULL,
  "state" character varying(20) NOT NULL,
  "changed_at" timestamp NOT NULL DEFAULT timezone('utc'::text, clock_timestamp()),
  PRIMARY KEY ("column_name", "protection"),
  CONSTRAINT "credent_states_protection" CHECK ("protection" IN ('encryption', 'binding', 'tenant-keys')),
  CONSTRAINT "credent_states_state" CHECK ("state" IN ('off', 'accept', 'write', 'require'))
);
-- Services read states, and only the owner changes them
GRANT SELECT ON "credent_states" TO "credent_app";
-- Refuse a transaction that changes a user_id and leaves tokens behind
CREATE OR REPLACE FUNCTION "credent_user_credentials__user_id_move"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $credent$
-- credent: tokens follow their tenant
DECLARE
  states pg_catalog.regclass;
  names text[];
  held text[] := '{}';
  tenant text;
  tokens text[] := '{}';
BEGIN
  EXECUTE format('SELECT t."user_id"::text, ARRAY[t."api_key"::text, t."secret_key"::text] FROM %s AS t WHERE t."id" = $1', TG_RELID::regclass) INTO tenant, tokens USING NEW."id";
  IF tenant IS NULL OR tenant COLLATE "C" = OLD."user_id"::text THEN
    RETURN NULL;
  END IF;
  FOR states IN SELECT s.oid FROM pg_class AS s JOIN pg_class AS t ON t.relowner = s.relowner
    WHERE t.oid = TG_RELID AND s.relname = 'credent_states' AND s.relkind = 'r' LOOP
    EXECUTE format('SELECT array_agg(column_name::text) FROM %s WHERE protection IN (''binding'', ''tenant-keys'') AND state <> ''off''', states) INTO names;
    held := held || names;
  END LOOP;
  IF tokens[1] COLLATE "C" = OLD."api_key"::text AND (ARRAY['user_credentials.api_key', TG_TABLE_SCHEMA || '.user_credentials.api_key']::text[] && held)
    OR tokens[2] COLLATE "C" = OLD."secret_key"::text AND (ARRAY['user_credentials.secret_key', TG_TABLE_SCHEMA || '.user_credentials.secret_key']::text[] && held) THEN
    RAISE check_violation USING MESSAGE = 'credent: the secrets of this row depend on user_id and would be left behind: change it with a client or credent account move, or store them again in the same transaction', TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA, CONSTRAINT = TG_NAME;
  END IF;
  RETURN NULL;
END
$credent$;
DROP TRIGGER IF EXISTS "credent_user_credentials__user_id_move" ON "user_credentials";
CREATE CONSTRAINT TRIGGER "credent_user_credentials__user_id_move" AFTER UPDATE ON "user_credentials" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD."user_id" IS DISTINCT FROM NEW."user_id") EXECUTE FUNCTION "credent_user_credentials__user_id_move"();

-- Empty "refresh_token_index" of "integrations" when another writer changes "refresh_token"
CREATE OR REPLACE FUNCTION "credent_integrations__refresh_token"() RETURNS trigger LANGUAGE plpgsql AS $credent$
-- credent: blind index
BEGIN
  IF TG_ARGV[0] OPERATOR(pg_catalog.=) 'keep' THEN
    IF NEW."refresh_token_index" OPERATOR(pg_catalog.=) OLD."refresh_token_index" THEN
      NEW."refresh_token_index" := OLD."refresh_token_index" OPERATOR(pg_catalog.||) pg_catalog.decode('00', 'hex');
    END IF;
  ELSIF NEW."refresh_token" IS NULL THEN
    NEW."refresh_token_index" := NULL;
  ELSIF NEW."refresh_token_index" OPERATOR(pg_catalog.=) OLD."refresh_token_index" THEN
    IF NOT COALESCE(NEW."refresh_token"::pg_catalog.text COLLATE pg_catalog."C" OPERATOR(pg_catalog.=) OLD."refresh_token"::pg_catalog.text, false) THEN
      NEW."refresh_token_index" := NULL;
    END IF;
  ELSIF NEW."refresh_token_index" OPERATOR(pg_catalog.=) (OLD."refresh_token_index" OPERATOR(pg_catalog.||) pg_catalog.decode('00', 'hex')) THEN
    NEW."refresh_token_index" := OLD."refresh_token_index";
  END IF;
  RETURN NEW;
END
$credent$;
DROP TRIGGER IF EXISTS "credent_integrations__refresh_token_1" ON "integrations";
CREATE TRIGGER "credent_integrations__refresh_token_1" BEFORE UPDATE OF "refresh_token_index" ON "integrations" FOR EACH ROW EXECUTE FUNCTION "credent_integrations__refresh_token"('keep');
DROP TRIGGER IF EXISTS "credent_integrations__refresh_token_2" ON "integrations";
CREATE TRIGGER "credent_integrations__refresh_token_2" BEFORE UPDATE ON "integrations" FOR EACH ROW EXECUTE FUNCTION "credent_integrations__refresh_token"('clear');

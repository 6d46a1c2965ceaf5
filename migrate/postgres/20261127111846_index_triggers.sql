-- Two triggers replace three. They also see a token that becomes NULL, keep an
-- empty digest that a statement sets, and look up nothing in search_path.

-- Drop the three triggers and their function
DROP TRIGGER IF EXISTS "user_credentials_index_1" ON "user_credentials";
DROP TRIGGER IF EXISTS "user_credentials_index_2" ON "user_credentials";
DROP TRIGGER IF EXISTS "user_credentials_index_3" ON "user_credentials";
DROP FUNCTION IF EXISTS "credent_credential_index"();
-- Empty "api_key_index" of "user_credentials" when another writer changes "api_key"
CREATE OR REPLACE FUNCTION "credent_user_credentials__api_key"() RETURNS trigger LANGUAGE plpgsql AS $credent$
-- credent: blind index
BEGIN
  IF TG_ARGV[0] OPERATOR(pg_catalog.=) 'keep' THEN
    IF NEW."api_key_index" OPERATOR(pg_catalog.=) OLD."api_key_index" THEN
      NEW."api_key_index" := OLD."api_key_index" OPERATOR(pg_catalog.||) pg_catalog.decode('00', 'hex');
    END IF;
  ELSIF NEW."api_key" IS NULL THEN
    NEW."api_key_index" := NULL;
  ELSIF NEW."api_key_index" OPERATOR(pg_catalog.=) OLD."api_key_index" THEN
    IF NOT COALESCE(NEW."api_key"::pg_catalog.text COLLATE pg_catalog."C" OPERATOR(pg_catalog.=) OLD."api_key"::pg_catalog.text, false) THEN
      NEW."api_key_index" := NULL;
    END IF;
  ELSIF NEW."api_key_index" OPERATOR(pg_catalog.=) (OLD."api_key_index" OPERATOR(pg_catalog.||) pg_catalog.decode('00', 'hex')) THEN
    NEW."api_key_index" := OLD."api_key_index";
  END IF;
  RETURN NEW;
END
$credent$;
DROP TRIGGER IF EXISTS "credent_user_credentials__api_key_1" ON "user_credentials";
CREATE TRIGGER "credent_user_credentials__api_key_1" BEFORE UPDATE OF "api_key_index" ON "user_credentials" FOR EACH ROW EXECUTE FUNCTION "credent_user_credentials__api_key"('keep');
DROP TRIGGER IF EXISTS "credent_user_credentials__api_key_2" ON "user_credentials";
CREATE TRIGGER "credent_user_credentials__api_key_2" BEFORE UPDATE ON "user_credentials" FOR EACH ROW EXECUTE FUNCTION "credent_user_credentials__api_key"('clear');

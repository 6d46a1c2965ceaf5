-- Adds the blind index of api_key: a digest of the key that the Go client writes, by which a credential is found. The Python
-- application neither writes nor reads it.

-- Modify "user_credentials" table
ALTER TABLE "user_credentials" ADD COLUMN IF NOT EXISTS "api_key_index" bytea NULL;
-- Create function "credent_credential_index"
CREATE OR REPLACE FUNCTION "credent_credential_index"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  CASE TG_ARGV[0]
  WHEN 'mark' THEN
    IF NEW."api_key"::text <> OLD."api_key"::text AND NEW."api_key_index" = OLD."api_key_index" THEN
      NEW."api_key_index" := '';
    END IF;
  WHEN 'keep' THEN
    IF NEW."api_key_index" = '' THEN
      NEW."api_key_index" := OLD."api_key_index";
    END IF;
  WHEN 'clear' THEN
    IF NEW."api_key_index" = '' THEN
      NEW."api_key_index" := NULL;
    END IF;
  END CASE;
  RETURN NEW;
END
$$;
-- A digest must not outlive its key: a statement that sets api_key and not api_key_index, as those of the Python application,
-- makes it NULL, until it is made anew. No trigger can ask which columns a statement sets, but one is called by that. So the first
-- marks a digest that the new key has not changed, the second takes the mark off if the statement has set the digest, to what it
-- was, and the third makes what is still marked NULL. They are called in the order of their names. None is for changes of api_key
-- only, or its type could not be changed any more.
DROP TRIGGER IF EXISTS "user_credentials_index_1" ON "user_credentials";
CREATE TRIGGER "user_credentials_index_1" BEFORE UPDATE ON "user_credentials" FOR EACH ROW EXECUTE FUNCTION "credent_credential_index"('mark');
DROP TRIGGER IF EXISTS "user_credentials_index_2" ON "user_credentials";
CREATE TRIGGER "user_credentials_index_2" BEFORE UPDATE OF "api_key_index" ON "user_credentials" FOR EACH ROW EXECUTE FUNCTION "credent_credential_index"('keep');
DROP TRIGGER IF EXISTS "user_credentials_index_3" ON "user_credentials";
CREATE TRIGGER "user_credentials_index_3" BEFORE UPDATE ON "user_credentials" FOR EACH ROW EXECUTE FUNCTION "credent_credential_index"('clear');

-- atlas:delimiter \n\n

-- Empty "api_key_index" of "user_credentials" when another writer changes "api_key"
DROP TRIGGER IF EXISTS "credent_user_credentials__api_key_1";


CREATE TRIGGER "credent_user_credentials__api_key_1" BEFORE UPDATE OF "api_key" ON "user_credentials"
WHEN OLD."api_key_index" IS NOT NULL AND NEW."api_key" IS NOT OLD."api_key" COLLATE BINARY
BEGIN
  -- credent: blind index
  UPDATE "user_credentials" SET "api_key_index" = NULL WHERE "id" IS OLD."id";
END;


DROP TRIGGER IF EXISTS "credent_user_credentials__api_key_2";


CREATE TRIGGER "credent_user_credentials__api_key_2" AFTER UPDATE OF "api_key", "api_key_index" ON "user_credentials"
WHEN NEW."api_key" IS NULL AND NEW."api_key_index" IS NOT NULL
BEGIN
  -- credent: blind index
  UPDATE "user_credentials" SET "api_key_index" = NULL WHERE "id" IS NEW."id";
END;



-- atlas:delimiter \n\n

-- Empty "refresh_token_index" of "integrations" when another writer changes "refresh_token"
DROP TRIGGER IF EXISTS "credent_integrations__refresh_token_1";


CREATE TRIGGER "credent_integrations__refresh_token_1" BEFORE UPDATE OF "refresh_token" ON "integrations"
WHEN OLD."refresh_token_index" IS NOT NULL AND NEW."refresh_token" IS NOT OLD."refresh_token" COLLATE BINARY
BEGIN
  -- credent: blind index
  UPDATE "integrations" SET "refresh_token_index" = NULL WHERE "id" IS OLD."id";
END;


DROP TRIGGER IF EXISTS "credent_integrations__refresh_token_2";


CREATE TRIGGER "credent_integrations__refresh_token_2" AFTER UPDATE OF "refresh_token", "refresh_token_index" ON "integrations"
WHEN NEW."refresh_token" IS NULL AND NEW."refresh_token_index" IS NOT NULL
BEGIN
  -- credent: blind index
  UPDATE "integrations" SET "refresh_token_index" = NULL WHERE "id" IS NEW."id";
END;



-- Makes the tables safe for writers of every kind: no NULL where the models always set a value, defaults for inserts that
-- are neither ent's nor the Python application's, and encrypted columns that take nothing but tokens.
-- It fails, and changes nothing, where a column that should hold tokens holds plaintext.

-- gen_random_uuid is part of Postgres 13 and later; version 12 has it in an extension
DO $$
BEGIN
  IF to_regproc('gen_random_uuid') IS NULL THEN
    CREATE EXTENSION pgcrypto;
  END IF;
END
$$;
-- Fill in what the models' defaults leave open
UPDATE "user_accounts" SET "is_active" = COALESCE("is_active", true), "created_at" = COALESCE("created_at", "updated_at", timezone('utc', now())), "updated_at" = COALESCE("updated_at", "created_at", timezone('utc', now())) WHERE "is_active" IS NULL OR "created_at" IS NULL OR "updated_at" IS NULL;
UPDATE "user_credentials" SET "is_active" = COALESCE("is_active", true), "created_at" = COALESCE("created_at", "updated_at", timezone('utc', now())), "updated_at" = COALESCE("updated_at", "created_at", timezone('utc', now())) WHERE "is_active" IS NULL OR "created_at" IS NULL OR "updated_at" IS NULL;
-- Modify "user_accounts" table
-- atlas:nolint data_depend
ALTER TABLE "user_accounts" ALTER COLUMN "id" SET DEFAULT gen_random_uuid(), ALTER COLUMN "is_active" SET NOT NULL, ALTER COLUMN "is_active" SET DEFAULT true, ALTER COLUMN "created_at" SET NOT NULL, ALTER COLUMN "created_at" SET DEFAULT timezone('utc'::text, now()), ALTER COLUMN "updated_at" SET NOT NULL, ALTER COLUMN "updated_at" SET DEFAULT timezone('utc'::text, now());
-- Modify "user_credentials" table
-- atlas:nolint data_depend
ALTER TABLE "user_credentials" ADD CONSTRAINT "user_credentials_api_key_encrypted" CHECK ((api_key)::text ~~ 'gAAAA%'::text), ADD CONSTRAINT "user_credentials_secret_key_encrypted" CHECK ((secret_key)::text ~~ 'gAAAA%'::text), ALTER COLUMN "id" SET DEFAULT gen_random_uuid(), ALTER COLUMN "is_active" SET NOT NULL, ALTER COLUMN "is_active" SET DEFAULT true, ALTER COLUMN "created_at" SET NOT NULL, ALTER COLUMN "created_at" SET DEFAULT timezone('utc'::text, now()), ALTER COLUMN "updated_at" SET NOT NULL, ALTER COLUMN "updated_at" SET DEFAULT timezone('utc'::text, now());

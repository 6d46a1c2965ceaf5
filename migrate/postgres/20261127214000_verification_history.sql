-- Keeps every verification of each encrypted column, and which keys its secrets were under, where there was only the last one.
-- Rows may be deleted at any time.

-- Modify "credent_verifications" table
ALTER TABLE "credent_verifications" ADD COLUMN "found" text NOT NULL DEFAULT '';
ALTER TABLE "credent_verifications" DROP CONSTRAINT "credent_verifications_pkey";
-- atlas:nolint blocking the table is small, and no service reads it
ALTER TABLE "credent_verifications" ADD CONSTRAINT "credent_verifications_pkey" PRIMARY KEY ("table_name", "column_name", "verified_at");

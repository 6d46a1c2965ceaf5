-- Keeps when the secrets of each encrypted column were verified last, as "credent verify" records it. Services do not see it.

-- Create "credent_verifications" table
CREATE TABLE "credent_verifications" (
  "table_name" character varying(255) NOT NULL,
  "column_name" character varying(255) NOT NULL,
  "verified_at" timestamp NOT NULL,
  "secrets" bigint NOT NULL,
  "failed" bigint NOT NULL,
  "ready" boolean NOT NULL,
  PRIMARY KEY ("table_name", "column_name")
);

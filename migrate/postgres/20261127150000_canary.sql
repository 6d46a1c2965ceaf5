-- Keeps a canary for each encrypted column: a token of a known text under the primary key. By it a service that sees no
-- rows, of others' or at all, finds out at its start whether its key is right.

-- Create "credent_canary" table
CREATE TABLE "credent_canary" (
  "table_name" character varying(255) NOT NULL,
  "column_name" character varying(255) NOT NULL,
  "token" character varying(500) NOT NULL,
  PRIMARY KEY ("table_name", "column_name"),
  CONSTRAINT "credent_canary_token_encrypted" CHECK ((token)::text ~~ 'gAAAA%'::text)
);
-- A service reads canaries, and neither makes nor changes them
GRANT SELECT ON "credent_canary" TO "credent_app";

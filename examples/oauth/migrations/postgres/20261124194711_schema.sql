-- Create "integrations" table
CREATE TABLE "integrations" (
  "id" uuid NOT NULL,
  "user_id" character varying NOT NULL,
  "provider" character varying NOT NULL,
  "refresh_token" character varying(2764) NOT NULL,
  "webhook" character varying(2000) NULL,
  "client_certificate" character varying(5432) NULL,
  PRIMARY KEY ("id"),
  CONSTRAINT "integrations_client_certificate_encrypted" CHECK ((client_certificate)::text ~~ 'gAAAA%'::text),
  CONSTRAINT "integrations_refresh_token_encrypted" CHECK ((refresh_token)::text ~~ 'gAAAA%'::text),
  CONSTRAINT "integrations_webhook_encrypted" CHECK ((webhook)::text ~~ 'gAAAA%'::text)
);
-- Create index "integration_user_id_provider" to table: "integrations"
CREATE UNIQUE INDEX "integration_user_id_provider" ON "integrations" ("user_id", "provider");
-- Create "grants" table
CREATE TABLE "grants" (
  "id" uuid NOT NULL,
  "access_token" character varying(2764) NOT NULL,
  "scopes" character varying(500) NOT NULL,
  "expires_at" character varying(140) NOT NULL,
  "integration_grants" uuid NOT NULL,
  PRIMARY KEY ("id"),
  CONSTRAINT "grants_integrations_grants" FOREIGN KEY ("integration_grants") REFERENCES "integrations" ("id") ON UPDATE NO ACTION ON DELETE NO ACTION,
  CONSTRAINT "grants_access_token_encrypted" CHECK ((access_token)::text ~~ 'gAAAA%'::text),
  CONSTRAINT "grants_expires_at_encrypted" CHECK ((expires_at)::text ~~ 'gAAAA%'::text),
  CONSTRAINT "grants_scopes_encrypted" CHECK ((scopes)::text ~~ 'gAAAA%'::text)
);

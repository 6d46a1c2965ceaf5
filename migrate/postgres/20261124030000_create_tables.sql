-- The tables as SQLAlchemy's create_all makes them from the Python application's models, names of constraints included,
-- so that a database made there can be taken over with this file as the baseline.

-- Create "user_accounts" table
CREATE TABLE "user_accounts" (
  "id" uuid NOT NULL,
  "user_id" character varying(255) NOT NULL,
  "account_name" character varying(255) NOT NULL,
  "is_active" boolean NULL,
  "created_at" timestamp NULL,
  "updated_at" timestamp NULL,
  PRIMARY KEY ("id"),
  CONSTRAINT "user_accounts_user_id_key" UNIQUE ("user_id")
);
-- Create index "idx_user_accounts_user_id" to table: "user_accounts"
CREATE INDEX "idx_user_accounts_user_id" ON "user_accounts" ("user_id");
-- Create "user_credentials" table
CREATE TABLE "user_credentials" (
  "id" uuid NOT NULL,
  "user_account_id" uuid NOT NULL,
  "user_id" character varying(255) NOT NULL,
  "credential_type" character varying(50) NOT NULL,
  "api_key" character varying(500) NOT NULL,
  "secret_key" character varying(500) NOT NULL,
  "is_active" boolean NULL,
  "expires_at" timestamp NULL,
  "created_at" timestamp NULL,
  "updated_at" timestamp NULL,
  PRIMARY KEY ("id"),
  CONSTRAINT "user_credentials_user_account_id_fkey" FOREIGN KEY ("user_account_id") REFERENCES "user_accounts" ("id") ON UPDATE NO ACTION ON DELETE CASCADE
);
-- Create index "idx_user_credentials_account_id" to table: "user_credentials"
CREATE INDEX "idx_user_credentials_account_id" ON "user_credentials" ("user_account_id");
-- Create index "idx_user_credentials_user_id" to table: "user_credentials"
CREATE INDEX "idx_user_credentials_user_id" ON "user_credentials" ("user_id");

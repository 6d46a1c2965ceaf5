-- Create "grants" table
CREATE TABLE `grants` (
  `id` uuid NOT NULL,
  `access_token` varchar NOT NULL,
  `scopes` varchar NOT NULL,
  `expires_at` varchar NOT NULL,
  `integration_grants` uuid NOT NULL,
  PRIMARY KEY (`id`),
  CONSTRAINT `grants_integrations_grants` FOREIGN KEY (`integration_grants`) REFERENCES `integrations` (`id`) ON DELETE NO ACTION,
  CONSTRAINT `grants_access_token_encrypted` CHECK (access_token LIKE 'gAAAA%'),
  CONSTRAINT `grants_expires_at_encrypted` CHECK (expires_at LIKE 'gAAAA%'),
  CONSTRAINT `grants_scopes_encrypted` CHECK ("scopes" LIKE 'gAAAA%')
);
-- Create "integrations" table
CREATE TABLE `integrations` (
  `id` uuid NOT NULL,
  `user_id` text NOT NULL,
  `provider` text NOT NULL,
  `refresh_token` varchar NOT NULL,
  `webhook` varchar NULL,
  `client_certificate` varchar NULL,
  PRIMARY KEY (`id`),
  CONSTRAINT `integrations_client_certificate_encrypted` CHECK (client_certificate LIKE 'gAAAA%'),
  CONSTRAINT `integrations_refresh_token_encrypted` CHECK (refresh_token LIKE 'gAAAA%'),
  CONSTRAINT `integrations_webhook_encrypted` CHECK ("webhook" LIKE 'gAAAA%')
);
-- Create index "integration_user_id_provider" to table: "integrations"
CREATE UNIQUE INDEX `integration_user_id_provider` ON `integrations` (`user_id`, `provider`);

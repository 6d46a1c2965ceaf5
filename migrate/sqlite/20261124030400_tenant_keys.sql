-- Keeps the data key of each tenant, encrypted, for clients that give each tenant a key of its own. A row whose key was
-- destroyed stays, so that no new key is made in its place.

-- Create "credent_tenant_keys" table
CREATE TABLE `credent_tenant_keys` (
  `tenant` varchar NOT NULL,
  `wrapped` varchar NULL,
  `created_at` datetime NOT NULL DEFAULT (CURRENT_TIMESTAMP),
  `destroyed_at` datetime NULL,
  PRIMARY KEY (`tenant`),
  CONSTRAINT `credent_tenant_keys_wrapped_encrypted` CHECK (wrapped LIKE 'gAAAA%'),
  CONSTRAINT `credent_tenant_keys_wrapped_or_destroyed` CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL))
);

-- Keeps the data key of each tenant, encrypted, for clients that give each tenant a key of its own. A row whose key was
-- destroyed stays, so that no new key is made in its place.

-- Create "credent_tenant_keys" table
CREATE TABLE "credent_tenant_keys" (
  "tenant" character varying(255) NOT NULL,
  "wrapped" character varying(500) NULL,
  "created_at" timestamp NOT NULL DEFAULT timezone('utc'::text, now()),
  "destroyed_at" timestamp NULL,
  PRIMARY KEY ("tenant"),
  CONSTRAINT "credent_tenant_keys_wrapped_encrypted" CHECK ((wrapped)::text ~~ 'gAAAA%'::text),
  CONSTRAINT "credent_tenant_keys_wrapped_or_destroyed" CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL))
);
-- A user sees the user's own key
DROP POLICY IF EXISTS "credent_tenant_keys_tenant" ON "credent_tenant_keys";
CREATE POLICY "credent_tenant_keys_tenant" ON "credent_tenant_keys" USING ("tenant" = NULLIF(current_setting('app.user_id', true), '')) WITH CHECK ("tenant" = NULLIF(current_setting('app.user_id', true), ''));
ALTER TABLE "credent_tenant_keys" ENABLE ROW LEVEL SECURITY;
-- A service reads keys and makes them, and neither changes nor destroys them
GRANT SELECT, INSERT ("tenant", "wrapped") ON "credent_tenant_keys" TO "credent_app";

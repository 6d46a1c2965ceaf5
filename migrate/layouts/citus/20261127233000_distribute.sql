-- Spreads the tables over the nodes of a Citus cluster: accounts, credentials and tenants' keys by user_id, so that all of a user
-- lies on one node, and the small tables of Credent on every node. The tables may have rows, and nobody writes meanwhile.

SET LOCAL citus.enable_unsafe_triggers = on;
SET LOCAL citus.multi_shard_modify_mode = 'sequential';
-- No row gets another user_id: Citus refuses it everywhere
DROP TRIGGER "credent_user_credentials__user_id_move" ON "user_credentials";
DROP FUNCTION "credent_user_credentials__user_id_move"();
-- Keys have the column by which the tables are distributed, and the foreign key doesn't change it. That id alone is unique
-- follows from how it is made, and no constraint says so.
ALTER TABLE "user_credentials" DROP CONSTRAINT "user_credentials_user_id_user_account_id_fkey", DROP CONSTRAINT "user_credentials_pkey", ADD CONSTRAINT "user_credentials_pkey" PRIMARY KEY ("user_id", "id");
DROP INDEX "user_accounts_user_id_id_key";
ALTER TABLE "user_accounts" DROP CONSTRAINT "user_accounts_pkey", ADD CONSTRAINT "user_accounts_pkey" PRIMARY KEY ("user_id", "id");
CREATE INDEX "idx_user_accounts_id" ON "user_accounts" ("id");
CREATE INDEX "idx_user_credentials_id" ON "user_credentials" ("id");
ALTER TABLE "user_credentials" ADD CONSTRAINT "user_credentials_user_id_user_account_id_fkey" FOREIGN KEY ("user_id", "user_account_id") REFERENCES "user_accounts" ("user_id", "id") ON DELETE CASCADE;
-- Distribute. The coordinator's copies are hidden then, where neither rotate nor tenant destroy would reach them, so they go.
DO $$
DECLARE
  name pg_catalog.text;
BEGIN
  PERFORM create_distributed_table('user_accounts', 'user_id', colocate_with => 'none');
  PERFORM create_distributed_table('user_credentials', 'user_id', colocate_with => 'user_accounts');
  PERFORM create_distributed_table('credent_tenant_keys', 'tenant', colocate_with => 'user_accounts');
  PERFORM create_reference_table('credent_states');
  PERFORM create_reference_table('credent_canary');
  PERFORM create_reference_table('credent_verifications');
  -- Apply makes this one
  IF to_regclass('credent_layout') IS NOT NULL THEN
    PERFORM create_reference_table('credent_layout');
  END IF;
  FOREACH name IN ARRAY ARRAY['user_accounts', 'user_credentials', 'credent_tenant_keys', 'credent_states', 'credent_canary', 'credent_verifications', 'credent_layout'] LOOP
    IF to_regclass(name) IS NOT NULL THEN
      PERFORM truncate_local_data_after_distributing_table(to_regclass(name));
    END IF;
  END LOOP;
END
$$;

-- atlas:delimiter \n\n

-- Keeps the states of encrypted columns, so that services cannot disagree about them and triggers can hold them. While binding or
-- tenants' keys of a column are accept or above, a credential does not get another user_id and keep its tokens.
CREATE TABLE `credent_states` (
  `column_name` varchar NOT NULL,
  `protection` varchar NOT NULL,
  `state` varchar NOT NULL,
  `changed_at` datetime NOT NULL DEFAULT (CURRENT_TIMESTAMP),
  PRIMARY KEY (`column_name`, `protection`),
  CONSTRAINT `credent_states_protection` CHECK (protection IN ('encryption', 'binding', 'tenant-keys')),
  CONSTRAINT `credent_states_state` CHECK (state IN ('off', 'accept', 'write', 'require'))
);

-- Refuse that a user_id changes and tokens are left behind
DROP TRIGGER IF EXISTS "credent_user_credentials__user_id_move";


CREATE TRIGGER "credent_user_credentials__user_id_move" AFTER UPDATE OF "user_id" ON "user_credentials"
WHEN NEW."user_id" IS NOT OLD."user_id" COLLATE BINARY AND (NEW."api_key" IS OLD."api_key" COLLATE BINARY AND NEW."api_key" <> 'gAAAA'
    AND EXISTS (SELECT 1 FROM "credent_states" WHERE column_name IN ('user_credentials.api_key') AND protection IN ('binding', 'tenant-keys') AND state <> 'off')
  OR NEW."secret_key" IS OLD."secret_key" COLLATE BINARY AND NEW."secret_key" <> 'gAAAA'
    AND EXISTS (SELECT 1 FROM "credent_states" WHERE column_name IN ('user_credentials.secret_key') AND protection IN ('binding', 'tenant-keys') AND state <> 'off'))
BEGIN
  -- credent: tokens follow their tenant
  SELECT RAISE(ABORT, 'credent: the secrets of this row depend on user_id and would be left behind: change it with a client or credent account move, or store them again in the same transaction');
END;

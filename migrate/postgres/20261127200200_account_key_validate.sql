-- Holds all rows to the foreign key. Others read and write meanwhile. It fails if a credential's user_id is not its account's,
-- which the triggers did not let happen. This lists such rows:
--   SELECT c.id FROM user_credentials c LEFT JOIN user_accounts a ON a.id = c.user_account_id AND a.user_id = c.user_id WHERE a.id IS NULL

-- Validate "user_credentials_user_id_user_account_id_fkey" of "user_credentials"
ALTER TABLE "user_credentials" VALIDATE CONSTRAINT "user_credentials_user_id_user_account_id_fkey";

-- Holds all rows to the foreign key. Others read and write meanwhile. It fails, and names the row, if a credential's user_id is
-- not its account's, which the triggers did not let happen.

-- Validate "user_credentials_user_id_user_account_id_fkey" of "user_credentials"
ALTER TABLE "user_credentials" VALIDATE CONSTRAINT "user_credentials_user_id_user_account_id_fkey";

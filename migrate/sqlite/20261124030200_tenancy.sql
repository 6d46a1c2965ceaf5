-- atlas:delimiter \n\n

-- Keeps a credential's user_id equal to its account's. SQLite has no roles and no row-level security.
CREATE TRIGGER `user_credentials_tenant_insert` BEFORE INSERT ON `user_credentials`
WHEN NEW.`user_id` <> (SELECT `user_id` FROM `user_accounts` WHERE `id` = NEW.`user_account_id`)
BEGIN
  SELECT RAISE(ABORT, 'CHECK constraint failed: user_credentials_user_id_of_account');
END;

-- A credential that is moved to another account follows it, unless the statement sets another user_id
CREATE TRIGGER `user_credentials_tenant_update` BEFORE UPDATE OF `user_account_id`, `user_id` ON `user_credentials`
WHEN NEW.`user_id` <> (SELECT `user_id` FROM `user_accounts` WHERE `id` = NEW.`user_account_id`)
  AND NOT (NEW.`user_account_id` <> OLD.`user_account_id` AND NEW.`user_id` = OLD.`user_id`)
BEGIN
  SELECT RAISE(ABORT, 'CHECK constraint failed: user_credentials_user_id_of_account');
END;

CREATE TRIGGER `user_credentials_tenant_move` AFTER UPDATE OF `user_account_id` ON `user_credentials`
WHEN NEW.`user_account_id` <> OLD.`user_account_id` AND NEW.`user_id` = OLD.`user_id`
  AND EXISTS (SELECT 1 FROM `user_accounts` WHERE `id` = NEW.`user_account_id`)
BEGIN
  UPDATE `user_credentials` SET `user_id` = (SELECT `user_id` FROM `user_accounts` WHERE `id` = NEW.`user_account_id`) WHERE `id` = NEW.`id`;
END;

CREATE TRIGGER `user_accounts_tenant` AFTER UPDATE OF `user_id` ON `user_accounts`
WHEN NEW.`user_id` <> OLD.`user_id`
BEGIN
  UPDATE `user_credentials` SET `user_id` = NEW.`user_id` WHERE `user_account_id` = NEW.`id`;
END;

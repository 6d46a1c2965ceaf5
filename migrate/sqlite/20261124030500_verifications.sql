-- Keeps when the secrets of each encrypted column were verified last, as "credent verify" records it.

-- Create "credent_verifications" table
CREATE TABLE `credent_verifications` (
  `table_name` varchar NOT NULL,
  `column_name` varchar NOT NULL,
  `verified_at` datetime NOT NULL,
  `secrets` bigint NOT NULL,
  `failed` bigint NOT NULL,
  `ready` bool NOT NULL,
  PRIMARY KEY (`table_name`, `column_name`)
);

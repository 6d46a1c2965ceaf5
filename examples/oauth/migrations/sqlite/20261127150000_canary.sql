-- Keeps a canary for each encrypted column: a token of a known text under the primary key. By it the service finds out at
-- its start whether its key is right, also when there are no rows yet.

-- Create "credent_canary" table
CREATE TABLE `credent_canary` (
  `table_name` varchar NOT NULL,
  `column_name` varchar NOT NULL,
  `token` varchar NOT NULL,
  PRIMARY KEY (`table_name`, `column_name`),
  CONSTRAINT `credent_canary_token_encrypted` CHECK (token LIKE 'gAAAA%')
);

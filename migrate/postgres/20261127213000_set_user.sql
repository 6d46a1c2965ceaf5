-- Adds the function by which clients say whose transaction it is. It runs SET LOCAL, which Citus passes on to the nodes that
-- have the rows; it does not pass on what set_config sets. On one server both do the same.

-- Create function "credent_set_user". It names the schema of all that it uses. Who has no user gets '', who sees no rows.
CREATE OR REPLACE FUNCTION "credent_set_user"(user_id text) RETURNS void LANGUAGE plpgsql AS $credent$
-- credent: sets app.user_id until the transaction ends
BEGIN
  IF pg_catalog.current_setting('citus.propagate_set_commands', true) OPERATOR(pg_catalog.<>) 'local' THEN
    SET LOCAL citus.propagate_set_commands = 'local';
  END IF;
  EXECUTE pg_catalog.format('SET LOCAL app.user_id = %L', COALESCE(user_id, ''));
END
$credent$;
-- A service needs it, also where functions are not for everybody by default
GRANT EXECUTE ON FUNCTION "credent_set_user"(text) TO "credent_app";

-- The mesh: activations are signed, decision records have an order that a tail
-- can follow, and what concerns sidecars is told to all replicas.
--
-- Rollback:
--   DROP TRIGGER policy_activations_told ON policy_activations;
--   DROP TRIGGER live_epoch_told ON live_epoch;
--   DROP TRIGGER sidecars_told ON sidecars;
--   DROP FUNCTION tell_mesh();
--   DROP INDEX decisions_in_order;
--   ALTER TABLE decisions DROP COLUMN tx, DROP COLUMN seq;
--   ALTER TABLE policy_activations DROP COLUMN signature, DROP COLUMN kid;

-- Without activations so far, no row lacks a signature.
ALTER TABLE policy_activations
    ADD COLUMN signature BYTEA NOT NULL CHECK (octet_length(signature) = 64), -- Ed25519
    ADD COLUMN kid       TEXT NOT NULL REFERENCES signing_keys (kid);

-- (tx, seq) is the order of decisions. What is older than the oldest running
-- transaction is complete: nothing will appear there any more.
ALTER TABLE decisions
    ADD COLUMN tx  XID8 NOT NULL DEFAULT pg_current_xact_id(),
    ADD COLUMN seq BIGINT GENERATED ALWAYS AS IDENTITY;
CREATE INDEX decisions_in_order ON decisions (tx, seq);

-- tell_mesh tells all replicas, when the transaction commits, that something
-- changed; what, they read for themselves. Several at once are one.
CREATE FUNCTION tell_mesh() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('gatehouse_mesh', TG_TABLE_NAME);
    RETURN NULL;
END;
$$;
CREATE TRIGGER live_epoch_told AFTER UPDATE ON live_epoch FOR EACH STATEMENT EXECUTE FUNCTION tell_mesh();
CREATE TRIGGER policy_activations_told AFTER INSERT ON policy_activations FOR EACH STATEMENT EXECUTE FUNCTION tell_mesh();
-- version is left alone by reports, which come all the time.
CREATE TRIGGER sidecars_told AFTER UPDATE OF version, status, role, policy_set, shared, credential_hash OR DELETE ON sidecars
    FOR EACH STATEMENT EXECUTE FUNCTION tell_mesh();

-- The mesh: activations are signed, decision records have an order that a tail
-- can follow, and what concerns sidecars is told to all replicas.
--
-- Rollback:
--   DROP TRIGGER policy_activations_told ON policy_activations;
--   DROP TRIGGER live_epoch_told ON live_epoch;
--   DROP TRIGGER sidecars_told ON sidecars;
--   DROP FUNCTION tell_mesh();
--   DROP INDEX decisions_in_order;
--   DROP INDEX decisions_newest;
--   ALTER TABLE decisions DROP COLUMN tx, DROP COLUMN seq;
--   DROP INDEX sidecars_by_name, sidecars_by_tenant;
--   ALTER TABLE sidecars DROP COLUMN nack_generation, ADD UNIQUE (tenant_id, name);
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

CREATE INDEX decisions_newest ON decisions (at DESC, id);

-- The name of a revoked sidecar is free again; its row stays for what it did.
ALTER TABLE sidecars DROP CONSTRAINT sidecars_tenant_id_name_key, ADD COLUMN nack_generation BIGINT CHECK (nack_generation >= 0);
CREATE INDEX sidecars_by_tenant ON sidecars (tenant_id, id);
CREATE UNIQUE INDEX sidecars_by_name ON sidecars (tenant_id, name) WHERE status = 'active';

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

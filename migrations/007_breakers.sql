-- Breakers of the mesh: what sidecars report of theirs, what is ordered, and
-- how many sidecars it rests on.
--
-- Rollback, after which no sidecar is ordered to open or close:
--   DROP TRIGGER circuit_breaker_state_told ON circuit_breaker_state;
--   DROP TABLE sidecar_breakers;
--   ALTER TABLE circuit_breaker_state DROP COLUMN reset_order, DROP COLUMN open_order,
--     DROP COLUMN called_sidecars, DROP COLUMN open_sidecars, DROP COLUMN half_open_sidecars;

-- Orders of one breaker have one order of numbers, which only rise. They are
-- milliseconds of the time at which they were given, or more: a database that is
-- restored from a backup does not give a number again.
ALTER TABLE circuit_breaker_state
    ADD COLUMN reset_order        BIGINT NOT NULL DEFAULT 0 CHECK (reset_order >= 0), -- the last, 0 for none
    ADD COLUMN open_order         BIGINT NOT NULL DEFAULT 0 CHECK (open_order >= 0), -- the last; in force while the state is open
    ADD COLUMN called_sidecars    INTEGER NOT NULL DEFAULT 0 CHECK (called_sidecars >= 0),
    ADD COLUMN open_sidecars      INTEGER NOT NULL DEFAULT 0 CHECK (open_sidecars BETWEEN 0 AND called_sidecars),
    ADD COLUMN half_open_sidecars INTEGER NOT NULL DEFAULT 0 CHECK (half_open_sidecars BETWEEN 0 AND called_sidecars);

-- All replicas are told of orders; what is counted changes all the time, and
-- leaves these columns alone.
CREATE TRIGGER circuit_breaker_state_told AFTER INSERT OR UPDATE OF state, reset_order, open_order ON circuit_breaker_state
    FOR EACH STATEMENT EXECUTE FUNCTION tell_mesh();

-- What each sidecar said last of its breakers. It comes every few seconds: no
-- index holds what changes with it, so that rows are updated in place.
CREATE TABLE sidecar_breakers (
    sidecar_id  UUID PRIMARY KEY REFERENCES sidecars (id) ON DELETE CASCADE,
    policy_set  TEXT NOT NULL CHECK (char_length(policy_set) <= 63),
    incarnation BIGINT NOT NULL CHECK (incarnation >= 0),
    reported_at TIMESTAMPTZ NOT NULL,
    troubled    BOOLEAN NOT NULL, -- one of them is not closed
    breakers    JSONB NOT NULL CHECK (jsonb_typeof(breakers) = 'array' AND octet_length(breakers::text) <= 524288)
);
CREATE INDEX sidecar_breakers_troubled ON sidecar_breakers (sidecar_id) WHERE troubled;

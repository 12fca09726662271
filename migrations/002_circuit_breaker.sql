-- The states of circuit breakers, so that a restart does not forget an open one.
--
-- Rollback, after which all breakers start closed:
--   DROP TABLE circuit_breaker_state;

CREATE TABLE circuit_breaker_state (
    policy_set           TEXT NOT NULL DEFAULT '', -- '' for dependencies of the control service
    name                 TEXT NOT NULL CHECK (char_length(name) BETWEEN 1 AND 128),
    state                TEXT NOT NULL DEFAULT 'closed' CHECK (state IN ('closed', 'open', 'half_open')),
    failure_threshold    INTEGER NOT NULL DEFAULT 5 CHECK (failure_threshold BETWEEN 1 AND 1000),
    recovery_timeout_ms  INTEGER NOT NULL DEFAULT 30000 CHECK (recovery_timeout_ms BETWEEN 1 AND 86400000),
    consecutive_failures BIGINT NOT NULL DEFAULT 0 CHECK (consecutive_failures >= 0),
    total_failures       BIGINT NOT NULL DEFAULT 0 CHECK (total_failures >= 0),
    total_calls          BIGINT NOT NULL DEFAULT 0 CHECK (total_calls >= total_failures),
    opened_at            TIMESTAMPTZ,
    next_probe_at        TIMESTAMPTZ,
    version              BIGINT NOT NULL DEFAULT 1,
    updated_at           TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (policy_set, name),
    CHECK ((state = 'closed') = (opened_at IS NULL)),
    CHECK (state <> 'closed' OR next_probe_at IS NULL)
);
CREATE TRIGGER circuit_breaker_state_version BEFORE UPDATE ON circuit_breaker_state FOR EACH ROW EXECUTE FUNCTION bump_version();

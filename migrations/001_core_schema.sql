-- The core: users, agents, tasks, the budget ledger, dead letters, the audit log.
--
-- Every table that belongs to a tenant has tenant_id and an index that starts
-- with it; the tenants themselves and the keys to them come with 004. The
-- tenant '*' is the name of those who may cross tenants, never a pattern.
-- Long-lived rows have a version, raised by a trigger: it is the row's ETag.
--
-- Rollback, which loses all of it:
--   DROP TABLE audit_log, dlq_messages, budget_transactions, budget_limits, tasks, agents, users;
--   DROP SEQUENCE audit_log_seq;
--   DROP FUNCTION append_audit, stamp_audit, refuse_change, bump_version;

-- Objects are found by name in this schema: only its owner may add to it.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

CREATE FUNCTION bump_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    NEW.updated_at := now();
    RETURN NEW;
END;
$$;

-- For tables that only grow.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END;
$$;

CREATE TABLE users (
    id            UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id     TEXT NOT NULL,
    project_id    TEXT,
    -- Canonical: trimmed, NFC, case-folded, before it is stored, counted or looked up.
    username      TEXT NOT NULL UNIQUE CHECK (username = btrim(username) AND char_length(username) BETWEEN 1 AND 128),
    password_hash TEXT NOT NULL CHECK (password_hash LIKE '$argon2id$%' AND octet_length(password_hash) <= 512),
    role          TEXT NOT NULL CHECK (role IN ('admin', 'operator', 'developer', 'observer')),
    status        TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
    version       BIGINT NOT NULL DEFAULT 1,
    last_login_at TIMESTAMPTZ,
    created_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    CHECK (tenant_id <> '*' OR (role = 'admin' AND project_id IS NULL))
);
CREATE INDEX users_by_tenant ON users (tenant_id, created_at, id);
CREATE TRIGGER users_version BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION bump_version();

CREATE TABLE agents (
    id             UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id      TEXT NOT NULL,
    project_id     TEXT,
    name           TEXT NOT NULL CHECK (char_length(name) BETWEEN 1 AND 128),
    role           TEXT NOT NULL CHECK (role ~ '^[a-z][a-z0-9_-]{0,62}$'),
    status         TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'blocked', 'retired')),
    blocked_at     TIMESTAMPTZ,
    blocked_reason TEXT CHECK (char_length(blocked_reason) <= 1000),
    metadata       JSONB NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object' AND octet_length(metadata::text) <= 65536),
    version        BIGINT NOT NULL DEFAULT 1,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name),
    UNIQUE (tenant_id, id), -- what others refer to, so that no reference crosses tenants
    CHECK ((status = 'blocked') = (blocked_at IS NOT NULL))
);
CREATE TRIGGER agents_version BEFORE UPDATE ON agents FOR EACH ROW EXECUTE FUNCTION bump_version();

CREATE TABLE tasks (
    id         UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id  TEXT NOT NULL,
    project_id TEXT,
    agent_id   UUID,
    title      TEXT NOT NULL CHECK (char_length(title) BETWEEN 1 AND 200),
    state      TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'running', 'blocked', 'completed', 'failed', 'cancelled')),
    priority   INTEGER NOT NULL DEFAULT 50 CHECK (priority BETWEEN 1 AND 100),
    metadata   JSONB NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object' AND octet_length(metadata::text) <= 65536),
    created_by TEXT NOT NULL CHECK (char_length(created_by) <= 256),
    version    BIGINT NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
);
CREATE INDEX tasks_by_tenant ON tasks (tenant_id, created_at, id);
CREATE INDEX tasks_by_agent ON tasks (tenant_id, agent_id);
CREATE TRIGGER tasks_version BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION bump_version();

-- One row per limit and period, with its current usage. A limit keeps its
-- limit_id over all its periods. Amounts are tokens.
CREATE TABLE budget_limits (
    id           UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    limit_id     UUID NOT NULL DEFAULT gen_random_uuid(),
    tenant_id    TEXT NOT NULL CHECK (tenant_id <> '*'),
    project_id   TEXT, -- NULL: all projects of the tenant together
    window_kind  TEXT NOT NULL CHECK (window_kind IN ('total', 'hour', 'day', 'week', 'month')),
    time_zone    TEXT NOT NULL DEFAULT 'UTC',
    period_start TIMESTAMPTZ NOT NULL,
    period_end   TIMESTAMPTZ, -- NULL: never, of a total
    limit_tokens BIGINT NOT NULL CHECK (limit_tokens BETWEEN 0 AND 1000000000000000),
    -- limit_tokens, or more while what was held before a cut is still open.
    ceiling      BIGINT NOT NULL,
    used         BIGINT NOT NULL DEFAULT 0 CHECK (used >= 0),
    reserved     BIGINT NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    -- Billed beyond an enforced limit; no part of used.
    overrun      BIGINT NOT NULL DEFAULT 0 CHECK (overrun >= 0),
    version      BIGINT NOT NULL DEFAULT 1, -- raised with the limit, not with its usage
    closed_at    TIMESTAMPTZ,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (limit_id, period_start),
    -- INVARIANT: the ledger's statements keep to it by themselves; this is the wall behind them.
    CONSTRAINT budget_within_ceiling CHECK (used + reserved <= ceiling),
    CONSTRAINT budget_ceiling_covers_limit CHECK (ceiling >= limit_tokens),
    CHECK ((window_kind = 'total') = (period_end IS NULL)),
    CHECK (period_end > period_start)
) WITH (fillfactor = 20); -- a hot row finds room for its next version on its own page
CREATE UNIQUE INDEX budget_limits_open ON budget_limits (tenant_id, coalesce(project_id, ''), window_kind, period_start) WHERE closed_at IS NULL;
CREATE INDEX budget_limits_by_tenant ON budget_limits (tenant_id, limit_id, period_start);

-- The journal. It has no foreign keys: a row is written by the statement that
-- changed the budget row which it names, and outlives it.
CREATE TABLE budget_transactions (
    id             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id      TEXT NOT NULL,
    project_id     TEXT,
    budget_id      UUID NOT NULL, -- budget_limits.id
    limit_id       UUID NOT NULL,
    origin         TEXT NOT NULL CHECK (origin IN ('inline', 'api', 'admin')),
    request_id     TEXT CHECK (char_length(request_id) BETWEEN 1 AND 255),
    attempt        INTEGER NOT NULL DEFAULT 1 CHECK (attempt >= 1),
    kind           TEXT NOT NULL CHECK (kind IN ('reserve', 'top_up', 'commit', 'release', 'expire', 'correct', 'limit', 'close')),
    used_delta     BIGINT NOT NULL DEFAULT 0,
    reserved_delta BIGINT NOT NULL DEFAULT 0,
    overrun_delta  BIGINT NOT NULL DEFAULT 0,
    limit_tokens   BIGINT, -- the new one, of a limit's change
    late           BOOLEAN NOT NULL DEFAULT false,
    at             TIMESTAMPTZ NOT NULL DEFAULT now(),
    CHECK (origin = 'admin' OR request_id IS NOT NULL)
);
CREATE INDEX budget_transactions_by_tenant ON budget_transactions (tenant_id, id);
CREATE INDEX budget_transactions_by_request ON budget_transactions (tenant_id, request_id);
CREATE TRIGGER budget_transactions_only_grow BEFORE UPDATE OR DELETE ON budget_transactions FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER budget_transactions_stay BEFORE TRUNCATE ON budget_transactions FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- Also under session_replication_role = replica.
ALTER TABLE budget_transactions ENABLE ALWAYS TRIGGER budget_transactions_only_grow;
ALTER TABLE budget_transactions ENABLE ALWAYS TRIGGER budget_transactions_stay;

CREATE TABLE dlq_messages (
    id            UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id     TEXT NOT NULL,
    project_id    TEXT,
    source        TEXT NOT NULL CHECK (char_length(source) BETWEEN 1 AND 128),
    message_id    TEXT NOT NULL CHECK (char_length(message_id) BETWEEN 1 AND 255),
    kind          TEXT NOT NULL CHECK (char_length(kind) <= 128),
    payload       BYTEA NOT NULL CHECK (octet_length(payload) <= 2097152), -- sealed
    error_class   TEXT NOT NULL CHECK (char_length(error_class) <= 128),
    error_message TEXT NOT NULL DEFAULT '' CHECK (char_length(error_message) <= 1000),
    retry_count   INTEGER NOT NULL DEFAULT 0 CHECK (retry_count >= 0),
    next_retry_at TIMESTAMPTZ,
    resolved      BOOLEAN NOT NULL DEFAULT false,
    resolved_at   TIMESTAMPTZ,
    resolved_by   TEXT CHECK (char_length(resolved_by) <= 256),
    resolution    TEXT CHECK (resolution IN ('drop', 'requeue')),
    note          TEXT CHECK (char_length(note) <= 1000),
    version       BIGINT NOT NULL DEFAULT 1,
    created_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (source, message_id),
    CHECK (resolved = (resolved_at IS NOT NULL)),
    CHECK (NOT resolved OR (resolved_by IS NOT NULL AND resolution IS NOT NULL))
);
CREATE INDEX dlq_messages_by_tenant ON dlq_messages (tenant_id, resolved, created_at, id);
CREATE TRIGGER dlq_messages_version BEFORE UPDATE ON dlq_messages FOR EACH ROW EXECUTE FUNCTION bump_version();

-- Who did what when. It only grows, and only through append_audit.
CREATE SEQUENCE audit_log_seq;
CREATE TABLE audit_log (
    seq         BIGINT PRIMARY KEY, -- gaps mean nothing: a rolled back insert leaves one
    at          TIMESTAMPTZ NOT NULL,
    tenant_id   TEXT NOT NULL, -- '*' for what concerns no one tenant
    actor_kind  TEXT NOT NULL CHECK (actor_kind IN ('user', 'client', 'sidecar', 'workload', 'system', 'break_glass', 'anonymous')),
    actor       TEXT NOT NULL CHECK (char_length(actor) BETWEEN 1 AND 256),
    action      TEXT NOT NULL CHECK (action ~ '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$' AND char_length(action) <= 128),
    target_kind TEXT NOT NULL CHECK (char_length(target_kind) <= 64),
    target      TEXT NOT NULL CHECK (char_length(target) <= 256),
    outcome     TEXT NOT NULL CHECK (outcome IN ('success', 'denied', 'failed')),
    request_id  TEXT NOT NULL CHECK (char_length(request_id) <= 255),
    details     JSONB NOT NULL CHECK (jsonb_typeof(details) = 'object' AND octet_length(details::text) <= 16384)
);
CREATE INDEX audit_log_by_tenant ON audit_log (tenant_id, seq);

-- Place and time are the server's to say, also against who may insert directly.
CREATE FUNCTION stamp_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.seq := nextval('public.audit_log_seq');
    NEW.at := clock_timestamp();
    RETURN NEW;
END;
$$;
CREATE TRIGGER audit_log_stamp BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION stamp_audit();
CREATE TRIGGER audit_log_only_grows BEFORE UPDATE OR DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_log_stays BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_stamp;
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_only_grows;
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_stays;

-- append_audit adds one row and returns its seq. Called in the transaction of
-- the change that it tells of: without the row there is no change.
CREATE FUNCTION append_audit(
    p_tenant TEXT, p_actor_kind TEXT, p_actor TEXT, p_action TEXT, p_target_kind TEXT, p_target TEXT,
    p_outcome TEXT, p_request_id TEXT, p_details JSONB
) RETURNS BIGINT LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO public.audit_log (tenant_id, actor_kind, actor, action, target_kind, target, outcome, request_id, details)
    VALUES (p_tenant, p_actor_kind, p_actor, p_action, p_target_kind, p_target, p_outcome, p_request_id, p_details)
    RETURNING seq;
$$;
REVOKE ALL ON audit_log, budget_transactions FROM PUBLIC;
REVOKE ALL ON SEQUENCE audit_log_seq FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION append_audit FROM PUBLIC;

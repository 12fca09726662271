-- What the control service needs beside the core: tenants and projects, who
-- may log in and how often they tried, sidecars and the revisions they follow,
-- what they decided, events, and the requests of the budget ledger.
--
-- Rollback, which loses all of it:
--   DROP INDEX users_page;
--   ALTER TABLE users DROP CONSTRAINT users_project, DROP COLUMN home_tenant;
--   ALTER TABLE agents DROP CONSTRAINT agents_tenant, DROP CONSTRAINT agents_project;
--   ALTER TABLE tasks DROP CONSTRAINT tasks_tenant, DROP CONSTRAINT tasks_project;
--   ALTER TABLE budget_limits DROP CONSTRAINT budget_limits_tenant, DROP CONSTRAINT budget_limits_project;
--   ALTER TABLE dlq_messages DROP CONSTRAINT dlq_messages_tenant;
--   ALTER TABLE learning_history DROP CONSTRAINT learning_history_tenant;
--   DROP TABLE inbox, outbox, budget_requests, decisions, sidecars, policy_activations, policy_revisions, policy_sets,
--     revocations, live_epoch, signing_keys, login_attempts, refresh_tokens, clients, escalations, projects, tenants;
--   DROP FUNCTION grant_application, next_live_epoch;

CREATE TABLE tenants (
    id               TEXT PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$' AND id <> 'any'), -- 'any' is a word of policy sets
    name             TEXT NOT NULL DEFAULT '' CHECK (char_length(name) <= 200),
    status           TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    suspended_at     TIMESTAMPTZ,
    suspended_reason TEXT CHECK (char_length(suspended_reason) <= 1000),
    version          BIGINT NOT NULL DEFAULT 1,
    created_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
    CHECK ((status = 'suspended') = (suspended_at IS NOT NULL))
);
CREATE TRIGGER tenants_version BEFORE UPDATE ON tenants FOR EACH ROW EXECUTE FUNCTION bump_version();

CREATE TABLE projects (
    tenant_id  TEXT NOT NULL REFERENCES tenants (id),
    id         TEXT NOT NULL CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
    name       TEXT NOT NULL DEFAULT '' CHECK (char_length(name) <= 200),
    version    BIGINT NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE TRIGGER projects_version BEFORE UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION bump_version();

-- A database that was filled before there were tenants keeps what it has.
INSERT INTO tenants (id)
    SELECT tenant_id FROM users WHERE tenant_id <> '*' UNION SELECT tenant_id FROM agents UNION SELECT tenant_id FROM tasks
    UNION SELECT tenant_id FROM budget_limits UNION SELECT tenant_id FROM dlq_messages WHERE tenant_id <> '*'
    UNION SELECT tenant_id FROM learning_history;
INSERT INTO projects (tenant_id, id)
    SELECT tenant_id, project_id FROM users WHERE project_id IS NOT NULL UNION SELECT tenant_id, project_id FROM agents WHERE project_id IS NOT NULL
    UNION SELECT tenant_id, project_id FROM tasks WHERE project_id IS NOT NULL
    UNION SELECT tenant_id, project_id FROM budget_limits WHERE project_id IS NOT NULL;

-- '*' is no tenant, so that it is no row to refer to.
ALTER TABLE users
    ADD COLUMN home_tenant TEXT GENERATED ALWAYS AS (nullif(tenant_id, '*')) STORED REFERENCES tenants (id),
    ADD CONSTRAINT users_project FOREIGN KEY (home_tenant, project_id) REFERENCES projects (tenant_id, id);
CREATE INDEX users_page ON users (tenant_id, id);
ALTER TABLE agents
    ADD CONSTRAINT agents_tenant FOREIGN KEY (tenant_id) REFERENCES tenants (id),
    ADD CONSTRAINT agents_project FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id);
ALTER TABLE tasks
    ADD CONSTRAINT tasks_tenant FOREIGN KEY (tenant_id) REFERENCES tenants (id),
    ADD CONSTRAINT tasks_project FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id);
ALTER TABLE budget_limits
    ADD CONSTRAINT budget_limits_tenant FOREIGN KEY (tenant_id) REFERENCES tenants (id),
    ADD CONSTRAINT budget_limits_project FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id);
ALTER TABLE dlq_messages ADD CONSTRAINT dlq_messages_tenant FOREIGN KEY (tenant_id) REFERENCES tenants (id);
ALTER TABLE learning_history ADD CONSTRAINT learning_history_tenant FOREIGN KEY (tenant_id) REFERENCES tenants (id);

CREATE TABLE escalations (
    id          UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id   TEXT NOT NULL REFERENCES tenants (id),
    project_id  TEXT,
    task_id     UUID,
    state       TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'acknowledged', 'resolved', 'dismissed')),
    severity    TEXT NOT NULL DEFAULT 'medium' CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    title       TEXT NOT NULL CHECK (char_length(title) BETWEEN 1 AND 200),
    description TEXT NOT NULL DEFAULT '' CHECK (char_length(description) <= 4000),
    created_by  TEXT NOT NULL CHECK (char_length(created_by) <= 256),
    resolved_by TEXT CHECK (char_length(resolved_by) <= 256),
    resolution  TEXT CHECK (char_length(resolution) <= 4000),
    resolved_at TIMESTAMPTZ,
    version     BIGINT NOT NULL DEFAULT 1,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id),
    FOREIGN KEY (tenant_id, task_id) REFERENCES tasks (tenant_id, id),
    CHECK ((state IN ('resolved', 'dismissed')) = (resolved_at IS NOT NULL)),
    CHECK ((resolved_at IS NULL) = (resolved_by IS NULL))
);
CREATE INDEX escalations_by_tenant ON escalations (tenant_id, created_at, id);
CREATE INDEX escalations_by_task ON escalations (tenant_id, task_id);
CREATE TRIGGER escalations_version BEFORE UPDATE ON escalations FOR EACH ROW EXECUTE FUNCTION bump_version();

-- Machines that log in with client credentials. Secrets are random, so that a
-- SHA-256 of them is enough.
CREATE TABLE clients (
    id           UUID PRIMARY KEY DEFAULT gen_random_uuid(), -- the client_id
    tenant_id    TEXT NOT NULL,
    home_tenant  TEXT GENERATED ALWAYS AS (nullif(tenant_id, '*')) STORED REFERENCES tenants (id),
    project_id   TEXT,
    agent_id     UUID,
    name         TEXT NOT NULL CHECK (char_length(name) BETWEEN 1 AND 128),
    role         TEXT NOT NULL CHECK (role IN ('admin', 'operator', 'developer', 'observer')),
    secret_hash  BYTEA NOT NULL CHECK (octet_length(secret_hash) = 32),
    status       TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
    last_used_at TIMESTAMPTZ,
    version      BIGINT NOT NULL DEFAULT 1,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name),
    FOREIGN KEY (home_tenant, project_id) REFERENCES projects (tenant_id, id),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id),
    CHECK (tenant_id <> '*' OR (role = 'admin' AND project_id IS NULL AND agent_id IS NULL))
);
CREATE INDEX clients_page ON clients (tenant_id, id);
CREATE TRIGGER clients_version BEFORE UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION bump_version();

-- Each use of a refresh token makes the next one of its family; a second use
-- of one revokes the family.
CREATE TABLE refresh_tokens (
    id         UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id  TEXT NOT NULL,
    user_id    UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    family_id  UUID NOT NULL,
    token_hash BYTEA NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32), -- SHA-256
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at TIMESTAMPTZ NOT NULL,
    used_at    TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    CHECK (expires_at > created_at)
);
CREATE INDEX refresh_tokens_by_tenant ON refresh_tokens (tenant_id, user_id);
CREATE INDEX refresh_tokens_by_user ON refresh_tokens (user_id);
CREATE INDEX refresh_tokens_by_family ON refresh_tokens (family_id);
CREATE INDEX refresh_tokens_expired ON refresh_tokens (expires_at);

-- Failed logins by account, whether it exists or not; counted before the
-- password is looked at. Belongs to no tenant: a guess names none.
CREATE TABLE login_attempts (
    account_hash  BYTEA PRIMARY KEY CHECK (octet_length(account_hash) = 32), -- HMAC-SHA-256 of the canonical name
    failed_at     TIMESTAMPTZ[] NOT NULL DEFAULT '{}' CHECK (cardinality(failed_at) <= 100), -- within the window, as far as they count
    pending       INTEGER NOT NULL DEFAULT 0 CHECK (pending BETWEEN 0 AND 100), -- passwords under evaluation
    pending_until TIMESTAMPTZ NOT NULL, -- after that nobody evaluates any: their process died
    locked_until  TIMESTAMPTZ,
    updated_at    TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX login_attempts_old ON login_attempts (updated_at);

CREATE TABLE signing_keys (
    kid          TEXT PRIMARY KEY CHECK (char_length(kid) BETWEEN 1 AND 128),
    purpose      TEXT NOT NULL CHECK (purpose IN ('token', 'revision')),
    state        TEXT NOT NULL CHECK (state IN ('next', 'active', 'retiring', 'retired')),
    algorithm    TEXT NOT NULL DEFAULT 'EdDSA' CHECK (algorithm = 'EdDSA'),
    public_key   BYTEA NOT NULL CHECK (octet_length(public_key) = 32),
    private_key  BYTEA CHECK (octet_length(private_key) <= 1024), -- sealed; gone when retired
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    activated_at TIMESTAMPTZ,
    retiring_at  TIMESTAMPTZ,
    retired_at   TIMESTAMPTZ,
    CHECK ((state = 'retired') = (private_key IS NULL)),
    CHECK (state = 'next' OR activated_at IS NOT NULL),
    CHECK (state IN ('next', 'active') OR retiring_at IS NOT NULL),
    CHECK ((state = 'retired') = (retired_at IS NOT NULL))
);
CREATE UNIQUE INDEX signing_keys_one_active ON signing_keys (purpose) WHERE state = 'active';
CREATE UNIQUE INDEX signing_keys_one_next ON signing_keys (purpose) WHERE state = 'next';

-- The epoch of live data: keys, revocations, blocks. Whoever changes any calls
-- next_live_epoch in the same transaction. The row's lock makes the order of
-- epochs the order of commits, which a sequence would not.
CREATE TABLE live_epoch (
    only_row BOOLEAN PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch    BIGINT NOT NULL CHECK (epoch >= 0)
);
INSERT INTO live_epoch (epoch) VALUES (0);
CREATE FUNCTION next_live_epoch() RETURNS BIGINT LANGUAGE sql AS $$
    UPDATE live_epoch SET epoch = epoch + 1 RETURNING epoch;
$$;

-- Tokens that are refused before they expire: those of a subject issued before
-- a moment, or the one with an id.
CREATE TABLE revocations (
    id            UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id     TEXT NOT NULL,
    kind          TEXT NOT NULL CHECK (kind IN ('subject', 'token')),
    subject       TEXT CHECK (char_length(subject) BETWEEN 1 AND 256),
    issued_before TIMESTAMPTZ,
    token_id      TEXT CHECK (char_length(token_id) BETWEEN 1 AND 256),
    epoch         BIGINT NOT NULL CHECK (epoch > 0),
    reason        TEXT NOT NULL DEFAULT '' CHECK (char_length(reason) <= 1000),
    created_by    TEXT NOT NULL CHECK (char_length(created_by) <= 256),
    created_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at    TIMESTAMPTZ NOT NULL, -- when the last token that it refuses has expired
    CHECK ((kind = 'subject') = (subject IS NOT NULL AND issued_before IS NOT NULL)),
    CHECK ((kind = 'token') = (token_id IS NOT NULL))
);
CREATE INDEX revocations_by_tenant ON revocations (tenant_id, created_at);
CREATE INDEX revocations_by_epoch ON revocations (epoch);
CREATE INDEX revocations_expired ON revocations (expires_at);
CREATE INDEX revocations_by_subject ON revocations (subject) WHERE kind = 'subject';
CREATE INDEX revocations_by_token ON revocations (token_id) WHERE kind = 'token';

CREATE TABLE policy_sets (
    name       TEXT PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    version    BIGINT NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE TRIGGER policy_sets_version BEFORE UPDATE ON policy_sets FOR EACH ROW EXECUTE FUNCTION bump_version();

-- Content-addressed, signed, immutable.
CREATE TABLE policy_revisions (
    policy_set TEXT NOT NULL REFERENCES policy_sets (name),
    id         TEXT NOT NULL CHECK (id ~ '^[0-9a-f]{64}$'), -- SHA-256 of sorted paths and contents
    bundle     BYTEA NOT NULL CHECK (octet_length(bundle) <= 4194304),
    signature  BYTEA NOT NULL CHECK (octet_length(signature) = 64), -- Ed25519
    kid        TEXT NOT NULL REFERENCES signing_keys (kid),
    note       TEXT NOT NULL DEFAULT '' CHECK (char_length(note) <= 1000),
    pushed_by  TEXT NOT NULL CHECK (char_length(pushed_by) <= 256),
    pushed_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (policy_set, id)
);
CREATE TRIGGER policy_revisions_stay BEFORE UPDATE ON policy_revisions FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Which revision is in force: the one of the highest generation. A rollback is
-- a new generation too, so that an older message can't pass for one.
CREATE TABLE policy_activations (
    policy_set   TEXT NOT NULL,
    generation   BIGINT NOT NULL CHECK (generation > 0),
    revision_id  TEXT NOT NULL,
    kind         TEXT NOT NULL CHECK (kind IN ('activate', 'rollback')),
    activated_by TEXT NOT NULL CHECK (char_length(activated_by) <= 256),
    activated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (policy_set, generation),
    FOREIGN KEY (policy_set, revision_id) REFERENCES policy_revisions (policy_set, id)
);
CREATE INDEX policy_activations_by_revision ON policy_activations (policy_set, revision_id);
CREATE TRIGGER policy_activations_stay BEFORE UPDATE OR DELETE ON policy_activations FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE sidecars (
    id              UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id       TEXT NOT NULL REFERENCES tenants (id),
    project_id      TEXT,
    agent_id        UUID,
    name            TEXT NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,126}$'),
    role            TEXT NOT NULL DEFAULT 'developer' CHECK (role IN ('admin', 'operator', 'developer', 'observer')),
    shared          BOOLEAN NOT NULL DEFAULT false,
    policy_set      TEXT NOT NULL REFERENCES policy_sets (name),
    credential_hash BYTEA NOT NULL UNIQUE CHECK (octet_length(credential_hash) = 32), -- SHA-256
    status          TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'revoked')),
    version         BIGINT NOT NULL DEFAULT 1, -- raised with the registration, not with what is reported
    created_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    -- What it reports.
    incarnation     BIGINT NOT NULL DEFAULT 0 CHECK (incarnation >= 0),
    last_seen_at    TIMESTAMPTZ,
    revision_id     TEXT CHECK (revision_id ~ '^[0-9a-f]{64}$'),
    generation      BIGINT,
    live_epoch      BIGINT,
    skew_ms         BIGINT,
    build           TEXT CHECK (char_length(build) <= 128),
    nack_revision   TEXT CHECK (nack_revision ~ '^[0-9a-f]{64}$'),
    nack_reason     TEXT CHECK (char_length(nack_reason) <= 2000),
    nack_at         TIMESTAMPTZ,
    UNIQUE (tenant_id, name),
    FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
);
CREATE INDEX sidecars_by_policy_set ON sidecars (policy_set);

-- Decision records of the sidecars, kept for days. No foreign keys: a record
-- outlives what it tells of, and batches must not wait for it.
CREATE TABLE decisions (
    id         TEXT PRIMARY KEY CHECK (char_length(id) BETWEEN 1 AND 64),
    tenant_id  TEXT NOT NULL,
    sidecar_id UUID NOT NULL,
    at         TIMESTAMPTZ NOT NULL, -- by the sidecar's clock
    request_id TEXT NOT NULL DEFAULT '' CHECK (char_length(request_id) <= 256),
    revision   TEXT NOT NULL CHECK (char_length(revision) <= 64),
    route      TEXT NOT NULL CHECK (char_length(route) <= 256),
    subject    TEXT NOT NULL DEFAULT '' CHECK (char_length(subject) <= 256),
    allowed    BOOLEAN NOT NULL,
    would_deny BOOLEAN NOT NULL DEFAULT false,
    error_code TEXT NOT NULL DEFAULT '' CHECK (char_length(error_code) <= 64),
    rule_id    TEXT NOT NULL DEFAULT '' CHECK (char_length(rule_id) <= 256),
    record     JSONB NOT NULL CHECK (jsonb_typeof(record) = 'object' AND octet_length(record::text) <= 65536),
    stored_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX decisions_by_tenant ON decisions (tenant_id, at DESC, id);
CREATE INDEX decisions_stored ON decisions (stored_at);

-- The ledger's requests, and their answers for whoever asks again.
CREATE TABLE budget_requests (
    id               UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id        TEXT NOT NULL REFERENCES tenants (id),
    project_id       TEXT,
    origin           TEXT NOT NULL CHECK (origin IN ('inline', 'api')),
    request_id       TEXT NOT NULL CHECK (char_length(request_id) BETWEEN 1 AND 255),
    attempt          INTEGER NOT NULL DEFAULT 1 CHECK (attempt >= 1),
    -- 'void' is the tombstone of an id released before it was ever seen.
    state            TEXT NOT NULL CHECK (state IN ('reserved', 'committed', 'released', 'expired', 'expired_charged', 'denied', 'void')),
    body_hash        BYTEA CHECK (octet_length(body_hash) = 32), -- SHA-256 of the canonical body
    budgets          UUID[] NOT NULL DEFAULT '{}' CHECK (cardinality(budgets) <= 16), -- budget_limits.id of the rows it was held in
    reserved_tokens  BIGINT NOT NULL DEFAULT 0 CHECK (reserved_tokens >= 0),
    actual_tokens    BIGINT CHECK (actual_tokens >= 0),
    overrun_tokens   BIGINT NOT NULL DEFAULT 0 CHECK (overrun_tokens >= 0),
    late             BOOLEAN NOT NULL DEFAULT false,
    flagged          BOOLEAN NOT NULL DEFAULT false, -- reported far below what was visible
    denial           JSONB CHECK (jsonb_typeof(denial) = 'object' AND octet_length(denial::text) <= 4096),
    model            TEXT CHECK (char_length(model) <= 256),
    task_id          UUID,
    purpose          TEXT CHECK (char_length(purpose) <= 256),
    subject          TEXT NOT NULL DEFAULT '' CHECK (char_length(subject) <= 256),
    sidecar_id       UUID REFERENCES sidecars (id),
    incarnation      BIGINT,
    decision_id      TEXT CHECK (char_length(decision_id) <= 64),
    expires_at       TIMESTAMPTZ,
    created_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
    settled_at       TIMESTAMPTZ,
    UNIQUE (tenant_id, origin, request_id, attempt),
    FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id),
    CHECK ((origin = 'inline') = (sidecar_id IS NOT NULL)),
    CHECK ((state = 'reserved') = (settled_at IS NULL)),
    CHECK (state <> 'reserved' OR expires_at IS NOT NULL),
    CHECK (state <> 'committed' OR actual_tokens IS NOT NULL),
    CHECK ((state = 'denied') = (denial IS NOT NULL))
);
CREATE INDEX budget_requests_expiring ON budget_requests (expires_at) WHERE state = 'reserved';
CREATE INDEX budget_requests_of_sidecar ON budget_requests (sidecar_id, incarnation) WHERE state = 'reserved';
CREATE INDEX budget_requests_old ON budget_requests (created_at);

-- Events, written with the effect that they tell of, delivered afterwards.
CREATE TABLE outbox (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id     UUID NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    tenant_id    TEXT NOT NULL,
    kind         TEXT NOT NULL CHECK (kind ~ '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$' AND char_length(kind) <= 128),
    payload      JSONB NOT NULL CHECK (jsonb_typeof(payload) = 'object' AND octet_length(payload::text) <= 65536),
    attempts     INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    available_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    delivered_at TIMESTAMPTZ,
    last_error   TEXT CHECK (char_length(last_error) <= 1000),
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX outbox_by_tenant ON outbox (tenant_id, id);
CREATE INDEX outbox_due ON outbox (available_at, id) WHERE delivered_at IS NULL;

-- What a consumer has done already: written in its effect's transaction.
CREATE TABLE inbox (
    consumer TEXT NOT NULL CHECK (char_length(consumer) <= 128),
    event_id UUID NOT NULL,
    done_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, event_id)
);
CREATE INDEX inbox_old ON inbox (done_at);

-- grant_application lets a role work with the tables as the control service
-- does, and no further: it can neither rewrite what only grows nor change the
-- schema. Called by the owner after each migration.
CREATE FUNCTION grant_application(p_role NAME) RETURNS VOID LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', p_role);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO %I', p_role);
    EXECUTE format('GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO %I', p_role);
    EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON public.audit_log, public.schema_migrations FROM %I', p_role);
    EXECUTE format('REVOKE UPDATE, DELETE ON public.budget_transactions, public.policy_activations FROM %I', p_role);
    EXECUTE format('REVOKE DELETE ON public.learning_history, public.learning_governance FROM %I', p_role);
    EXECUTE format('REVOKE ALL ON SEQUENCE public.audit_log_seq FROM %I', p_role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION public.append_audit TO %I', p_role);
END;
$$;
REVOKE EXECUTE ON FUNCTION grant_application FROM PUBLIC;

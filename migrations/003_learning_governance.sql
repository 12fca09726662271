-- What may an agent learn, how often: rules per agent role, the history of
-- updates, and the functions that decide.
--
-- An update is taken in one transaction, at READ COMMITTED:
--
--   BEGIN;
--   SELECT can_auto_update_prompt('developer');  -- holds the role's rule from here on
--   INSERT INTO learning_history (tenant_id, agent_role, request_id, requested_by, state)
--   VALUES (..., 'applied');                     -- only if it said true
--   COMMIT;
--
-- Two at once can't both pass the last free place: the second waits for the
-- first to end, and then sees its row. Where a role requires approval the
-- answer is always false; the row is inserted as 'pending' and reviewed with
-- approve_prompt_update or reject_prompt_update. An update that did not come
-- about is given back by setting its state to 'returned'.
--
-- Rollback, which loses the history:
--   DROP VIEW learning_stats, governance_status;
--   DROP FUNCTION reject_prompt_update, approve_prompt_update, review_prompt_update, can_auto_update_prompt, prompt_update_refusal;
--   DROP TABLE learning_history, learning_governance;

CREATE TABLE learning_governance (
    agent_role        TEXT PRIMARY KEY CHECK (agent_role ~ '^[a-z][a-z0-9_-]{0,62}$'),
    daily_limit       INTEGER NOT NULL CHECK (daily_limit BETWEEN 0 AND 1000), -- in any 24 hours
    cooldown          INTERVAL NOT NULL CHECK (cooldown >= INTERVAL '0'),      -- between two updates
    requires_approval BOOLEAN NOT NULL DEFAULT false,
    locked            BOOLEAN NOT NULL DEFAULT false, -- nothing is learned until it is unlocked
    locked_reason     TEXT CHECK (char_length(locked_reason) <= 1000),
    version           BIGINT NOT NULL DEFAULT 1,
    created_at        TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at        TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE TRIGGER learning_governance_version BEFORE UPDATE ON learning_governance FOR EACH ROW EXECUTE FUNCTION bump_version();

INSERT INTO learning_governance (agent_role, daily_limit, cooldown, requires_approval) VALUES
    ('security',  1, INTERVAL '24 hours', true),
    ('architect', 2, INTERVAL '12 hours', true),
    ('developer', 5, INTERVAL '2 hours',  false),
    ('reviewer',  3, INTERVAL '4 hours',  false),
    ('tester',    5, INTERVAL '2 hours',  false);

CREATE TABLE learning_history (
    id           UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id    TEXT NOT NULL,
    agent_role   TEXT NOT NULL REFERENCES learning_governance (agent_role),
    agent_id     UUID,
    request_id   TEXT NOT NULL CHECK (char_length(request_id) BETWEEN 1 AND 255),
    state        TEXT NOT NULL CHECK (state IN ('pending', 'applied', 'approved', 'rejected', 'returned')),
    change       BYTEA CHECK (octet_length(change) <= 1048576), -- sealed
    requested_by TEXT NOT NULL CHECK (char_length(requested_by) BETWEEN 1 AND 256),
    requested_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    reviewer     TEXT CHECK (char_length(reviewer) BETWEEN 1 AND 256),
    note         TEXT CHECK (char_length(note) <= 1000),
    reviewed_at  TIMESTAMPTZ,
    -- Counted from here: when it was applied, or approved.
    effective_at TIMESTAMPTZ GENERATED ALWAYS AS (CASE state WHEN 'applied' THEN requested_at WHEN 'approved' THEN reviewed_at END) STORED,
    UNIQUE (tenant_id, request_id),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id),
    CHECK ((state IN ('approved', 'rejected')) = (reviewer IS NOT NULL)),
    CHECK ((reviewer IS NULL) = (reviewed_at IS NULL))
);
CREATE INDEX learning_history_by_tenant ON learning_history (tenant_id, requested_at, id);
CREATE INDEX learning_history_effective ON learning_history (agent_role, effective_at) WHERE effective_at IS NOT NULL;
CREATE TRIGGER learning_history_stays BEFORE DELETE ON learning_history FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER learning_history_stays_whole BEFORE TRUNCATE ON learning_history FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Why an update of a role is refused now, approval aside, or NULL.
CREATE FUNCTION prompt_update_refusal(p_role TEXT) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    rule learning_governance;
    today INTEGER;
    newest TIMESTAMPTZ;
BEGIN
    SELECT * INTO rule FROM learning_governance WHERE agent_role = p_role;
    IF NOT FOUND THEN
        RETURN 'unknown_role';
    ELSIF rule.locked THEN
        RETURN 'locked';
    END IF;
    SELECT count(*) FILTER (WHERE effective_at > clock_timestamp() - INTERVAL '24 hours'), max(effective_at)
        INTO today, newest FROM learning_history WHERE agent_role = p_role AND effective_at IS NOT NULL;
    IF today >= rule.daily_limit THEN
        RETURN 'daily_limit';
    ELSIF newest + rule.cooldown > clock_timestamp() THEN
        RETURN 'cooldown';
    END IF;
    RETURN NULL;
END;
$$;

-- May a role update its prompt now, by itself? Unknown roles may not. The
-- role's rule is held until the caller's transaction ends; see above.
CREATE FUNCTION can_auto_update_prompt(p_role TEXT) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
DECLARE
    approval BOOLEAN;
BEGIN
    IF current_setting('transaction_read_only') = 'on' THEN -- nothing can follow that would need the rule held
        SELECT requires_approval INTO approval FROM learning_governance WHERE agent_role = p_role;
    ELSIF current_setting('transaction_isolation') <> 'read committed' THEN
        -- INVARIANT: the count after the wait sees what the one before us
        -- committed. An older snapshot would not.
        RAISE EXCEPTION 'can_auto_update_prompt needs READ COMMITTED' USING ERRCODE = 'invalid_transaction_state';
    ELSE
        SELECT requires_approval INTO approval FROM learning_governance WHERE agent_role = p_role FOR UPDATE;
    END IF;
    IF approval IS NULL OR approval THEN
        RETURN false;
    END IF;
    RETURN prompt_update_refusal(p_role) IS NULL;
END;
$$;

-- The shared part of the two reviews. SQLSTATE P0002: there is no such
-- update; GH001: it is not pending; GH002: the rule forbids it now, the
-- message is the reason.
CREATE FUNCTION review_prompt_update(p_id UUID, p_state TEXT, p_reviewer TEXT, p_note TEXT) RETURNS learning_history LANGUAGE plpgsql AS $$
DECLARE
    entry learning_history;
    refusal TEXT;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a review needs READ COMMITTED' USING ERRCODE = 'invalid_transaction_state';
    END IF;
    -- The rule first and then the update, as everyone: who locks in one order never waits in a circle.
    PERFORM 1 FROM learning_governance g JOIN learning_history h USING (agent_role) WHERE h.id = p_id FOR UPDATE OF g;
    SELECT * INTO entry FROM learning_history WHERE id = p_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no prompt update %', p_id USING ERRCODE = 'no_data_found';
    ELSIF entry.state <> 'pending' THEN
        RAISE EXCEPTION 'prompt update % is %', p_id, entry.state USING ERRCODE = 'GH001';
    END IF;
    IF p_state = 'approved' THEN
        refusal := prompt_update_refusal(entry.agent_role);
        IF refusal IS NOT NULL THEN
            RAISE EXCEPTION '%', refusal USING ERRCODE = 'GH002';
        END IF;
    END IF;
    UPDATE learning_history SET state = p_state, reviewer = p_reviewer, note = p_note, reviewed_at = clock_timestamp()
        WHERE id = p_id RETURNING * INTO entry;
    RETURN entry;
END;
$$;

-- Approval waives nothing but the approval: daily limit, cooldown and lock hold.
CREATE FUNCTION approve_prompt_update(p_id UUID, p_reviewer TEXT, p_note TEXT) RETURNS learning_history LANGUAGE sql AS $$
    SELECT * FROM review_prompt_update(p_id, 'approved', p_reviewer, p_note);
$$;

CREATE FUNCTION reject_prompt_update(p_id UUID, p_reviewer TEXT, p_note TEXT) RETURNS learning_history LANGUAGE sql AS $$
    SELECT * FROM review_prompt_update(p_id, 'rejected', p_reviewer, p_note);
$$;

-- Each rule and where its role stands. Reading it holds nothing.
CREATE VIEW governance_status AS
SELECT g.agent_role, g.daily_limit, g.cooldown, g.requires_approval, g.locked, g.locked_reason,
       h.updates_today, greatest(g.daily_limit - h.updates_today, 0) AS remaining_today,
       h.last_update_at, h.last_update_at + g.cooldown AS next_update_at, h.pending,
       r.refusal, NOT g.requires_approval AND r.refusal IS NULL AS can_auto_update
FROM learning_governance g
CROSS JOIN LATERAL (
    SELECT (count(*) FILTER (WHERE effective_at > now() - INTERVAL '24 hours'))::integer AS updates_today,
           max(effective_at) AS last_update_at,
           (count(*) FILTER (WHERE state = 'pending'))::integer AS pending
    FROM learning_history WHERE agent_role = g.agent_role
) h
CROSS JOIN LATERAL (SELECT prompt_update_refusal(g.agent_role) AS refusal) r;

CREATE VIEW learning_stats AS
SELECT tenant_id, agent_role, count(*) AS total,
       count(*) FILTER (WHERE state = 'applied')  AS applied,
       count(*) FILTER (WHERE state = 'approved') AS approved,
       count(*) FILTER (WHERE state = 'rejected') AS rejected,
       count(*) FILTER (WHERE state = 'pending')  AS pending,
       count(*) FILTER (WHERE state = 'returned') AS returned,
       max(effective_at) AS last_update_at
FROM learning_history GROUP BY tenant_id, agent_role;

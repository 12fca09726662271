-- The ledger's statements. Each operation is one call; what it decides, package
-- budget says. All calls that concern one tenant take turns, so that they see
-- what the ones before them left, and the journal has their order.
--
-- Times: p_at is the present, NULL for the database's own, which is what all
-- replicas share. All are in PL/pgSQL, which keeps its plans, and those that take
-- arrays are told to: planning for the arrays of each call takes longer than it.
--
-- Requests are found by LATERAL and LIMIT, and changed one by one: a plan that
-- was made when the tables were small must not read them whole later.
--
-- Rollback:
--   DROP FUNCTION budget_close_limit, budget_set_limit, budget_create_limit, budget_open_limit, budget_sweep,
--     budget_settle, budget_mark, budget_reserve, budget_roll, budget_usage, budget_current, budget_period, budget_midnight, budget_turn;
--   DROP TYPE budget_answer;

-- What a request was answered. n is the place in the call, from 1. outcome is
-- the call's own word; the rest is the request as it is afterwards, or NULL.
CREATE TYPE budget_answer AS (
    n               INTEGER,
    outcome         TEXT,
    project_id      TEXT,
    state           TEXT,
    reserved_tokens BIGINT,
    actual_tokens   BIGINT,
    overrun_tokens  BIGINT,
    late            BOOLEAN,
    flagged         BOOLEAN,
    denial          JSONB,
    created_at      TIMESTAMPTZ,
    expires_at      TIMESTAMPTZ,
    settled_at      TIMESTAMPTZ
);

-- budget_turn waits for the tenant's turn, which lasts until the transaction
-- ends. Who takes turns of several takes them in their order. SQLSTATE P0002:
-- there is no such tenant.
CREATE FUNCTION budget_turn(p_tenant TEXT) RETURNS VOID LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        -- INVARIANT: what is read after the wait is what the one before left.
        RAISE EXCEPTION 'the ledger needs READ COMMITTED' USING ERRCODE = 'invalid_transaction_state';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('gatehouse.budget/' || p_tenant, 0));
    PERFORM FROM tenants WHERE id = p_tenant;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such tenant' USING ERRCODE = 'no_data_found';
    END IF;
END;
$$;

-- budget_midnight is the first instant at which a zone's clocks show midnight
-- of a day, or, where they skip it, the one at which the offset before says so.
-- AT TIME ZONE takes the second of two.
CREATE FUNCTION budget_midnight(p_day DATE, p_zone TEXT) RETURNS TIMESTAMPTZ LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    wall   TIMESTAMP   := p_day::timestamp;
    late   TIMESTAMPTZ := wall AT TIME ZONE p_zone;
    before TIMESTAMPTZ := late - INTERVAL '24 hours';
    early  TIMESTAMPTZ := (wall - ((before AT TIME ZONE p_zone) - (before AT TIME ZONE 'UTC'))) AT TIME ZONE 'UTC';
BEGIN
    IF early AT TIME ZONE p_zone <> wall AND late AT TIME ZONE p_zone = wall THEN
        RETURN late;
    END IF;
    RETURN early;
END;
$$;

-- budget_period is the period of a window that an instant is in, by the clocks
-- of a zone. A total begins then and has no end.
CREATE FUNCTION budget_period(p_window TEXT, p_zone TEXT, p_at TIMESTAMPTZ, OUT starts TIMESTAMPTZ, OUT ends TIMESTAMPTZ)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    one CONSTANT INTERVAL := CASE p_window WHEN 'total' THEN NULL ELSE '1 ' || p_window END;
    day DATE;
BEGIN
    IF p_window = 'total' THEN
        starts := p_at;
        RETURN;
    ELSIF p_window = 'hour' THEN
        starts := date_trunc('hour', p_at, p_zone);
        ends := starts + INTERVAL '1 hour';
        RETURN;
    END IF;
    day := date_trunc(p_window, p_at AT TIME ZONE p_zone);
    -- Clocks that are set over a midnight show a date again, or not yet.
    IF budget_midnight((day + one)::date, p_zone) <= p_at THEN
        day := day + one;
    ELSIF budget_midnight(day, p_zone) > p_at THEN
        day := day - one;
    END IF;
    starts := budget_midnight(day, p_zone);
    ends := budget_midnight((day + one)::date, p_zone);
END;
$$;

-- budget_current is the newest row of each open limit of some scopes; '' is that
-- of the whole tenant.
CREATE FUNCTION budget_current(p_tenant TEXT, p_projects TEXT[]) RETURNS SETOF budget_limits LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN QUERY
    SELECT newest.*
    FROM unnest(p_projects) AS project
    CROSS JOIN unnest(ARRAY['total', 'hour', 'day', 'week', 'month']) AS kind
    CROSS JOIN LATERAL (
        SELECT * FROM budget_limits l
        WHERE l.tenant_id = p_tenant AND coalesce(l.project_id, '') = project AND l.window_kind = kind AND l.closed_at IS NULL
        ORDER BY l.period_start DESC LIMIT 1
    ) newest;
END;
$$;

-- budget_usage is where the open limits of some scopes stand. A period that
-- nobody reserved in has no row yet.
CREATE FUNCTION budget_usage(p_tenant TEXT, p_projects TEXT[], p_at TIMESTAMPTZ) RETURNS SETOF budget_limits LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    present CONSTANT TIMESTAMPTZ := coalesce(p_at, now());
    l budget_limits;
    p RECORD;
BEGIN
    FOR l IN SELECT * FROM budget_current(p_tenant, p_projects) LOOP
        IF l.period_end <= present THEN
            p := budget_period(l.window_kind, l.time_zone, present);
            l.period_start := greatest(p.starts, l.period_end);
            l.period_end := p.ends;
            l.used := 0;
            l.reserved := 0;
            l.overrun := 0;
            l.ceiling := l.limit_tokens;
        END IF;
        RETURN NEXT l;
    END LOOP;
END;
$$;

-- budget_roll makes the rows of the periods that have begun. The caller has the
-- tenant's turn.
CREATE FUNCTION budget_roll(p_tenant TEXT, p_projects TEXT[], p_at TIMESTAMPTZ) RETURNS VOID LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    INSERT INTO budget_limits (limit_id, tenant_id, project_id, window_kind, time_zone, period_start, period_end, limit_tokens, ceiling, version, created_at, updated_at)
    SELECT l.limit_id, l.tenant_id, l.project_id, l.window_kind, l.time_zone,
           greatest(p.starts, l.period_end), p.ends, -- INVARIANT: periods of a limit don't overlap
           l.limit_tokens, l.limit_tokens, l.version, l.created_at, l.updated_at
    FROM budget_current(p_tenant, p_projects) l CROSS JOIN LATERAL budget_period(l.window_kind, l.time_zone, p_at) p
    WHERE l.period_end <= p_at;
END;
$$;

-- budget_reserve decides holds, one after the other, each by what the ones
-- before it left. No two have the same key. p_projects are the different
-- projects of the call, '' the first of them; p_scope is the place in it of
-- each hold's. Outcomes: new, same (known, by this very hold), other (known, by
-- another), unknown_project, unknown_sidecar. The answers are in no order.
CREATE FUNCTION budget_reserve(
    p_tenant TEXT, p_at TIMESTAMPTZ, p_projects TEXT[], p_scope INTEGER[],
    p_origin TEXT[], p_request TEXT[], p_attempt INTEGER[], p_tokens BIGINT[], p_unlimited BOOLEAN[], p_ttl_ms BIGINT[], p_hash BYTEA[],
    p_sidecar TEXT[], p_incarnation BIGINT[], p_model TEXT[], p_task TEXT[], p_purpose TEXT[], p_subject TEXT[], p_decision TEXT[]
) RETURNS SETOF budget_answer LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    present CONSTANT TIMESTAMPTZ := coalesce(p_at, now());
    items   CONSTANT INTEGER     := cardinality(p_request);
    outcomes TEXT[];
    known    BOOLEAN[]; -- of each project, whether it is there
    -- The rows that apply to anything here, in the order of their ids.
    row_id    UUID[];
    row_limit UUID[];
    row_scope INTEGER[];
    row_room  BIGINT[]; -- what may still be held; below 0 after a cut
    row_held  BIGINT[]; -- what this call holds
    -- Which of them apply to a scope: row_ref[ref_from[scope]] to [ref_to[scope]].
    row_ref   INTEGER[];
    ref_of    INTEGER[];
    ref_from  INTEGER[] := array_fill(2147483647, ARRAY[cardinality(p_projects)]);
    ref_to    INTEGER[] := array_fill(0, ARRAY[cardinality(p_projects)]);
    -- The row that denies a hold, 0 where none applies, and what that had left.
    refused_by INTEGER[] := array_fill(NULL::integer, ARRAY[items]);
    room_left  BIGINT[]  := array_fill(NULL::bigint, ARRAY[items]);
    tightest   INTEGER;
    this       INTEGER;
BEGIN
    PERFORM budget_turn(p_tenant);
    PERFORM budget_roll(p_tenant, p_projects, present);

    row_id := ARRAY(SELECT id FROM budget_current(p_tenant, p_projects));
    SELECT array_agg(l.id ORDER BY l.id), array_agg(l.limit_id ORDER BY l.id), array_agg(array_position(p_projects, coalesce(l.project_id, '')) ORDER BY l.id),
           array_agg(l.limit_tokens - l.used - l.reserved ORDER BY l.id), array_agg(0::bigint)
        INTO row_id, row_limit, row_scope, row_room, row_held
        FROM (SELECT * FROM budget_limits WHERE id = ANY (row_id) ORDER BY id FOR UPDATE) l;
    WITH r AS (
        SELECT * FROM unnest(row_scope) WITH ORDINALITY r(scope, place)
    ), ref AS (
        SELECT s.scope, r.place FROM generate_subscripts(p_projects, 1) s(scope) CROSS JOIN r WHERE r.scope = 1
        UNION ALL SELECT * FROM r WHERE r.scope > 1
    )
    SELECT array_agg(ref.scope ORDER BY ref.scope, ref.place), array_agg(ref.place ORDER BY ref.scope, ref.place) INTO ref_of, row_ref FROM ref;
    FOR f IN 1 .. coalesce(cardinality(row_ref), 0) LOOP
        ref_to[ref_of[f]] := f;
        ref_from[ref_of[f]] := least(ref_from[ref_of[f]], f);
    END LOOP;

    known := ARRAY(SELECT p.id = '' OR EXISTS (SELECT FROM projects WHERE tenant_id = p_tenant AND id = p.id) FROM unnest(p_projects) WITH ORDINALITY p(id, n) ORDER BY p.n);
    SELECT array_agg(CASE
            WHEN r.id IS NULL AND NOT known[u.scope] THEN 'unknown_project'
            WHEN r.id IS NULL AND s.id IS NULL AND u.sidecar <> '' THEN 'unknown_sidecar'
            WHEN r.id IS NULL THEN 'new'
            WHEN r.body_hash = u.hash AND r.sidecar_id IS NOT DISTINCT FROM s.id AND r.incarnation IS NOT DISTINCT FROM nullif(u.incarnation, 0) THEN 'same'
            ELSE 'other' END ORDER BY u.n)
        INTO outcomes
        FROM unnest(p_origin, p_request, p_attempt, p_hash, p_sidecar, p_incarnation, p_scope)
            WITH ORDINALITY u(origin, request, attempt, hash, sidecar, incarnation, scope, n)
        LEFT JOIN LATERAL (
            SELECT * FROM budget_requests WHERE tenant_id = p_tenant AND origin = u.origin AND request_id = u.request AND attempt = u.attempt LIMIT 1
        ) r ON true
        LEFT JOIN LATERAL (SELECT id FROM sidecars WHERE id = nullif(u.sidecar, '')::uuid LIMIT 1) s ON true;

    FOR i IN 1 .. items LOOP
        CONTINUE WHEN outcomes[i] <> 'new' OR p_unlimited[i];
        tightest := 0;
        FOR f IN ref_from[p_scope[i]] .. ref_to[p_scope[i]] LOOP
            this := row_ref[f];
            IF tightest = 0 OR row_room[this] < row_room[tightest] THEN
                tightest := this;
            END IF;
        END LOOP;
        IF tightest = 0 OR row_room[tightest] < p_tokens[i] THEN
            refused_by[i] := tightest;
            room_left[i] := greatest(0, row_room[tightest]);
            CONTINUE;
        END IF;
        -- INVARIANT: all rows have the room, so that used + reserved stays within
        -- the limit, which is within the ceiling.
        FOR f IN ref_from[p_scope[i]] .. ref_to[p_scope[i]] LOOP
            this := row_ref[f];
            row_room[this] := row_room[this] - p_tokens[i];
            row_held[this] := row_held[this] + p_tokens[i];
        END LOOP;
    END LOOP;
    FOR k IN 1 .. coalesce(cardinality(row_id), 0) LOOP
        UPDATE budget_limits SET reserved = reserved + row_held[k] WHERE id = row_id[k] AND row_held[k] > 0;
    END LOOP;

    RETURN QUERY
    WITH item AS (
        SELECT u.*, CASE WHEN u.denied_by IS NULL THEN 'reserved' ELSE 'denied' END AS state,
            CASE WHEN u.denied_by IS NULL THEN present + u.ttl_ms * INTERVAL '1 ms' END AS expires,
            CASE WHEN u.denied_by = 0 THEN jsonb_build_object('reason', 'no_limit', 'requested', u.tokens)
                WHEN u.denied_by > 0 THEN (
                    SELECT jsonb_strip_nulls(jsonb_build_object('reason', 'exhausted', 'limit_id', l.limit_id, 'window', l.window_kind,
                        'limit', l.limit_tokens, 'available', u.had, 'requested', u.tokens, 'resets_at', l.period_end))
                    FROM budget_limits l WHERE l.id = row_id[u.denied_by]) END AS denial
        FROM unnest(outcomes, refused_by, room_left, p_origin, p_request, p_attempt, p_tokens, p_unlimited, p_ttl_ms, p_hash, p_sidecar, p_incarnation,
                    p_scope, p_model, p_task, p_purpose, p_subject, p_decision)
            WITH ORDINALITY u(outcome, denied_by, had, origin, request, attempt, tokens, unlimited, ttl_ms, hash, sidecar, incarnation,
                              scope, model, task, purpose, subject, decision, n)
    ), scope AS (
        SELECT s.scope, ARRAY(SELECT row_id[row_ref[f]] FROM generate_series(ref_from[s.scope], ref_to[s.scope]) f ORDER BY f) AS budgets
        FROM generate_subscripts(p_projects, 1) s(scope)
    ), made AS (
        INSERT INTO budget_requests (tenant_id, project_id, origin, request_id, attempt, state, body_hash, budgets, reserved_tokens, denial,
            model, task_id, purpose, subject, sidecar_id, incarnation, decision_id, expires_at, created_at, settled_at)
        SELECT p_tenant, nullif(p_projects[item.scope], ''), item.origin, item.request, item.attempt, item.state, item.hash,
            CASE WHEN item.state = 'reserved' AND NOT item.unlimited THEN scope.budgets ELSE '{}' END,
            CASE item.state WHEN 'reserved' THEN item.tokens ELSE 0 END, item.denial,
            nullif(item.model, ''), nullif(item.task, '')::uuid, nullif(item.purpose, ''), item.subject, nullif(item.sidecar, '')::uuid,
            nullif(item.incarnation, 0), nullif(item.decision, ''), item.expires, present, CASE item.state WHEN 'denied' THEN present END
        FROM item JOIN scope USING (scope) WHERE item.outcome = 'new'
    ), told AS (
        INSERT INTO budget_transactions (tenant_id, project_id, budget_id, limit_id, origin, request_id, attempt, kind, reserved_delta, at)
        SELECT p_tenant, nullif(p_projects[item.scope], ''), row_id[row_ref[f]], row_limit[row_ref[f]], item.origin, item.request, item.attempt,
            'reserve', item.tokens, present
        FROM item CROSS JOIN LATERAL generate_series(ref_from[item.scope], ref_to[item.scope]) f
        WHERE item.outcome = 'new' AND item.state = 'reserved' AND NOT item.unlimited
        ORDER BY item.n, f
    )
    SELECT item.n::integer, item.outcome, nullif(p_projects[item.scope], ''), item.state,
           CASE item.state WHEN 'reserved' THEN item.tokens ELSE 0 END, NULL::bigint, 0::bigint, false, false, item.denial,
           present, item.expires, CASE item.state WHEN 'denied' THEN present END
    FROM item WHERE item.outcome NOT IN ('same', 'other')
    UNION ALL
    SELECT item.n::integer, item.outcome, r.project_id, r.state, r.reserved_tokens, r.actual_tokens, r.overrun_tokens, r.late, r.flagged, r.denial,
           r.created_at, r.expires_at, r.settled_at
    FROM item CROSS JOIN LATERAL (
        SELECT * FROM budget_requests WHERE tenant_id = p_tenant AND origin = item.origin AND request_id = item.request AND attempt = item.attempt LIMIT 1
    ) r WHERE item.outcome IN ('same', 'other');
END;
$$;

-- budget_mark writes what became of requests; those without a kind stay as they
-- are. It may look each up by its id and in no other way, see above; one statement
-- for all, as each statement reads the table's CHECKs anew.
CREATE FUNCTION budget_mark(
    p_at TIMESTAMPTZ, p_id UUID[], p_kind TEXT[], p_state TEXT[], p_held BIGINT[], p_over BIGINT[], p_late BOOLEAN[], p_tokens BIGINT[], p_flagged BOOLEAN[]
) RETURNS VOID LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    UPDATE budget_requests r SET state = u.state, reserved_tokens = u.held, overrun_tokens = u.over, late = u.late,
            actual_tokens = CASE u.state WHEN 'committed' THEN u.tokens END, flagged = u.state = 'committed' AND u.flagged,
            settled_at = CASE WHEN u.state <> 'reserved' THEN p_at END
        FROM unnest(p_id, p_kind, p_state, p_held, p_over, p_late, p_tokens, p_flagged) u(id, kind, state, held, over, late, tokens, flagged)
        WHERE r.id = u.id AND u.kind IS NOT NULL;
END;
$$;

-- budget_settle does settlements, one after the other. No two have the same
-- key. Actions: commit, release, top_up, expire (the ledger's own). Outcomes:
-- done, no_room, already_committed, already_released, expired, denied, not_found.
-- The answers are in no order.
CREATE FUNCTION budget_settle(
    p_tenant TEXT, p_at TIMESTAMPTZ, p_origin TEXT[], p_request TEXT[], p_attempt INTEGER[],
    p_action TEXT[], p_tokens BIGINT[], p_flagged BOOLEAN[], p_project TEXT[], p_sidecar TEXT[]
) RETURNS SETOF budget_answer LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    present CONSTANT TIMESTAMPTZ := coalesce(p_at, now());
    items   CONSTANT INTEGER     := cardinality(p_request);
    -- The requests, and what becomes of them.
    req_id      UUID[];
    req_state   TEXT[]; -- '' where there is none
    req_project TEXT[];
    req_held    BIGINT[];
    req_over    BIGINT[];
    req_mine    BOOLEAN[]; -- the sender's; of those that are not there, whether the sender is known
    req_late    BOOLEAN[] := array_fill(false, ARRAY[items]);
    outcomes    TEXT[] := array_fill('done'::text, ARRAY[items]);
    kinds       TEXT[] := array_fill(NULL::text, ARRAY[items]);
    -- The rows that any of them is held in, in the order of their ids.
    row_id       UUID[];
    row_limit    UUID[];
    row_tokens   BIGINT[];
    row_used     BIGINT[];
    row_reserved BIGINT[];
    row_over     BIGINT[];
    -- Which of them one is held in: row_ref[ref_from[i]] to [ref_to[i]], and what
    -- happened there.
    row_ref     INTEGER[];
    ref_of      INTEGER[];
    ref_from    INTEGER[] := array_fill(2147483647, ARRAY[items]);
    ref_to      INTEGER[] := array_fill(0, ARRAY[items]);
    used_by     BIGINT[];
    reserved_by BIGINT[];
    over_by     BIGINT[];
    freed   BIGINT; -- back from reserved
    charged BIGINT; -- to used, out of freed
    refund  BIGINT; -- back from used
    excess  BIGINT; -- takes the room there is; the rest is overrun
    grown   BIGINT; -- to reserved, if all rows have the room
    room    BIGINT;
    this    INTEGER;
BEGIN
    PERFORM budget_turn(p_tenant);

    SELECT array_agg(r.id ORDER BY u.n), array_agg(coalesce(r.state, '') ORDER BY u.n), array_agg(r.project_id ORDER BY u.n),
           array_agg(coalesce(r.reserved_tokens, 0) ORDER BY u.n), array_agg(coalesce(r.overrun_tokens, 0) ORDER BY u.n),
           array_agg(CASE
               WHEN u.action = 'expire' THEN true
               WHEN u.origin = 'inline' THEN s.id = coalesce(r.sidecar_id, s.id)
               ELSE u.project = '' OR r.project_id = u.project END ORDER BY u.n)
        INTO req_id, req_state, req_project, req_held, req_over, req_mine
        FROM unnest(p_origin, p_request, p_attempt, p_action, p_project, p_sidecar) WITH ORDINALITY u(origin, request, attempt, action, project, sidecar, n)
        LEFT JOIN LATERAL (
            SELECT * FROM budget_requests WHERE tenant_id = p_tenant AND origin = u.origin AND request_id = u.request AND attempt = u.attempt LIMIT 1
        ) r ON true
        LEFT JOIN LATERAL (SELECT id FROM sidecars WHERE id = nullif(u.sidecar, '')::uuid LIMIT 1) s ON true;
    row_id := ARRAY(
        SELECT DISTINCT b.id FROM unnest(req_id) u(id) CROSS JOIN LATERAL (SELECT budgets FROM budget_requests WHERE id = u.id LIMIT 1) r CROSS JOIN unnest(r.budgets) b(id));
    SELECT array_agg(l.id ORDER BY l.id), array_agg(l.limit_id ORDER BY l.id), array_agg(l.limit_tokens ORDER BY l.id), array_agg(l.used ORDER BY l.id),
           array_agg(l.reserved ORDER BY l.id), array_agg(l.overrun ORDER BY l.id)
        INTO row_id, row_limit, row_tokens, row_used, row_reserved, row_over
        FROM (SELECT * FROM budget_limits WHERE id = ANY (row_id) ORDER BY id FOR UPDATE) l;
    SELECT array_agg(u.n ORDER BY u.n, l.place), array_agg(l.place ORDER BY u.n, l.place) INTO ref_of, row_ref
        FROM unnest(req_id) WITH ORDINALITY u(id, n)
        CROSS JOIN LATERAL (SELECT budgets FROM budget_requests WHERE id = u.id LIMIT 1) r CROSS JOIN unnest(r.budgets) b(id)
        JOIN unnest(row_id) WITH ORDINALITY l(id, place) ON l.id = b.id;
    FOR f IN 1 .. coalesce(cardinality(row_ref), 0) LOOP
        ref_to[ref_of[f]] := f;
        ref_from[ref_of[f]] := least(ref_from[ref_of[f]], f);
    END LOOP;
    used_by := array_fill(0::bigint, ARRAY[coalesce(cardinality(row_ref), 0)]);
    reserved_by := used_by;
    over_by := used_by;

    FOR i IN 1 .. items LOOP
        IF req_mine[i] IS NOT TRUE OR req_state[i] = '' AND NOT (p_action[i] = 'release' AND p_origin[i] = 'inline') THEN
            outcomes[i] := 'not_found';
            CONTINUE;
        ELSIF req_state[i] = '' THEN
            kinds[i] := 'void';
            CONTINUE;
        END IF;
        freed := 0;
        charged := 0;
        refund := 0;
        excess := 0;
        grown := 0;
        CASE p_action[i] || ' ' || req_state[i]
            WHEN 'commit reserved' THEN
                kinds[i] := 'commit';
                freed := req_held[i];
                charged := least(p_tokens[i], req_held[i]);
                excess := greatest(0, p_tokens[i] - req_held[i]);
            WHEN 'commit expired' THEN
                kinds[i] := 'commit';
                excess := p_tokens[i];
            WHEN 'commit expired_charged' THEN
                kinds[i] := 'correct';
                refund := greatest(0, req_held[i] - p_tokens[i]);
                excess := greatest(0, p_tokens[i] - req_held[i]);
            WHEN 'release reserved' THEN
                kinds[i] := 'release';
                freed := req_held[i];
            WHEN 'release expired_charged' THEN
                kinds[i] := 'correct';
                refund := req_held[i];
            WHEN 'top_up reserved' THEN
                grown := greatest(0, p_tokens[i] - req_held[i]);
                kinds[i] := CASE WHEN grown > 0 THEN 'top_up' END;
            WHEN 'expire reserved' THEN
                kinds[i] := 'expire';
                freed := req_held[i];
                charged := CASE p_origin[i] WHEN 'inline' THEN req_held[i] ELSE 0 END;
            ELSE
                outcomes[i] := CASE req_state[i] WHEN 'committed' THEN 'already_committed' WHEN 'released' THEN 'already_released'
                    WHEN 'void' THEN 'already_released' WHEN 'denied' THEN 'denied' ELSE 'expired' END;
        END CASE;
        CONTINUE WHEN kinds[i] IS NULL;
        FOR f IN ref_from[i] .. ref_to[i] LOOP
            this := row_ref[f];
            IF row_tokens[this] - row_used[this] - row_reserved[this] < grown AND grown > 0 THEN
                outcomes[i] := 'no_room';
                kinds[i] := NULL;
            END IF;
        END LOOP;
        CONTINUE WHEN kinds[i] IS NULL;
        req_late[i] := req_state[i] IN ('expired', 'expired_charged');
        req_state[i] := CASE WHEN p_action[i] = 'commit' THEN 'committed' WHEN p_action[i] = 'release' THEN 'released' WHEN p_action[i] = 'top_up' THEN 'reserved'
            WHEN p_origin[i] = 'inline' THEN 'expired_charged' ELSE 'expired' END;
        req_held[i] := req_held[i] + grown;
        FOR f IN ref_from[i] .. ref_to[i] LOOP
            this := row_ref[f];
            row_reserved[this] := row_reserved[this] - freed + grown;
            row_used[this] := row_used[this] + charged - refund;
            -- INVARIANT: the excess takes no more than the room below the limit, and
            -- nothing else adds to used + reserved than a top-up that had the room.
            room := least(excess, greatest(0, row_tokens[this] - row_used[this] - row_reserved[this]));
            row_used[this] := row_used[this] + room;
            row_over[this] := row_over[this] + excess - room;
            reserved_by[f] := grown - freed;
            used_by[f] := charged - refund + room;
            over_by[f] := excess - room;
            req_over[i] := greatest(req_over[i], excess - room);
        END LOOP;
    END LOOP;

    FOR k IN 1 .. coalesce(cardinality(row_id), 0) LOOP
        UPDATE budget_limits SET used = row_used[k], reserved = row_reserved[k], overrun = row_over[k], ceiling = greatest(limit_tokens, row_used[k] + row_reserved[k])
            WHERE id = row_id[k] AND (used, reserved, overrun) <> (row_used[k], row_reserved[k], row_over[k]);
    END LOOP;
    INSERT INTO budget_transactions (tenant_id, project_id, budget_id, limit_id, origin, request_id, attempt, kind, used_delta, reserved_delta, overrun_delta, late, at)
        SELECT p_tenant, u.project, row_id[row_ref[f]], row_limit[row_ref[f]], u.origin, u.request, u.attempt, u.kind, used_by[f], reserved_by[f], over_by[f], u.late, present
        FROM unnest(kinds, ref_from, ref_to, req_late, req_project, p_origin, p_request, p_attempt)
            WITH ORDINALITY u(kind, first, last, late, project, origin, request, attempt, n)
        CROSS JOIN LATERAL generate_series(u.first, u.last) f
        WHERE u.kind IS NOT NULL ORDER BY u.n, f;
    PERFORM budget_mark(present, req_id, kinds, req_state, req_held, req_over, req_late, p_tokens, p_flagged);
    INSERT INTO budget_requests (tenant_id, origin, request_id, attempt, state, sidecar_id, created_at, settled_at)
        SELECT p_tenant, u.origin, u.request, u.attempt, 'void', u.sidecar::uuid, present, present
        FROM unnest(kinds, p_origin, p_request, p_attempt, p_sidecar) u(kind, origin, request, attempt, sidecar) WHERE u.kind = 'void';

    RETURN QUERY
    SELECT u.n::integer, u.outcome, r.project_id, r.state, r.reserved_tokens, r.actual_tokens, r.overrun_tokens, r.late, r.flagged, r.denial,
           r.created_at, r.expires_at, r.settled_at
    FROM unnest(p_origin, p_request, p_attempt, outcomes) WITH ORDINALITY u(origin, request, attempt, outcome, n)
    LEFT JOIN LATERAL (
        SELECT * FROM budget_requests WHERE tenant_id = p_tenant AND origin = u.origin AND request_id = u.request AND attempt = u.attempt AND u.outcome <> 'not_found' LIMIT 1
    ) r ON true;
END;
$$;

-- budget_sweep ends holds whose time is over, or, with a sidecar, those of its
-- processes with an incarnation below p_below; at most p_max, the oldest first.
-- It returns how many.
CREATE FUNCTION budget_sweep(p_at TIMESTAMPTZ, p_sidecar UUID, p_below BIGINT, p_max INTEGER) RETURNS INTEGER LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    present CONSTANT TIMESTAMPTZ := coalesce(p_at, now());
    due   RECORD;
    ended INTEGER := 0;
BEGIN
    -- What another call ended meanwhile is left alone by budget_settle.
    FOR due IN
        SELECT d.tenant_id, array_agg(d.origin) AS origin, array_agg(d.request_id) AS request, array_agg(d.attempt) AS attempt, count(*)::integer AS many
        FROM (
            SELECT * FROM budget_requests r
            WHERE r.state = 'reserved' AND CASE WHEN p_sidecar IS NULL THEN r.expires_at <= present ELSE r.sidecar_id = p_sidecar AND coalesce(r.incarnation, 0) < p_below END
            ORDER BY r.expires_at LIMIT p_max
        ) d GROUP BY d.tenant_id ORDER BY d.tenant_id
    LOOP
        ended := ended + (SELECT count(*) FROM budget_settle(due.tenant_id, present, due.origin, due.request, due.attempt, array_fill('expire'::text, ARRAY[due.many]),
            array_fill(0::bigint, ARRAY[due.many]), array_fill(false, ARRAY[due.many]), array_fill(''::text, ARRAY[due.many]), array_fill(''::text, ARRAY[due.many])) a
            WHERE a.outcome = 'done');
    END LOOP;
    RETURN ended;
END;
$$;

-- budget_create_limit makes a limit and its first row. SQLSTATE 23505: the scope
-- has one for the window.
CREATE FUNCTION budget_create_limit(p_tenant TEXT, p_at TIMESTAMPTZ, p_project TEXT, p_window TEXT, p_zone TEXT, p_tokens BIGINT)
RETURNS budget_limits LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    present CONSTANT TIMESTAMPTZ := coalesce(p_at, now());
    made budget_limits;
    p    RECORD;
BEGIN
    PERFORM budget_turn(p_tenant);
    IF EXISTS (SELECT FROM budget_current(p_tenant, ARRAY[p_project]) c WHERE c.window_kind = p_window) THEN
        RAISE EXCEPTION 'the scope has a limit for this window' USING ERRCODE = 'unique_violation', CONSTRAINT = 'budget_limits_open';
    END IF;
    p := budget_period(p_window, p_zone, present);
    INSERT INTO budget_limits (tenant_id, project_id, window_kind, time_zone, period_start, period_end, limit_tokens, ceiling, created_at, updated_at)
        VALUES (p_tenant, nullif(p_project, ''), p_window, p_zone, p.starts, p.ends, p_tokens, p_tokens, present, present)
        RETURNING * INTO made;
    INSERT INTO budget_transactions (tenant_id, project_id, budget_id, limit_id, origin, kind, limit_tokens, at)
        VALUES (p_tenant, made.project_id, made.id, made.limit_id, 'admin', 'limit', p_tokens, present);
    RETURN made;
END;
$$;

-- budget_open_limit returns the row of the present period of an open limit, held
-- for a change. The version of 0 is any. SQLSTATE P0002: there is no such limit;
-- GH003: it has another version.
CREATE FUNCTION budget_open_limit(p_tenant TEXT, p_at TIMESTAMPTZ, p_limit UUID, p_version BIGINT)
RETURNS budget_limits LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    found budget_limits;
BEGIN
    PERFORM budget_turn(p_tenant);
    PERFORM budget_roll(p_tenant, ARRAY(SELECT DISTINCT coalesce(project_id, '') FROM budget_limits WHERE tenant_id = p_tenant AND limit_id = p_limit), p_at);
    SELECT * INTO found FROM budget_limits WHERE tenant_id = p_tenant AND limit_id = p_limit AND closed_at IS NULL ORDER BY period_start DESC LIMIT 1 FOR UPDATE;
    IF found.id IS NULL THEN
        RAISE EXCEPTION 'there is no such limit' USING ERRCODE = 'no_data_found';
    ELSIF p_version <> 0 AND p_version <> found.version THEN
        RAISE EXCEPTION 'the limit has version %', found.version USING ERRCODE = 'GH003';
    END IF;
    RETURN found;
END;
$$;

-- budget_set_limit changes how many tokens a limit allows, in its present period
-- and those to come. After a cut the ceiling stays at what is used and reserved.
CREATE FUNCTION budget_set_limit(p_tenant TEXT, p_at TIMESTAMPTZ, p_limit UUID, p_version BIGINT, p_tokens BIGINT)
RETURNS budget_limits LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    present CONSTANT TIMESTAMPTZ := coalesce(p_at, now());
    l budget_limits := budget_open_limit(p_tenant, present, p_limit, p_version);
BEGIN
    UPDATE budget_limits SET limit_tokens = p_tokens, ceiling = greatest(p_tokens, used + reserved), version = version + 1, updated_at = present
        WHERE id = l.id RETURNING * INTO l;
    INSERT INTO budget_transactions (tenant_id, project_id, budget_id, limit_id, origin, kind, limit_tokens, at)
        VALUES (p_tenant, l.project_id, l.id, l.limit_id, 'admin', 'limit', p_tokens, present);
    RETURN l;
END;
$$;

-- budget_close_limit closes a limit, with the rows of all its periods.
CREATE FUNCTION budget_close_limit(p_tenant TEXT, p_at TIMESTAMPTZ, p_limit UUID, p_version BIGINT)
RETURNS budget_limits LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    present CONSTANT TIMESTAMPTZ := coalesce(p_at, now());
    l budget_limits := budget_open_limit(p_tenant, present, p_limit, p_version);
BEGIN
    UPDATE budget_limits SET closed_at = present, updated_at = present, version = l.version + 1
        WHERE tenant_id = p_tenant AND limit_id = p_limit AND closed_at IS NULL;
    INSERT INTO budget_transactions (tenant_id, project_id, budget_id, limit_id, origin, kind, limit_tokens, at)
        VALUES (p_tenant, l.project_id, l.id, l.limit_id, 'admin', 'close', l.limit_tokens, present);
    RETURN l;
END;
$$;

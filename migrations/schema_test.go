package migrations_test

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"gatehouse/internal/pgtest"
)

// list are the values of a query's one column.
func list(t *testing.T, conn *pgx.Conn, sql string) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql)
	noError(t, err)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	noError(t, err)
	return out
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// refused makes sure that a statement ends with an SQLSTATE.
func refused(t *testing.T, conn *pgx.Conn, code, sql string, args ...any) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql, args...)
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != code {
		t.Errorf("%s: got %v, want SQLSTATE %s", sql, err, code)
	}
}

// SQLSTATEs that tests look for.
const (
	uniqueViolation  = "23505"
	foreignViolation = "23503"
	checkViolation   = "23514"
	notNull          = "23502"
	noPrivilege      = "42501"
)

func TestNames(t *testing.T) {
	t.Parallel()
	conn := connected(t, pgtest.URL(t))
	tables := strings.Fields(`agents audit_log budget_limits budget_requests budget_transactions circuit_breaker_state clients
		decisions dlq_messages escalations inbox learning_governance learning_history live_epoch login_attempts outbox
		policy_activations policy_revisions policy_sets projects refresh_tokens revocations schema_migrations sidecar_breakers sidecars
		signing_keys tasks tenants users`)
	if diff := cmp.Diff(tables, list(t, conn, `SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1`)); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"governance_status", "learning_stats"}, list(t, conn, `SELECT viewname::text FROM pg_views WHERE schemaname = 'public' ORDER BY 1`)); diff != "" {
		t.Errorf("views (-want +got):\n%s", diff)
	}
	for table, columns := range map[string]string{
		"tasks": "id state metadata", "agents": "id role status", "dlq_messages": "retry_count", "learning_governance": "agent_role",
		"schema_migrations": "version checksum applied_at duration_ms", "budget_limits": "tenant_id project_id used reserved ceiling overrun",
	} {
		there := list(t, conn, `SELECT column_name::text FROM information_schema.columns WHERE table_schema = 'public' AND table_name = '`+table+`'`)
		for c := range strings.FieldsSeq(columns) {
			if !slices.Contains(there, c) {
				t.Errorf("%s has no column %s", table, c)
			}
		}
	}
}

// TestTenantsAreApart: what belongs to a tenant says so in an index that starts
// with it, and refers only to what belongs to the same one.
func TestTenantsAreApart(t *testing.T) {
	t.Parallel()
	conn := connected(t, pgtest.URL(t))
	owned := `SELECT c.oid FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace`
	bare := list(t, conn, `SELECT o.oid::regclass::text FROM (`+owned+`) o WHERE NOT EXISTS (
		SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum = i.indkey[0]
		WHERE i.indrelid = o.oid AND a.attname = 'tenant_id' AND a.attnotnull AND i.indpred IS NULL)`)
	if len(bare) > 0 {
		t.Errorf("without an index that starts with tenant_id: %v", bare)
	}
	crossing := list(t, conn, `SELECT f.conname::text FROM pg_constraint f
		WHERE f.contype = 'f' AND f.conrelid IN (`+owned+`) AND f.confrelid IN (`+owned+`) AND NOT EXISTS (
		SELECT FROM pg_attribute a WHERE a.attrelid = f.conrelid AND a.attnum = ANY (f.conkey) AND a.attname IN ('tenant_id', 'home_tenant')) ORDER BY 1`)
	allowed := []string{
		"budget_requests_sidecar_id_fkey", // a shared sidecar holds for other tenants
		"refresh_tokens_user_id_fkey",     // of a user of '*' too
	}
	if diff := cmp.Diff(allowed, crossing); diff != "" {
		t.Errorf("references that may cross tenants (-allowed +there):\n%s", diff)
	}
}

// tenants adds org1 and org2, each with proj1.
func tenants(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	exec(t, conn, `INSERT INTO tenants (id) VALUES ('org1'), ('org2')`)
	exec(t, conn, `INSERT INTO projects (tenant_id, id) VALUES ('org1', 'proj1'), ('org2', 'proj1'), ('org2', 'proj2')`)
}

func TestConstraints(t *testing.T) {
	t.Parallel()
	conn := connected(t, pgtest.URL(t))
	tenants(t, conn)
	exec(t, conn, `INSERT INTO agents (id, tenant_id, name, role) VALUES ('00000000-0000-0000-0000-000000000001', 'org1', 'a', 'developer')`)
	exec(t, conn, `INSERT INTO users (tenant_id, username, password_hash, role) VALUES ('*', 'admin', '$argon2id$x', 'admin')`)
	exec(t, conn, `INSERT INTO users (tenant_id, project_id, username, password_hash, role) VALUES ('org1', 'proj1', 'bob', '$argon2id$x', 'developer')`)
	exec(t, conn, `INSERT INTO circuit_breaker_state (name) VALUES ('redis')`)
	exec(t, conn, `INSERT INTO signing_keys (kid, purpose, state, public_key, private_key, activated_at) VALUES ('k1', 'token', 'active', sha256('k'), 'x', now())`)
	exec(t, conn, `INSERT INTO policy_sets (name) VALUES ('shipped')`)
	exec(t, conn, `INSERT INTO policy_revisions (policy_set, id, bundle, signature, kid, pushed_by) VALUES ('shipped', repeat('a', 64), 'x', sha512('x'), 'k1', 'admin')`)
	exec(t, conn, `INSERT INTO policy_activations (policy_set, generation, revision_id, kind, activated_by, signature, kid) VALUES ('shipped', 1, repeat('a', 64), 'activate', 'admin', decode(repeat('00', 64), 'hex'), 'k1')`)
	user := `INSERT INTO users (tenant_id, project_id, username, password_hash, role) VALUES `
	key := `INSERT INTO signing_keys (kid, purpose, state, public_key, private_key, activated_at, retiring_at, retired_at) VALUES `
	for _, tt := range []struct{ code, sql string }{
		{checkViolation, `INSERT INTO tenants (id) VALUES ('*')`},
		{checkViolation, `INSERT INTO tenants (id) VALUES ('any')`},
		{checkViolation, `UPDATE tenants SET status = 'suspended' WHERE id = 'org1'`},
		{foreignViolation, `DELETE FROM tenants WHERE id = 'org1'`},
		{foreignViolation, user + `('org3', NULL, 'x', '$argon2id$x', 'observer')`},
		{foreignViolation, user + `('org1', 'proj2', 'x', '$argon2id$x', 'observer')`},
		{checkViolation, user + `('*', NULL, 'x', '$argon2id$x', 'operator')`},
		{checkViolation, user + `('org1', NULL, 'x', 'secret', 'observer')`},
		{checkViolation, user + `('org1', NULL, 'x', '$argon2id$x', 'root')`},
		{checkViolation, user + `('org1', NULL, ' x', '$argon2id$x', 'observer')`},
		{uniqueViolation, user + `('org2', NULL, 'bob', '$argon2id$x', 'observer')`},
		{checkViolation, `UPDATE agents SET status = 'blocked'`},
		{checkViolation, `UPDATE agents SET metadata = '[]'`},
		{checkViolation, `UPDATE agents SET metadata = jsonb_build_object('x', repeat('x', 70000))`},
		{uniqueViolation, `INSERT INTO agents (tenant_id, name, role) VALUES ('org1', 'a', 'tester')`},
		{foreignViolation, `INSERT INTO tasks (tenant_id, agent_id, title, created_by) VALUES ('org2', '00000000-0000-0000-0000-000000000001', 'x', 'bob')`},
		{checkViolation, `INSERT INTO tasks (tenant_id, state, title, created_by) VALUES ('org1', 'lost', 'x', 'bob')`},
		{notNull, `INSERT INTO tasks (tenant_id, title) VALUES ('org1', 'x')`},
		{checkViolation, `INSERT INTO escalations (tenant_id, title, created_by, state) VALUES ('org1', 'x', 'bob', 'resolved')`},
		{checkViolation, `INSERT INTO dlq_messages (tenant_id, source, message_id, kind, payload, error_class, resolved) VALUES ('org1', 's', 'm', 'k', '', 'e', true)`},
		{checkViolation, `UPDATE circuit_breaker_state SET state = 'open'`},
		{checkViolation, `UPDATE circuit_breaker_state SET total_failures = 1`},
		{uniqueViolation, key + `('k2', 'token', 'active', sha256('k'), 'x', now(), NULL, NULL)`},
		{checkViolation, key + `('k2', 'token', 'retired', sha256('k'), 'x', now(), now(), now())`},
		{checkViolation, key + `('k2', 'token', 'retiring', sha256('k'), 'x', now(), NULL, NULL)`},
		{checkViolation, key + `('k2', 'token', 'next', 'short', 'x', NULL, NULL, NULL)`},
		{noPrivilege, `UPDATE policy_revisions SET bundle = 'y'`},
		{noPrivilege, `UPDATE policy_activations SET kind = 'rollback'`},
		{noPrivilege, `DELETE FROM policy_activations`},
		{foreignViolation, `INSERT INTO policy_activations (policy_set, generation, revision_id, kind, activated_by, signature, kid) VALUES ('shipped', 2, repeat('b', 64), 'activate', 'admin', decode(repeat('00', 64), 'hex'), 'k1')`},
		{uniqueViolation, `INSERT INTO policy_activations (policy_set, generation, revision_id, kind, activated_by, signature, kid) VALUES ('shipped', 1, repeat('a', 64), 'rollback', 'admin', decode(repeat('00', 64), 'hex'), 'k1')`},
		{checkViolation, `INSERT INTO revocations (tenant_id, kind, subject, epoch, created_by, expires_at) VALUES ('org1', 'subject', 'bob', 1, 'admin', now())`},
		{checkViolation, `INSERT INTO login_attempts (account_hash, pending_until) VALUES ('bob', now())`},
		{checkViolation, `INSERT INTO budget_requests (tenant_id, origin, request_id, state) VALUES ('org1', 'inline', 'r', 'void')`},
		{checkViolation, `INSERT INTO budget_requests (tenant_id, origin, request_id, state, settled_at) VALUES ('org1', 'api', 'r', 'denied', now())`},
		{checkViolation, `INSERT INTO budget_requests (tenant_id, origin, request_id, state) VALUES ('org1', 'api', 'r', 'reserved')`},
		{uniqueViolation, `INSERT INTO live_epoch (epoch) VALUES (1)`},
		{checkViolation, `INSERT INTO outbox (tenant_id, kind, payload) VALUES ('org1', 'nonsense', '{}')`},
	} {
		refused(t, conn, tt.code, tt.sql)
	}
}

func TestVersionsRise(t *testing.T) {
	t.Parallel()
	conn := connected(t, pgtest.URL(t))
	tenants(t, conn)
	exec(t, conn, `UPDATE tenants SET name = 'One', version = 99, updated_at = 'epoch' WHERE id = 'org1'`)
	if v := value[int64](t, conn, `SELECT version FROM tenants WHERE id = 'org1' AND updated_at > now() - interval '1 minute'`); v != 2 {
		t.Errorf("version %d, want 2", v)
	}
}

// TestEpochsFollowCommits: a second change waits for the first, so that nobody
// sees a later epoch without the earlier one.
func TestEpochsFollowCommits(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	a, b := connected(t, url), connected(t, url)
	exec(t, a, `BEGIN`)
	if e := value[int64](t, a, `SELECT next_live_epoch()`); e != 1 {
		t.Errorf("the first epoch is %d", e)
	}
	exec(t, b, `SET lock_timeout = '50ms'`)
	refused(t, b, "55P03", `SELECT next_live_epoch()`)
	exec(t, a, `ROLLBACK`)
	if e := value[int64](t, b, `SELECT next_live_epoch()`); e != 1 {
		t.Errorf("after a rollback the epoch is %d, want 1", e)
	}
}

func TestBudgetWall(t *testing.T) {
	t.Parallel()
	conn := connected(t, pgtest.URL(t))
	tenants(t, conn)
	limit := `INSERT INTO budget_limits (tenant_id, project_id, window_kind, period_start, period_end, limit_tokens, ceiling) VALUES `
	exec(t, conn, limit+`('org1', 'proj1', 'day', '2026-01-01', '2026-01-02', 100, 100), ('org1', NULL, 'total', '2026-01-01', NULL, 1000, 1000)`)
	exec(t, conn, `UPDATE budget_limits SET used = 60, reserved = 40 WHERE window_kind = 'day'`)
	for _, set := range []string{`reserved = 41`, `used = 61`, `ceiling = 99`, `limit_tokens = 101`, `used = -1, reserved = 0`, `overrun = -1`, `period_end = NULL`} {
		refused(t, conn, checkViolation, `UPDATE budget_limits SET `+set+` WHERE window_kind = 'day'`)
	}
	exec(t, conn, `UPDATE budget_limits SET limit_tokens = 10 WHERE window_kind = 'day'`) // a cut leaves the ceiling
	refused(t, conn, uniqueViolation, limit+`('org1', 'proj1', 'day', '2026-01-01', '2026-01-02', 5, 5)`)
	refused(t, conn, foreignViolation, limit+`('org1', 'proj2', 'day', '2026-01-01', '2026-01-02', 5, 5)`)
	exec(t, conn, `UPDATE budget_limits SET closed_at = now() WHERE window_kind = 'day'`)
	exec(t, conn, limit+`('org1', 'proj1', 'day', '2026-01-01', '2026-01-02', 5, 5)`) // a closed one makes room
	exec(t, conn, `INSERT INTO budget_transactions (tenant_id, budget_id, limit_id, origin, request_id, kind) VALUES ('org1', gen_random_uuid(), gen_random_uuid(), 'api', 'r', 'reserve')`)
	for _, sql := range []string{`UPDATE budget_transactions SET used_delta = 1`, `DELETE FROM budget_transactions`, `TRUNCATE budget_transactions`} {
		refused(t, conn, noPrivilege, sql)
	}
}

// TestRollbacks runs the rollback that each file names, the last file's first,
// and finds nothing left.
func TestRollbacks(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	conn := connected(t, url)
	comment := regexp.MustCompile(`(?s)-- Rollback[^\n]*:\n((?:--   [^\n]*\n)+)`)
	for _, m := range slices.Backward(shipped(t)) {
		found := comment.FindStringSubmatch(m.SQL)
		if found == nil {
			t.Fatalf("%s names no rollback", m.Name)
		}
		exec(t, conn, strings.ReplaceAll(found[1], "--   ", ""))
	}
	left := list(t, conn, `SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'S')
		UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1`)
	if diff := cmp.Diff([]string{"schema_migrations"}, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	exec(t, conn, `TRUNCATE schema_migrations`)
	up(t, shipped(t), url)
}

// TestOldDataFindsItsTenants: a database that was filled before 004 keeps what
// it has.
func TestOldDataFindsItsTenants(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	up(t, shipped(t)[:3], url)
	conn := connected(t, url)
	exec(t, conn, `INSERT INTO tasks (tenant_id, project_id, title, created_by) VALUES ('org1', 'proj1', 'x', 'bob')`)
	exec(t, conn, `INSERT INTO users (tenant_id, username, password_hash, role) VALUES ('*', 'admin', '$argon2id$x', 'admin')`)
	up(t, shipped(t), url)
	if got := list(t, conn, `SELECT tenant_id || '/' || id FROM projects`); !slices.Equal(got, []string{"org1/proj1"}) {
		t.Errorf("projects: %v", got)
	}
}

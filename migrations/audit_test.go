package migrations_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/pgtest"
)

const appendAudit = `SELECT append_audit('org1', 'user', 'alice', 'users.create', 'user', 'bob', 'success', 'r1', '{"role": "observer"}')`

// application makes a role as the control service has, and a connection that
// is it. Roles are the server's, not the database's.
func application(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn := connected(t, url)
	role := "app_" + value[string](t, conn, `SELECT current_database()::text`)
	exec(t, conn, `CREATE ROLE `+role+` NOLOGIN`)
	exec(t, conn, `SELECT grant_application($1)`, role)
	exec(t, conn, `SET ROLE `+role)
	return conn
}

func TestAuditGrowsOnly(t *testing.T) {
	t.Parallel()
	conn := connected(t, pgtest.URL(t))
	first := value[int64](t, conn, appendAudit)
	if second := value[int64](t, conn, appendAudit); second <= first {
		t.Errorf("seq %d comes after %d", second, first)
	}
	for _, mode := range []string{"origin", "replica"} { // replica switches ordinary triggers off
		exec(t, conn, `SET session_replication_role = `+mode)
		for _, sql := range []string{`UPDATE audit_log SET actor = 'mallory'`, `DELETE FROM audit_log`, `TRUNCATE audit_log`} {
			refused(t, conn, noPrivilege, sql)
		}
		// Nobody chooses place and time.
		exec(t, conn, `INSERT INTO audit_log VALUES (1, 'epoch', '*', 'system', 'x', 'a.b', '', '', 'success', '', '{}')`)
	}
	if n := value[int64](t, conn, `SELECT count(*) FROM audit_log WHERE at > now() - interval '1 minute' AND seq BETWEEN 1 AND 4`); n != 4 {
		t.Errorf("%d rows have place and time of the server, want 4", n)
	}
}

func TestAuditGoesWithItsTransaction(t *testing.T) {
	t.Parallel()
	conn := connected(t, pgtest.URL(t))
	exec(t, conn, `BEGIN`)
	exec(t, conn, appendAudit)
	exec(t, conn, `ROLLBACK`)
	if n := value[int64](t, conn, `SELECT count(*) FROM audit_log`); n != 0 {
		t.Errorf("%d rows of a change that did not come about", n)
	}
	refused(t, conn, checkViolation, `SELECT append_audit('org1', 'nobody', 'x', 'a.b', '', '', 'success', '', '{}')`)
	refused(t, conn, checkViolation, `SELECT append_audit('org1', 'user', 'x', 'nonsense', '', '', 'success', '', '{}')`)
	refused(t, conn, notNull, `SELECT append_audit(NULL, 'user', 'x', 'a.b', '', '', 'success', '', '{}')`)
}

func TestApplicationRole(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	conn := application(t, url)
	exec(t, conn, appendAudit)
	tenants(t, conn)
	exec(t, conn, `SELECT next_live_epoch()`)
	exec(t, conn, `SELECT can_auto_update_prompt('developer')`)
	exec(t, conn, `INSERT INTO outbox (tenant_id, kind, payload) VALUES ('org1', 'task.changed', '{}')`)
	exec(t, conn, `SELECT * FROM governance_status, schema_migrations`)
	for _, sql := range []string{
		`INSERT INTO audit_log VALUES (1, 'epoch', '*', 'system', 'x', 'a.b', '', '', 'success', '', '{}')`,
		`UPDATE audit_log SET actor = 'mallory'`, `DELETE FROM audit_log`, `TRUNCATE audit_log`, `DROP TABLE audit_log`,
		`ALTER TABLE audit_log DISABLE TRIGGER ALL`, `SELECT nextval('audit_log_seq')`, `SET session_replication_role = replica`,
		`CREATE OR REPLACE FUNCTION append_audit(TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, JSONB) RETURNS BIGINT LANGUAGE sql AS 'SELECT 1::bigint'`,
		`UPDATE schema_migrations SET checksum = ''`, `DELETE FROM budget_transactions`, `DELETE FROM learning_history`,
		`CREATE TABLE mine ()`, `SELECT grant_application(current_user)`,
	} {
		refused(t, conn, noPrivilege, sql)
	}
	for _, sql := range []string{`INSERT INTO schema_migrations (version, checksum) VALUES ('900', '')`, `DELETE FROM schema_migrations`} {
		refused(t, conn, noPrivilege, sql)
	}
	// The triggers refuse these too; here it is the grants alone.
	if value[bool](t, conn, `SELECT has_table_privilege('audit_log', 'INSERT, UPDATE, DELETE, TRUNCATE')`) {
		t.Error("the role may write to audit_log directly")
	}
	other := connected(t, url)
	exec(t, other, `CREATE ROLE other_`+value[string](t, other, `SELECT current_database()::text`)+` NOLOGIN`)
	exec(t, other, `SET ROLE other_`+value[string](t, other, `SELECT current_database()::text`))
	refused(t, other, noPrivilege, appendAudit)
	refused(t, other, noPrivilege, `SELECT FROM users`)
}

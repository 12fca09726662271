package migrations_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gatehouse/internal/pgtest"
)

// learn adds an update of a role and returns its id.
func learn(t *testing.T, conn *pgx.Conn, role, state string) string {
	t.Helper()
	return value[string](t, conn, `INSERT INTO learning_history (tenant_id, agent_role, request_id, requested_by, state)
		VALUES ('org1', $1, gen_random_uuid()::text, 'alice', $2) RETURNING id::text`, role, state)
}

func may(t *testing.T, conn *pgx.Conn, role string) bool {
	t.Helper()
	return value[bool](t, conn, `SELECT can_auto_update_prompt($1)`, role)
}

// earlier moves the updates of a role back in time.
func earlier(t *testing.T, conn *pgx.Conn, role, by string) {
	t.Helper()
	exec(t, conn, `UPDATE learning_history SET requested_at = requested_at - $2::interval, reviewed_at = reviewed_at - $2::interval WHERE agent_role = $1`, role, by)
}

func TestDefaultRules(t *testing.T) {
	t.Parallel()
	conn := connected(t, pgtest.URL(t))
	got := list(t, conn, `SELECT format('%s %s/day %s approval=%s can=%s', agent_role, daily_limit, cooldown, requires_approval, can_auto_update) FROM governance_status ORDER BY agent_role`)
	want := []string{
		"architect 2/day 12:00:00 approval=t can=f", "developer 5/day 02:00:00 approval=f can=t", "reviewer 3/day 04:00:00 approval=f can=t",
		"security 1/day 24:00:00 approval=t can=f", "tester 5/day 02:00:00 approval=f can=t",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	for role, want := range map[string]bool{"developer": true, "tester": true, "reviewer": true, "security": false, "architect": false, "nobody": false, "": false} {
		if got := may(t, conn, role); got != want {
			t.Errorf("can_auto_update_prompt(%q): got %t", role, got)
		}
	}
}

func TestGovernanceBounds(t *testing.T) {
	t.Parallel()
	conn := connected(t, pgtest.URL(t))
	tenants(t, conn)
	step := func(what string, want bool) {
		t.Helper()
		if got := may(t, conn, "reviewer"); got != want {
			t.Errorf("%s: got %t", what, got)
		}
	}
	learn(t, conn, "developer", "applied")
	step("another role's update", true)
	learn(t, conn, "reviewer", "pending")
	learn(t, conn, "reviewer", "returned")
	step("what did not come about", true)
	learn(t, conn, "reviewer", "applied")
	step("within the cooldown", false)
	earlier(t, conn, "reviewer", "3 hours 59 minutes")
	step("still within it", false)
	earlier(t, conn, "reviewer", "2 minutes")
	step("after it", true)
	exec(t, conn, `UPDATE learning_governance SET cooldown = '0'`)
	learn(t, conn, "reviewer", "applied")
	step("the third of the day", true)
	learn(t, conn, "reviewer", "applied")
	step("beyond the day's limit", false)
	if got := value[string](t, conn, `SELECT format('%s %s %s', updates_today, remaining_today, refusal) FROM governance_status WHERE agent_role = 'reviewer'`); got != "3 0 daily_limit" {
		t.Errorf("governance_status: %s", got)
	}
	if got := value[string](t, conn, `SELECT format('%s %s %s %s', total, applied, pending, returned) FROM learning_stats WHERE agent_role = 'reviewer'`); got != "5 3 1 1" {
		t.Errorf("learning_stats: %s", got)
	}
	earlier(t, conn, "reviewer", "24 hours")
	step("a day later", true)
	exec(t, conn, `UPDATE learning_governance SET locked = true WHERE agent_role = 'reviewer'`)
	step("locked", false)
	exec(t, conn, `UPDATE learning_governance SET locked = false, requires_approval = true WHERE agent_role = 'reviewer'`)
	step("with approval", false)
	refused(t, conn, noPrivilege, `DELETE FROM learning_history`)
	refused(t, conn, noPrivilege, `TRUNCATE learning_history`)
}

// TestTwoAtOnceDoNotPassTheLimit: the second waits for the first, and then
// sees its update; after a rollback it sees none.
func TestTwoAtOnceDoNotPassTheLimit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		end  string
		want bool
	}{{"COMMIT", false}, {"ROLLBACK", true}} {
		t.Run(tt.end, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			a, b, watch := connected(t, url), connected(t, url), connected(t, url)
			tenants(t, a)
			exec(t, a, `UPDATE learning_governance SET cooldown = '0', daily_limit = 1`)
			exec(t, a, `BEGIN`)
			if !may(t, a, "developer") {
				t.Fatal("the first may not")
			}
			learn(t, a, "developer", "applied")
			exec(t, b, `BEGIN`)
			answer, failed := make(chan bool, 1), make(chan error, 1)
			go func() {
				var ok bool
				failed <- b.QueryRow(t.Context(), `SELECT can_auto_update_prompt('developer')`).Scan(&ok)
				answer <- ok
			}()
			eventually(t, watch, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`)
			exec(t, a, tt.end)
			noError(t, <-failed)
			if got := <-answer; got != tt.want {
				t.Errorf("after the first's %s the second may: %t", tt.end, got)
			}
		})
	}
}

func TestGovernanceIsolation(t *testing.T) {
	t.Parallel()
	conn := connected(t, pgtest.URL(t))
	tenants(t, conn)
	id := learn(t, conn, "security", "pending")
	for _, level := range []string{"REPEATABLE READ", "SERIALIZABLE"} {
		for _, sql := range []string{`SELECT can_auto_update_prompt('developer')`, `SELECT approve_prompt_update('` + id + `', 'bob', '')`} {
			exec(t, conn, `BEGIN ISOLATION LEVEL `+level)
			refused(t, conn, "25000", sql)
			exec(t, conn, `ROLLBACK`)
		}
	}
	exec(t, conn, `BEGIN READ ONLY`)
	if !may(t, conn, "developer") || may(t, conn, "security") {
		t.Error("a reader gets another answer")
	}
	exec(t, conn, `SELECT * FROM governance_status`)
	exec(t, conn, `COMMIT`)
}

func TestReviews(t *testing.T) {
	t.Parallel()
	conn := connected(t, pgtest.URL(t))
	tenants(t, conn)
	approve, reject := `SELECT approve_prompt_update($1, 'bob', 'good')`, `SELECT reject_prompt_update($1, 'bob', 'no')`
	first, second, third := learn(t, conn, "security", "pending"), learn(t, conn, "security", "pending"), learn(t, conn, "security", "pending")
	exec(t, conn, approve, first)
	if got := value[string](t, conn, `SELECT format('%s %s %s %s', state, reviewer, note, effective_at = reviewed_at) FROM learning_history WHERE id = $1`, first); got != "approved bob good t" {
		t.Errorf("approved: %s", got)
	}
	for _, sql := range []string{approve, reject} {
		refused(t, conn, "GH001", sql, first)
		refused(t, conn, "P0002", sql, "00000000-0000-0000-0000-000000000000")
	}
	refused(t, conn, "GH002", approve, second) // one a day
	exec(t, conn, reject, second)
	if got := value[time.Time](t, conn, `SELECT coalesce(effective_at, 'epoch') FROM learning_history WHERE id = $1`, second); got.Unix() != 0 {
		t.Errorf("a rejected update took effect at %s", got)
	}
	earlier(t, conn, "security", "25 hours")
	exec(t, conn, `UPDATE learning_governance SET locked = true`)
	refused(t, conn, "GH002", approve, third)
	exec(t, conn, `UPDATE learning_governance SET locked = false`)
	exec(t, conn, approve, third)
	refused(t, conn, checkViolation, `UPDATE learning_history SET state = 'approved', reviewer = NULL, reviewed_at = NULL`)
}

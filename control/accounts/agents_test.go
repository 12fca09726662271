package accounts_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
)

func (f fixture) agent(t *testing.T, name, tenant string) account.Agent {
	t.Helper()
	g, err := f.CreateAgent(t.Context(), admin(), account.Agent{Name: name, Tenant: tenant, Role: "developer"})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (f fixture) epoch(t *testing.T) string {
	t.Helper()
	return f.text(t, `SELECT epoch::text FROM live_epoch`)
}

func TestAgentIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	in := account.Agent{Name: "builder", Tenant: "org1", Project: "proj1", Role: "developer", Metadata: map[string]any{"team": "build"}}
	made, err := f.CreateAgent(t.Context(), admin(), in)
	if err != nil {
		t.Fatal(err)
	}
	want := in
	want.ID, want.Status, want.Version = made.ID, account.AgentActive, 1
	if diff := cmp.Diff(want, made, same()); diff != "" || made.CreatedAt.IsZero() || !made.BlockedAt.IsZero() {
		t.Errorf("made (-want +got):\n%s", diff)
	}
	got, err := f.Agent(t.Context(), "org1", made.ID)
	if diff := cmp.Diff(made, got); diff != "" || err != nil {
		t.Errorf("read again: %v (-want +got):\n%s", err, diff)
	}
	for _, tenant := range []string{"org2", ""} {
		_, err = f.Agent(t.Context(), tenant, made.ID)
		wantCode(t, "from tenant "+tenant, err, apierr.ResourceNotFound)
	}
	_, err = f.Agent(t.Context(), "*", made.ID)
	wantCode(t, "from all tenants", err, "")
	if got := f.text(t, `SELECT action || ' ' || target FROM audit_log WHERE target_kind = 'agent'`); got != "agent.create "+made.ID {
		t.Errorf("audit: %s", got)
	}
}

func TestAgentIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.agent(t, "builder", "org1")
	good := account.Agent{Name: "other", Tenant: "org1", Role: "developer"}
	for _, tt := range []struct {
		name   string
		change func(*account.Agent)
		code   apierr.Code
		body   string
	}{
		{"name taken", func(g *account.Agent) { g.Name = "builder" }, apierr.StateConflict, "already_exists"},
		{"unknown tenant", func(g *account.Agent) { g.Tenant = "org9" }, apierr.ValidationInvalid, "/tenant_id"},
		{"unknown project", func(g *account.Agent) { g.Project = "proj9" }, apierr.ValidationInvalid, "/project_id"},
		{"no role", func(g *account.Agent) { g.Role = "X" }, apierr.ValidationInvalid, "inconsistent"},
		{"too much to know", func(g *account.Agent) { g.Metadata = map[string]any{"a": strings.Repeat("x", 70_000)} }, apierr.ValidationInvalid, "inconsistent"},
	} {
		g := good
		tt.change(&g)
		_, err := f.CreateAgent(t.Context(), admin(), g)
		wantCode(t, tt.name, err, tt.code)
		wantBody(t, tt.name, err, tt.body)
	}
	f.agent(t, "builder", "org2")
	if n := f.text(t, `SELECT count(*)::text FROM agents`); n != "2" {
		t.Errorf("%s agents, want one of each tenant", n)
	}
}

func TestBlockAndUnblock(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	before, epoch := f.agent(t, "builder", "org1"), f.epoch(t)
	blocked := before
	blocked.BlockedReason = "runs wild"
	now, err := f.BlockAgent(t.Context(), admin(), blocked)
	if err != nil || now.Status != account.AgentBlocked || now.BlockedReason != "runs wild" || now.BlockedAt.IsZero() || now.Version != 2 {
		t.Fatalf("blocked: got %+v and %v", now, err)
	}
	if f.epoch(t) == epoch {
		t.Error("no sidecar is told")
	}
	_, err = f.BlockAgent(t.Context(), admin(), blocked)
	wantCode(t, "stale", err, apierr.StatePreconditionFailed)
	epoch, again := f.epoch(t), now
	again.BlockedReason = "another"
	again, err = f.BlockAgent(t.Context(), admin(), again)
	if diff := cmp.Diff(now, again); diff != "" || err != nil || f.epoch(t) != epoch {
		t.Errorf("blocked again: %v, epoch %s after %s (-want +got):\n%s", err, f.epoch(t), epoch, diff)
	}
	free, err := f.UnblockAgent(t.Context(), admin(), now)
	if err != nil || free.Status != account.AgentActive || free.BlockedReason != "" || !free.BlockedAt.IsZero() || f.epoch(t) == epoch {
		t.Errorf("unblocked: got %+v and %v", free, err)
	}
	if got := f.text(t, `SELECT string_agg(action, ' ' ORDER BY seq) FROM audit_log WHERE target_kind = 'agent'`); got != "agent.create agent.block agent.block agent.unblock" {
		t.Errorf("audit: %s", got)
	}
}

func TestBlockIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	g := f.agent(t, "builder", "org1")
	other := g
	other.Tenant = "org2"
	_, err := f.BlockAgent(t.Context(), admin(), other)
	wantCode(t, "another tenant's", err, apierr.ResourceNotFound)
	_, err = f.UnblockAgent(t.Context(), admin(), account.Agent{ID: "builder", Tenant: "org1"})
	wantCode(t, "no id", err, apierr.ResourceNotFound)
	if _, err := f.pool.Exec(t.Context(), `UPDATE agents SET status = 'retired'`); err != nil {
		t.Fatal(err)
	}
	g.Version = 0
	_, err = f.BlockAgent(t.Context(), admin(), g)
	wantBody(t, "retired", err, `"retired"`)
	_, err = f.UnblockAgent(t.Context(), admin(), g)
	wantBody(t, "retired", err, `"retired"`)
	if n := f.text(t, `SELECT count(*)::text FROM audit_log WHERE action IN ('agent.block', 'agent.unblock')`); n != "0" {
		t.Errorf("%s refused changes are audited", n)
	}
}

// TestBlockedAgentsAreBounded blocks at the bound, from several sides.
func TestBlockedAgentsAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const fill = `INSERT INTO agents (tenant_id, name, role, status, blocked_at)
		SELECT 'org1', 'b' || n, 'developer', 'blocked', now() FROM generate_series(1, 999) n`
	if _, err := f.pool.Exec(t.Context(), fill); err != nil {
		t.Fatal(err)
	}
	var agents []account.Agent
	for i := range 4 {
		agents = append(agents, f.agent(t, fmt.Sprint("a", i), "org1"))
	}
	// All have counted, or wait to, when the first of them can go on.
	held, err := f.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Rollback(context.Background()) }()
	if _, err := held.Exec(t.Context(), `SELECT FROM live_epoch FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	errs := make([]error, len(agents))
	var wg sync.WaitGroup
	for i, g := range agents {
		wg.Go(func() { _, errs[i] = f.BlockAgent(t.Context(), admin(), g) })
	}
	const waiting = `SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`
	for limit := time.Now().Add(time.Minute); f.text(t, waiting) != fmt.Sprint(len(agents)); {
		if time.Now().After(limit) {
			t.Fatal("a minute has passed before all wait")
		}
	}
	if err := held.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	blocked := slices.Index(errs, nil)
	if blocked < 0 {
		t.Fatalf("none is blocked: %v", errs)
	}
	for i, err := range errs {
		if i != blocked {
			wantBody(t, "above", err, `"too_many_blocked"`)
		}
	}
	_, err = f.BlockAgent(t.Context(), admin(), f.agent(t, "other", "org2"))
	wantCode(t, "another tenant's", err, "")
	free := agents[blocked]
	free.Version = 0
	_, err = f.UnblockAgent(t.Context(), admin(), free)
	wantCode(t, "unblock", err, "")
	_, err = f.BlockAgent(t.Context(), admin(), free)
	wantCode(t, "in its place", err, "")
}

func TestAgentPages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 5 {
		f.agent(t, fmt.Sprint("a", i), "org1")
		f.agent(t, fmt.Sprint("b", i), "org2")
	}
	for tenant, want := range map[string]int{"org1": 5, "org2": 5, "*": 10, "org9": 0} {
		var all []string
		for after, pages := "", 0; ; pages++ {
			p, err := f.Agents(t.Context(), tenant, after, 2)
			if err != nil || pages > want || len(p.Items) > 2 {
				t.Fatalf("%s: page %d has %d (%v)", tenant, pages, len(p.Items), err)
			}
			all = append(all, keys(p, func(g account.Agent) string { return g.ID })...)
			if after = p.Next; after == "" {
				break
			}
		}
		if len(all) != want || !slices.IsSorted(all) {
			t.Errorf("%s: got %v, want %d in order", tenant, all, want)
		}
	}
	_, err := f.Agents(t.Context(), "*", "not a position", 10)
	wantCode(t, "bad position", err, apierr.ValidationInvalid)
}

func TestGovernanceStatus(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const learned = `
INSERT INTO learning_history (tenant_id, agent_role, request_id, requested_by, state) VALUES
	('org1', 'developer', 'r1', 'x', 'applied'), ('org2', 'developer', 'r2', 'x', 'applied'), ('org1', 'security', 'r3', 'x', 'pending')`
	if _, err := f.pool.Exec(t.Context(), learned); err != nil {
		t.Fatal(err)
	}
	if _, err := f.pool.Exec(t.Context(), `UPDATE learning_governance SET locked = true, locked_reason = 'audit' WHERE agent_role = 'tester'`); err != nil {
		t.Fatal(err)
	}
	rules, err := f.GovernanceStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rules {
		got = append(got, fmt.Sprintln(r.AgentRole, r.DailyLimit, r.Cooldown, r.RequiresApproval, r.Locked, r.LockedReason,
			r.UpdatesToday, r.RemainingToday, r.Pending, r.Refusal, r.CanAutoUpdate, r.LastUpdateAt.IsZero(), r.NextUpdateAt.Sub(r.LastUpdateAt)))
	}
	want := []string{
		"architect 2 12h0m0s true false  0 2 0  false true 0s\n",
		"developer 5 2h0m0s false false  2 3 0 cooldown false false 2h0m0s\n",
		"reviewer 3 4h0m0s false false  0 3 0  true true 0s\n",
		"security 1 24h0m0s true false  0 1 1  false true 0s\n",
		"tester 5 2h0m0s false true audit 0 5 0 locked false true 0s\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

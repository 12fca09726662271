package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/control/breakers"
	"gatehouse/control/breakers/postgres"
	"gatehouse/internal/mesh"
	"gatehouse/internal/pgtest"
	"gatehouse/internal/request"
)

// fixture is a store over a database with the tenants org1 and org2, the policy
// sets main (of both), other (of org2) and common (by a shared sidecar of org2).
type fixture struct {
	*postgres.Store
	pool *pgxpool.Pool
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	pool := pgtest.New(t)
	f := fixture{newStore(pool), pool}
	f.exec(t, `INSERT INTO tenants (id) VALUES ('org1'), ('org2')`)
	f.exec(t, `INSERT INTO policy_sets (name) VALUES ('main'), ('other'), ('common')`)
	for n, s := range []struct {
		tenant, set string
		shared      bool
	}{{"org1", "main", false}, {"org1", "main", false}, {"org2", "main", false}, {"org2", "other", false}, {"org2", "common", true}} {
		f.exec(t, `INSERT INTO sidecars (id, tenant_id, name, policy_set, shared, credential_hash) VALUES ($1, $2, $3, $4, $5, sha256($3::text::bytea))`,
			sidecar(n), s.tenant, fmt.Sprint("s", n), s.set, s.shared)
	}
	return f
}

func newStore(pool *pgxpool.Pool) *postgres.Store {
	return postgres.New(pool, func(context.Context) string { return "req-1" })
}

func sidecar(n int) string { return fmt.Sprintf("00000000-0000-0000-0000-%012d", n+1) }

func (f fixture) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := f.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func (f fixture) text(t *testing.T, sql string, args ...any) (s string) {
	t.Helper()
	if err := f.pool.QueryRow(t.Context(), sql, args...).Scan(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// state is a breaker at a sidecar.
func state(name string, phase mesh.BreakerPhase) mesh.BreakerState {
	b := mesh.BreakerState{
		Name: name, Phase: phase, Consecutive: 5, Failures: 6, Calls: 20, CalledAt: noon(), Order: 3, Threshold: 5, Recovery: 30 * time.Second,
	}
	if phase != mesh.BreakerClosed {
		b.OpenedAt, b.NextProbe, b.Ordered = noon().Add(-time.Second), noon().Add(29*time.Second), true
	}
	return b
}

func of(set string, at time.Time, states ...mesh.BreakerState) mesh.BreakerReport {
	return mesh.BreakerReport{PolicySet: set, Incarnation: 7, At: at, Breakers: states}
}

// report reports, and wants no error.
func (f fixture) report(t *testing.T, reports map[string]mesh.BreakerReport) {
	t.Helper()
	if err := f.Report(t.Context(), reports); err != nil {
		t.Fatal(err)
	}
}

// reported is what a review would see.
func (f fixture) reported(t *testing.T, since time.Time) (got []mesh.BreakerReport) {
	t.Helper()
	err := f.Review(t.Context(), since, func(r []mesh.BreakerReport, _ []breakers.Standing) breakers.Outcome {
		got = r
		return breakers.Outcome{}
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// write keeps breakers of the mesh.
func (f fixture) write(t *testing.T, all ...breakers.Standing) {
	t.Helper()
	err := f.Review(t.Context(), noon(), func([]mesh.BreakerReport, []breakers.Standing) breakers.Outcome { return breakers.Outcome{Write: all} })
	if err != nil {
		t.Fatal(err)
	}
}

func standing(set, name string, phase mesh.BreakerPhase, reset, opened int64) breakers.Standing {
	s := breakers.Standing{Reset: reset, Opened: opened, Breaker: mesh.Breaker{
		PolicySet: set, Name: name, Phase: phase, Consecutive: 5, Failures: 6, Calls: 20, Threshold: 5, Recovery: 30 * time.Second,
		Called: 3, Open: 2, HalfOpen: 1, UpdatedAt: noon(),
	}}
	if phase == mesh.BreakerOpen {
		s.OpenedAt, s.NextProbe = noon().Add(-time.Second), noon().Add(29*time.Second)
	}
	return s
}

func TestReports(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	told := of("main", noon(), state("app", mesh.BreakerClosed), state("db", mesh.BreakerOpen))
	f.report(t, map[string]mesh.BreakerReport{
		sidecar(0): told, sidecar(8): told, "no-id": told, // the last two are nobody's
		sidecar(3): of("main", noon(), state("app", mesh.BreakerOpen)), // it follows another set by now
		sidecar(4): of("common", noon().Add(-time.Minute), state("app", mesh.BreakerOpen)),
	})
	if diff := cmp.Diff([]mesh.BreakerReport{told}, f.reported(t, noon().Add(-time.Second))); diff != "" {
		t.Errorf("reported (-want +got):\n%s", diff)
	}
	if got := f.reported(t, noon().Add(-time.Hour)); len(got) != 2 {
		t.Errorf("within an hour: %v", got)
	}
	f.exec(t, `UPDATE sidecars SET status = 'revoked' WHERE id = $1`, sidecar(0))
	if got := f.reported(t, noon().Add(-time.Second)); len(got) != 0 {
		t.Errorf("of a sidecar that is revoked: %v", got)
	}
	f.report(t, map[string]mesh.BreakerReport{sidecar(0): of("main", noon(), state("new", mesh.BreakerOpen))})
	if got := f.text(t, `SELECT breakers::text FROM sidecar_breakers WHERE sidecar_id = $1`, sidecar(0)); strings.Contains(got, "new") {
		t.Errorf("kept of a sidecar that is revoked: %s", got)
	}
}

// TestNewestReport: a process that is older than one that spoke lately is not
// heard.
func TestNewestReport(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i, tt := range []struct {
		incarnation int64
		after       time.Duration
		want        string
	}{
		{7, 0, "x0"}, {7, time.Second, "x1"}, {7, 0, "x1"}, {6, 3 * time.Second, "x1"}, {8, time.Second, "x4"},
		{7, 2 * time.Minute, "x4"}, {7, 2*time.Minute + 2*time.Second, "x6"},
	} {
		r := of("main", noon().Add(tt.after), state(fmt.Sprint("x", i), mesh.BreakerClosed))
		r.Incarnation = tt.incarnation
		f.report(t, map[string]mesh.BreakerReport{sidecar(0): r})
		if got := f.text(t, `SELECT breakers->0->>'name' FROM sidecar_breakers`); got != tt.want {
			t.Errorf("incarnation %d after %v: kept is %s, want %s", tt.incarnation, tt.after, got, tt.want)
		}
	}
}

func TestReportsAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	many := of("main", noon(), state("not a name", mesh.BreakerOpen))
	for i := range mesh.MaxBreakers + 10 {
		many.Breakers = append(many.Breakers, state(fmt.Sprint("x", i), mesh.BreakerClosed))
	}
	f.report(t, map[string]mesh.BreakerReport{sidecar(0): many})
	if got := f.reported(t, noon().Add(-time.Second)); len(got[0].Breakers) != mesh.MaxBreakers-1 {
		t.Errorf("%d breakers are kept", len(got[0].Breakers))
	}
	if troubled, err := f.Troubled(t.Context(), noon().Add(-time.Second)); troubled || err != nil {
		t.Errorf("troubled by what can't be: %v, %v", troubled, err)
	}
}

func TestTroubled(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(t, `INSERT INTO circuit_breaker_state (name, state, opened_at) VALUES ('redis', 'open', now())`) // of control itself
	want := func(want bool, when string) {
		t.Helper()
		if got, err := f.Troubled(t.Context(), noon().Add(-15*time.Second)); got != want || err != nil {
			t.Errorf("%s: got %v and %v, want %v", when, got, err, want)
		}
	}
	f.report(t, map[string]mesh.BreakerReport{sidecar(0): of("main", noon(), state("app", mesh.BreakerClosed))})
	want(false, "all closed")
	f.report(t, map[string]mesh.BreakerReport{sidecar(1): of("main", noon(), state("app", mesh.BreakerHalfOpen))})
	want(true, "one half open")
	f.report(t, map[string]mesh.BreakerReport{sidecar(1): of("main", noon().Add(time.Second), state("app", mesh.BreakerClosed))})
	want(false, "it closed")
	f.report(t, map[string]mesh.BreakerReport{sidecar(2): of("main", noon().Add(-time.Minute), state("app", mesh.BreakerOpen))})
	want(false, "open a minute ago")
	f.write(t, standing("main", "app", mesh.BreakerOpen, 0, 3))
	want(true, "open in the mesh")
}

// same compares breakers but for what the database says of them.
func same() cmp.Option { return cmpopts.IgnoreFields(mesh.Breaker{}, "Version", "UpdatedAt") }

func TestStanding(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	all := []breakers.Standing{
		standing("main", "app", mesh.BreakerOpen, 0, 3), standing("main", "db", mesh.BreakerClosed, 0, 0), standing("other", "app", mesh.BreakerClosed, 5, 4),
	}
	f.write(t, all...)
	f.exec(t, `INSERT INTO circuit_breaker_state (name) VALUES ('redis')`) // of control itself
	again := newStore(f.pool)                                              // nothing is remembered but there
	var got []breakers.Standing
	err := again.Review(t.Context(), noon(), func(_ []mesh.BreakerReport, s []breakers.Standing) breakers.Outcome {
		got = s
		return breakers.Outcome{Drop: s[1:2]}
	})
	if diff := cmp.Diff(all, got, same()); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	orders, err := again.Orders(t.Context())
	want := map[string][]mesh.BreakerOrder{"main": {{Name: "app", Open: 3}}, "other": {{Name: "app", Reset: 5}}}
	if diff := cmp.Diff(want, orders); diff != "" || err != nil {
		t.Errorf("orders: %v (-want +got):\n%s", err, diff)
	}
	f.write(t, standing("main", "app", mesh.BreakerClosed, 0, 3))
	p, err := again.List(t.Context(), "*", mesh.BreakerFilter{PolicySet: "main"}, "", 10)
	if err != nil || len(p.Items) != 1 || p.Items[0].Phase != mesh.BreakerClosed || !p.Items[0].OpenedAt.IsZero() || p.Items[0].Version < 2 {
		t.Errorf("got %+v and %v, want app closed, and db gone", p, err)
	}
	const events = `SELECT string_agg(concat_ws(' ', kind, payload->>'policy_set', payload->>'name', payload->>'state', payload->>'sidecars_open'), ', ' ORDER BY id) FROM outbox`
	if got := f.text(t, events); got != "breaker.changed main app open 2, breaker.changed main app closed 2" {
		t.Errorf("events: %s", got)
	}
	if orders, err := again.Orders(t.Context()); err != nil || len(orders["main"]) != 0 {
		t.Errorf("orders that are over: %v and %v", orders, err)
	}
}

// TestWildFigures: what a table can't hold keeps nobody else's from being kept.
func TestWildFigures(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	wild := standing("main", "app", mesh.BreakerOpen, 0, 3)
	wild.Threshold, wild.Recovery = 1<<40, 1<<62
	none := standing("main", "db", mesh.BreakerOpen, 0, 3)
	none.Threshold, none.Recovery, none.NextProbe = 0, 0, time.Time{}
	f.write(t, wild, none)
	p, err := f.List(t.Context(), "*", mesh.BreakerFilter{}, "", 10)
	if err != nil || len(p.Items) != 2 || p.Items[0].Threshold != 1000 || p.Items[0].Recovery != 24*time.Hour || p.Items[1].Threshold != 1 {
		t.Errorf("got %+v and %v", p.Items, err)
	}
}

// TestListen: all replicas are told of orders, and of nothing that is counted.
func TestListen(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	conn, err := f.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), `LISTEN gatehouse_mesh`); err != nil {
		t.Fatal(err)
	}
	told := func() int {
		n := 0
		for {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			_, err := conn.Conn().WaitForNotification(ctx)
			cancel()
			if err != nil {
				return n
			}
			n++
		}
	}
	b := standing("main", "app", mesh.BreakerOpen, 0, 3)
	f.write(t, b)
	if n := told(); n != 1 {
		t.Errorf("told %d times of an order, want once", n)
	}
	b.Calls++
	f.write(t, b)
	f.report(t, map[string]mesh.BreakerReport{sidecar(0): of("main", noon(), state("app", mesh.BreakerOpen))})
	if n := told(); n != 0 {
		t.Errorf("told %d times of figures", n)
	}
	if _, err := f.Reset(t.Context(), root(), mesh.BreakerFilter{}, closing(9)); err != nil || told() != 1 {
		t.Errorf("not told of a reset: %v", err)
	}
}

func root() request.Principal {
	return request.Principal{Kind: request.KindToken, Subject: "root", Tenant: "*", Role: request.RoleAdmin}
}

// closing is a step that orders to close.
func closing(order int64) func(breakers.Standing) breakers.Standing {
	return func(s breakers.Standing) breakers.Standing {
		s.Reset, s.Phase, s.OpenedAt, s.NextProbe = order, mesh.BreakerClosed, time.Time{}, time.Time{}
		return s
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.write(t, standing("main", "app", mesh.BreakerOpen, 0, 3), standing("main", "db", mesh.BreakerClosed, 2, 1), standing("other", "app", mesh.BreakerOpen, 0, 4))
	f.exec(t, `TRUNCATE outbox`)
	for _, tt := range []struct {
		f     mesh.BreakerFilter
		order int64
		want  string
	}{
		{mesh.BreakerFilter{PolicySet: "main", Name: "app"}, 10, "main/app"},
		{mesh.BreakerFilter{PolicySet: "main", Name: "nobody"}, 11, ""},
		{mesh.BreakerFilter{PolicySet: "main"}, 12, "main/app main/db"},
		{mesh.BreakerFilter{}, 13, "main/app main/db other/app"},
		{mesh.BreakerFilter{PolicySet: "nobody"}, 14, ""},
	} {
		got, err := f.Reset(t.Context(), root(), tt.f, closing(tt.order))
		var names []string
		for _, b := range got {
			names = append(names, b.PolicySet+"/"+b.Name)
			if b.Phase != mesh.BreakerClosed || b.Version == 0 || !b.NextProbe.IsZero() {
				t.Errorf("%v: got %+v, want it closed", tt.f, b)
			}
		}
		if strings.Join(names, " ") != tt.want || err != nil {
			t.Errorf("%v: got %v and %v, want %s", tt.f, names, err, tt.want)
		}
	}
	const audit = `SELECT string_agg(concat_ws(' ', actor, action, target, details->>'breakers', request_id), ', ' ORDER BY seq) FROM audit_log`
	if got, want := f.text(t, audit), "root circuit_breaker.reset main/app req-1, root circuit_breaker.reset_all main 2 req-1, "+
		"root circuit_breaker.reset_all  3 req-1, root circuit_breaker.reset_all nobody 0 req-1"; got != want {
		t.Errorf("audited is\n%s\nwant\n%s", got, want)
	}
	if got := f.text(t, `SELECT string_agg(payload->>'policy_set' || ' ' || (payload->>'state'), ', ' ORDER BY id) FROM outbox`); got != "main closed, other closed" {
		t.Errorf("events: %s", got)
	}
	if got := f.text(t, `SELECT string_agg(reset_order::text, ' ' ORDER BY policy_set, name) FROM circuit_breaker_state`); got != "13 13 13" {
		t.Errorf("orders: %s", got)
	}
}

// TestListWithinATenant: of the sets that its sidecars follow, and those of
// sidecars that serve all.
func TestListWithinATenant(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.write(t, standing("main", "app", mesh.BreakerOpen, 0, 3), standing("main", "db", mesh.BreakerClosed, 0, 0),
		standing("other", "app", mesh.BreakerClosed, 0, 0), standing("common", "app", mesh.BreakerClosed, 0, 0))
	f.exec(t, `INSERT INTO circuit_breaker_state (name) VALUES ('redis')`) // of control itself
	for _, tt := range []struct {
		tenant string
		f      mesh.BreakerFilter
		want   string
	}{
		{"*", mesh.BreakerFilter{}, "common/app main/app main/db other/app"},
		{"org1", mesh.BreakerFilter{}, "common/app main/app main/db"},
		{"org2", mesh.BreakerFilter{}, "common/app main/app main/db other/app"},
		{"org3", mesh.BreakerFilter{}, "common/app"},
		{"org1", mesh.BreakerFilter{PolicySet: "other"}, ""},
		{"org1", mesh.BreakerFilter{Name: "app"}, "common/app main/app"},
		{"*", mesh.BreakerFilter{Phase: mesh.BreakerOpen}, "main/app"},
		{"*", mesh.BreakerFilter{PolicySet: "main", Name: "db", Phase: mesh.BreakerClosed}, "main/db"},
	} {
		var names []string
		after := ""
		for range 10 {
			p, err := f.List(t.Context(), tt.tenant, tt.f, after, 1)
			if err != nil || len(p.Items) > 1 {
				t.Fatalf("%v of %s: %v and %v", tt.f, tt.tenant, p, err)
			}
			for _, b := range p.Items {
				names = append(names, b.PolicySet+"/"+b.Name)
			}
			if after = p.Next; after == "" {
				break
			}
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("%v of %s: got %s, want %s", tt.f, tt.tenant, got, tt.want)
		}
	}
	f.exec(t, `UPDATE sidecars SET status = 'revoked' WHERE shared`)
	if p, err := f.List(t.Context(), "org1", mesh.BreakerFilter{PolicySet: "common"}, "", 10); err != nil || len(p.Items) != 0 {
		t.Errorf("of a sidecar that is revoked: %v and %v", p, err)
	}
}

// TestTurns: while one reviews, another does nothing, and a reset waits.
func TestTurns(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.write(t, standing("main", "app", mesh.BreakerOpen, 0, 3))
	reset := make(chan error, 1)
	err := f.Review(t.Context(), noon(), func(_ []mesh.BreakerReport, before []breakers.Standing) breakers.Outcome {
		err := newStore(f.pool).Review(t.Context(), noon(), func([]mesh.BreakerReport, []breakers.Standing) breakers.Outcome {
			t.Error("two reviews at once")
			return breakers.Outcome{}
		})
		if err != nil {
			t.Error(err)
		}
		go func() {
			_, err := f.Reset(t.Context(), root(), mesh.BreakerFilter{}, closing(9))
			reset <- err
		}()
		for f.text(t, `SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) == "0" {
			continue // until it waits
		}
		s := before[0]
		s.Opened = 4
		return breakers.Outcome{Write: []breakers.Standing{s}}
	})
	if err != nil || <-reset != nil {
		t.Fatal(err)
	}
	if got := f.text(t, `SELECT concat_ws(' ', state, reset_order, open_order) FROM circuit_breaker_state`); got != "closed 9 4" {
		t.Errorf("in the end: %s, want the reset after the review", got)
	}
}

func TestAway(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.pool.Close()
	_, orders := f.Orders(t.Context())
	_, troubled := f.Troubled(t.Context(), noon())
	_, list := f.List(t.Context(), "*", mesh.BreakerFilter{}, "", 1)
	_, reset := f.Reset(t.Context(), root(), mesh.BreakerFilter{}, closing(1))
	review := f.Review(t.Context(), noon(), func([]mesh.BreakerReport, []breakers.Standing) breakers.Outcome { return breakers.Outcome{} })
	report := f.Report(t.Context(), map[string]mesh.BreakerReport{sidecar(0): of("main", noon())})
	for what, err := range map[string]error{"orders": orders, "troubled": troubled, "list": list, "reset": reset, "review": review, "report": report} {
		if !errors.Is(err, breakers.ErrUnavailable) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

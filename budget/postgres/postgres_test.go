package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/budget"
	"gatehouse/budget/postgres"
	"gatehouse/internal/pgtest"
	ours "gatehouse/internal/postgres"
	"gatehouse/internal/request"
)

func hold(id string, tokens int64) budget.Hold {
	return budget.Hold{Key: budget.Key{Origin: budget.API, ID: id, Attempt: 1}, Project: "p1", Tokens: tokens, TTL: time.Minute}
}

func limitOf(tenant string, tokens int64) budget.Limit {
	return budget.Limit{Tenant: tenant, Project: "p1", Window: budget.Total, Zone: "UTC", Tokens: tokens}
}

// limit makes a limit of p1.
func (f *fixture) limit(t testing.TB, tenant string, tokens int64) budget.Limit {
	t.Helper()
	l, err := f.CreateLimit(t.Context(), request.Principal{}, limitOf(tenant, tokens))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestNewNeedsAPool(t *testing.T) {
	t.Parallel()
	if _, err := postgres.New(postgres.Options{}); err == nil {
		t.Error("no error without a pool")
	}
}

// counter counts the round trips of a pool.
type counter struct{ queries atomic.Int32 }

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.queries.Add(1)
	return ctx
}

func (*counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestOneRoundTripEach(t *testing.T) {
	t.Parallel()
	config, err := pgxpool.ParseConfig(pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	var count counter
	config.ConnConfig.Tracer = &count
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	f := fixtureOn(t, pool)
	org := f.tenant(t)
	f.limit(t, org, 100)
	other := hold("c", 1)
	other.Project = "p2"
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"reserve": func() error {
			_, err := f.Reserve(ctx, org, []budget.Hold{hold("a", 1), hold("b", 200), other})
			return err
		},
		"settle": func() error {
			_, err := f.Settle(ctx, org, []budget.Settlement{{Key: hold("a", 1).Key, Action: budget.Commit}, {Key: hold("b", 1).Key, Action: budget.Release}})
			return err
		},
		"expire":  func() error { _, err := f.Expire(ctx); return err },
		"close":   func() error { _, err := f.CloseSidecar(ctx, f.sidecars[0], 5); return err },
		"usage":   func() error { _, err := f.Usage(ctx, org, "p1"); return err },
		"journal": func() error { _, err := f.Journal(ctx, org, budget.Query{}); return err },
	} {
		before := count.queries.Load()
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := count.queries.Load() - before; n != 1 {
			t.Errorf("%s: %d round trips, want 1", name, n)
		}
	}
}

func TestUnknownParties(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	org := f.tenant(t)
	f.limit(t, org, 100)
	lost, foreign := hold("lost", 1), hold("foreign", 1)
	lost.Project = "p9"
	foreign.Origin, foreign.Sidecar = budget.Inline, "00000000-0000-4000-8000-000000000000"
	for range 2 { // nothing of it is kept
		got, err := f.Reserve(t.Context(), org, []budget.Hold{lost, foreign})
		if err != nil || got[0].Verdict != budget.Refused || got[0].Denial.Reason != budget.ReasonUnknownProject || got[0].Replayed ||
			got[1].Verdict != budget.Refused || got[1].Denial.Reason != budget.ReasonUnknownSidecar || got[1].Replayed {
			t.Errorf("got %+v and %v", got, err)
		}
	}
	got, err := f.Settle(t.Context(), org, []budget.Settlement{{Key: foreign.Key, Action: budget.Release, Sidecar: foreign.Sidecar}})
	if err != nil || got[0].Outcome != budget.NotFound {
		t.Errorf("a release by nobody: got %+v and %v", got, err)
	}
	if n := f.text(t, `SELECT count(*)::text FROM budget_requests`); n != "0" {
		t.Errorf("%s requests are kept", n)
	}
	_, reserve := f.Reserve(t.Context(), "nobody", []budget.Hold{hold("a", 1)})
	_, settle := f.Settle(t.Context(), "nobody", []budget.Settlement{{Key: foreign.Key, Action: budget.Release, Sidecar: f.sidecars[0]}})
	_, create := f.CreateLimit(t.Context(), request.Principal{}, limitOf("nobody", 1))
	noProject := limitOf(org, 1)
	noProject.Project = "p9"
	_, project := f.CreateLimit(t.Context(), request.Principal{}, noProject)
	for name, err := range map[string]error{"reserve": reserve, "settle": settle, "create": create, "project": project} {
		if !errors.Is(err, budget.ErrUnknown) {
			t.Errorf("%s: got %v, want ErrUnknown", name, err)
		}
	}
}

// TestChangesOfLimitsAreAudited: in the change's own transaction.
func TestChangesOfLimitsAreAudited(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	org := f.tenant(t)
	s := f.store(t, postgres.Options{Pool: f.pool, RequestID: func(context.Context) string { return "req-1" }})
	ann := request.Principal{Kind: request.KindToken, Subject: "ann"}
	l, err := s.CreateLimit(t.Context(), ann, limitOf(org, 100))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetLimit(t.Context(), ann, org, l.ID, 1, 50); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteLimit(t.Context(), ann, org, l.ID, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetLimit(t.Context(), ann, org, l.ID, 0, 70); err == nil {
		t.Fatal("a closed limit was changed")
	}
	got := f.text(t, `SELECT string_agg(concat_ws(' ', action, actor_kind, actor, request_id, details->>'limit_tokens'), ', ' ORDER BY seq) FROM audit_log WHERE target = $1`, l.ID)
	const want = "budget_limit.create user ann req-1 100, budget_limit.update user ann req-1 50, budget_limit.delete user ann req-1 50"
	if got != want {
		t.Errorf("audited is %s", got)
	}
	f.exec(t, `ALTER TABLE audit_log ADD CONSTRAINT no_more CHECK (action <> 'budget_limit.create') NOT VALID`)
	if _, err := s.CreateLimit(t.Context(), ann, limitOf(org, 100)); err == nil {
		t.Error("a limit was made without its audit row")
	}
	if u, err := s.Usage(t.Context(), org, "p1"); err != nil || len(u) != 0 {
		t.Errorf("got %+v and %v, want no limit", u, err)
	}
}

func TestTheDatabasesClock(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	org := f.tenant(t)
	s := f.store(t, postgres.Options{Pool: f.pool})
	l := limitOf(org, 100)
	l.Window = budget.Hour
	if _, err := s.CreateLimit(t.Context(), request.Principal{}, l); err != nil {
		t.Fatal(err)
	}
	answers, err := s.Reserve(t.Context(), org, []budget.Hold{hold("a", 1)})
	if err != nil || answers[0].Verdict != budget.Held {
		t.Fatalf("got %+v and %v", answers, err)
	}
	a := answers[0]
	if d := time.Since(a.Created).Abs(); d > time.Minute || a.Expires.Sub(a.Created) != time.Minute {
		t.Errorf("created %s ago, expires %s later", d, a.Expires.Sub(a.Created))
	}
	if n, err := s.Expire(t.Context()); n != 0 || err != nil {
		t.Errorf("expired %d, %v", n, err)
	}
	u, err := s.Usage(t.Context(), org, "p1")
	if err != nil || len(u) != 1 || a.Created.Before(u[0].Start) || u[0].Over(a.Created) {
		t.Errorf("got %+v and %v, want the hour of %s", u, err, a.Created)
	}
}

// TestTheWallIsNoDenial breaks a row behind the ledger's back: what the CHECK
// stops is an error, and changes nothing.
func TestTheWallIsNoDenial(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	org := f.tenant(t)
	f.limit(t, org, 100)
	if _, err := f.Reserve(t.Context(), org, []budget.Hold{hold("a", 10)}); err != nil {
		t.Fatal(err)
	}
	f.exec(t, `UPDATE budget_limits SET reserved = 5`)
	_, err := f.Settle(t.Context(), org, []budget.Settlement{{Key: hold("a", 1).Key, Action: budget.Commit, Tokens: 1}})
	if _, kind := ours.Violated(err); kind != ours.OutOfBounds || errors.Is(err, budget.ErrUnavailable) || errors.Is(err, budget.ErrInvalid) {
		t.Errorf("got %v, want the violation", err)
	}
	if got := f.text(t, `SELECT concat_ws(' ', reserved, used, state, (SELECT count(*) FROM budget_transactions)) FROM budget_limits, budget_requests`); got != "5 0 reserved 2" {
		t.Errorf("afterwards: %s", got)
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	org := f.tenant(t)
	f.pool.Close()
	if _, err := f.Reserve(t.Context(), org, []budget.Hold{hold("a", 1)}); !errors.Is(err, budget.ErrUnavailable) {
		t.Errorf("reserve: got %v", err)
	}
	if _, err := f.CreateLimit(t.Context(), request.Principal{}, limitOf(org, 1)); !errors.Is(err, budget.ErrUnavailable) {
		t.Errorf("limit: got %v", err)
	}
}

// TestAnotherIsolationIsRefused: what is read after the wait for the turn must
// not be older than the wait.
func TestAnotherIsolationIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	tx, err := f.pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), `SELECT budget_turn('org')`); err == nil || !strings.Contains(err.Error(), "READ COMMITTED") {
		t.Errorf("got %v", err)
	}
}

// TestFunctionsFindTheirOwn: whoever may make temporary objects can't put one in
// the way of a name, and nothing runs with more rights than its caller's.
func TestFunctionsFindTheirOwn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const loose = `SELECT coalesce(string_agg(proname, ' '), '') FROM pg_proc WHERE proname LIKE 'budget\_%' AND pronamespace = 'public'::regnamespace
		AND (prosecdef OR NOT coalesce('search_path=pg_catalog, public, pg_temp' = ANY (proconfig), false))`
	if names := f.text(t, loose); names != "" {
		t.Errorf("not pinned, or with the owner's rights: %s", names)
	}
	if n := f.text(t, `SELECT count(*)::text FROM pg_proc WHERE proname LIKE 'budget\_%'`); n != "14" {
		t.Errorf("%s functions, want 14", n)
	}
}

// TestTheApplicationsRoleSuffices: the service's own role, which owns nothing.
func TestTheApplicationsRoleSuffices(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	org := f.tenant(t)
	role := "app_" + f.text(t, `SELECT current_database()`)
	f.exec(t, `CREATE ROLE `+role)
	t.Cleanup(func() { f.exec(t, `DROP OWNED BY `+role); f.exec(t, `DROP ROLE `+role) })
	f.exec(t, `SELECT grant_application($1)`, role)
	config := f.pool.Config()
	config.ConnConfig.RuntimeParams["role"] = role
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	s := f.store(t, postgres.Options{Pool: pool})
	l, err := s.CreateLimit(t.Context(), request.Principal{}, limitOf(org, 100))
	if err != nil {
		t.Fatal(err)
	}
	_, reserve := s.Reserve(t.Context(), org, []budget.Hold{hold("a", 10)})
	_, settle := s.Settle(t.Context(), org, []budget.Settlement{{Key: hold("a", 1).Key, Action: budget.Commit, Tokens: 5}})
	_, expire := s.Expire(t.Context())
	_, set := s.SetLimit(t.Context(), request.Principal{}, org, l.ID, 0, 5)
	_, journal := s.Journal(t.Context(), org, budget.Query{})
	_, usage := s.Usage(t.Context(), org, "p1")
	if err := errors.Join(reserve, settle, expire, set, journal, usage, s.DeleteLimit(t.Context(), request.Principal{}, org, l.ID, 0)); err != nil {
		t.Error(err)
	}
}

// TestLeftWhileItWaits: the caller's time ends while its call waits for the
// tenant's turn. What became of it is unknown; the release settles it, whether
// it comes before or after.
func TestLeftWhileItWaits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	org := f.tenant(t)
	f.limit(t, org, 100)
	tx, err := f.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT budget_turn($1)`, org); err != nil {
		t.Fatal(err)
	}
	h := hold("a", 10)
	h.Origin, h.Sidecar = budget.Inline, f.sidecars[0]
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := f.Reserve(ctx, org, []budget.Hold{h}); !errors.Is(err, budget.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want an unknown outcome", err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Settle(t.Context(), org, []budget.Settlement{{Key: h.Key, Action: budget.Release, Sidecar: h.Sidecar}}); err != nil {
		t.Fatal(err)
	}
	again, err := f.Reserve(t.Context(), org, []budget.Hold{h})
	if err != nil || again[0].Verdict == budget.Held {
		t.Errorf("after the release: got %+v and %v", again, err)
	}
	if u, err := f.Usage(t.Context(), org, "p1"); err != nil || u[0].Reserved != 0 {
		t.Errorf("got %+v and %v, want nothing reserved", u, err)
	}
}

// TestOneKeyAtOnce: of many that ask with one key at once, through several
// stores, one holds anew.
func TestOneKeyAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	org := f.tenant(t)
	f.limit(t, org, 1000)
	const callers = 16
	answers := make([]budget.Answer, callers)
	var wg sync.WaitGroup
	for i := range callers {
		s := f.store(t, postgres.Options{Pool: f.pool, Now: f.clock.Now})
		wg.Go(func() {
			got, err := s.Reserve(t.Context(), org, []budget.Hold{hold("a", 10)})
			if err != nil {
				t.Error(err)
				return
			}
			answers[i] = got[0]
		})
	}
	wg.Wait()
	fresh := slices.DeleteFunc(answers, func(a budget.Answer) bool { return a.Verdict == budget.Held && a.Replayed })
	if len(fresh) != 1 || fresh[0].Verdict != budget.Held {
		t.Errorf("got %+v, want one that is new", fresh)
	}
	if got := f.text(t, `SELECT concat_ws(' ', reserved, (SELECT count(*) FROM budget_requests)) FROM budget_limits`); got != "10 1" {
		t.Errorf("afterwards: %s", got)
	}
}

// TestManyProjectsInOneCall: each hold meets the limits of its own project.
func TestManyProjectsInOneCall(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	org := f.tenant(t)
	f.exec(t, `INSERT INTO projects (tenant_id, id) SELECT $1, 'n' || i FROM generate_series(1, 128) i`, org)
	for i := 1; i <= 128; i += 2 {
		l := limitOf(org, int64(i))
		l.Project = fmt.Sprint("n", i)
		if _, err := f.CreateLimit(t.Context(), request.Principal{}, l); err != nil {
			t.Fatal(err)
		}
	}
	var holds []budget.Hold
	for i := 1; i <= 128; i++ {
		h := hold(fmt.Sprint(i), 20)
		h.Project = fmt.Sprint("n", i)
		holds = append(holds, h)
	}
	answers, err := f.Reserve(t.Context(), org, holds)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range answers {
		n, got := i+1, string(a.Verdict)
		if a.Denial != nil {
			got = fmt.Sprint(a.Denial.Reason, a.Denial.Available)
		}
		want := "held"
		if n%2 == 0 {
			want = "no_limit0"
		} else if n < 20 {
			want = fmt.Sprint("exhausted", n)
		}
		if got != want {
			t.Errorf("project %d: got %s, want %s", n, got, want)
		}
	}
	f.balanced(t)
}

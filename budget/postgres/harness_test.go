package postgres_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/budget/budgettest"
	"gatehouse/budget/postgres"
	"gatehouse/internal/pgtest"
)

// fixture is a database with two sidecars of the tenant org.
type fixture struct {
	*postgres.Store
	pool     *pgxpool.Pool
	clock    *budgettest.Clock
	sidecars [2]string
	tenants  atomic.Int32
}

func newFixture(t testing.TB) *fixture { return fixtureOn(t, pgtest.New(t)) }

func fixtureOn(t testing.TB, pool *pgxpool.Pool) *fixture {
	t.Helper()
	f := &fixture{pool: pool, clock: budgettest.NewClock()}
	f.exec(t, `INSERT INTO tenants (id) VALUES ('org')`)
	f.exec(t, `INSERT INTO policy_sets (name) VALUES ('base')`)
	for i := range f.sidecars {
		f.sidecars[i] = f.text(t, `INSERT INTO sidecars (tenant_id, name, policy_set, credential_hash) VALUES ('org', $1, 'base', sha256(convert_to($1, 'UTF8'))) RETURNING id::text`, fmt.Sprint("s", i))
	}
	f.Store = f.store(t, postgres.Options{Pool: f.pool, Now: f.clock.Now})
	return f
}

func (f *fixture) store(t testing.TB, o postgres.Options) *postgres.Store {
	t.Helper()
	s, err := postgres.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tenant registers one more, with two projects.
func (f *fixture) tenant(t testing.TB) string {
	t.Helper()
	id := fmt.Sprint("org", f.tenants.Add(1))
	f.exec(t, `INSERT INTO tenants (id) VALUES ($1)`, id)
	f.exec(t, `INSERT INTO projects (tenant_id, id) VALUES ($1, 'p1'), ($1, 'p2')`, id)
	return id
}

func (f *fixture) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := f.pool.Exec(context.WithoutCancel(t.Context()), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (f *fixture) text(t testing.TB, sql string, args ...any) (s string) {
	t.Helper()
	if err := f.pool.QueryRow(context.WithoutCancel(t.Context()), sql, args...).Scan(&s); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}

// unbalanced lists what is wrong with the rows in one snapshot: figures that the
// journal does not add up to, reserves that no open request has, a ceiling that
// is not what it must be, requests without the line that settled them.
const unbalanced = `
	WITH told AS (
		SELECT budget_id AS id, sum(used_delta) AS used, sum(reserved_delta) AS reserved, sum(overrun_delta) AS overrun FROM budget_transactions GROUP BY budget_id
	), open AS (
		SELECT b.id, sum(r.reserved_tokens) AS reserved FROM budget_requests r CROSS JOIN unnest(r.budgets) b(id) WHERE r.state = 'reserved' GROUP BY b.id
	)
	SELECT coalesce(string_agg(fault, E'\n'), '') FROM (
		SELECT format('row %s: %s/%s/%s, told %s/%s/%s, open %s', l.id, l.used, l.reserved, l.overrun, told.used, told.reserved, told.overrun, open.reserved) AS fault
		FROM budget_limits l LEFT JOIN told USING (id) LEFT JOIN open USING (id)
		WHERE (l.used, l.reserved, l.overrun) <> (coalesce(told.used, 0), coalesce(told.reserved, 0), coalesce(told.overrun, 0))
			OR l.reserved <> coalesce(open.reserved, 0) OR l.ceiling <> greatest(l.limit_tokens, l.used + l.reserved)
		UNION ALL
		SELECT format('request %s %s has %s lines', r.request_id, r.state, count(t.id))
		FROM budget_requests r LEFT JOIN budget_transactions t ON t.tenant_id = r.tenant_id AND t.request_id = r.request_id AND t.origin = r.origin AND t.attempt = r.attempt
			AND t.kind IN ('commit', 'release', 'expire', 'correct')
		WHERE r.state IN ('committed', 'released', 'expired', 'expired_charged', 'reserved')
		GROUP BY r.id HAVING count(t.id) <> cardinality(r.budgets) * (CASE r.state WHEN 'reserved' THEN 0 ELSE 1 END + CASE WHEN r.late THEN 1 ELSE 0 END)
	) faults`

func (f *fixture) balanced(t testing.TB) {
	t.Helper()
	if faults := f.text(t, unbalanced); faults != "" {
		t.Errorf("out of balance:\n%s", faults)
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	budgettest.TestStore(t, func(t *testing.T) budgettest.Harness {
		f := newFixture(t)
		return budgettest.Harness{Store: f.Store, Clock: f.clock, Tenant: f.tenant, Sidecars: f.sidecars, Balanced: f.balanced, Steps: 12}
	})
}

package httpapi

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gatehouse/budget"
	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/request"
)

// budgetStore is the part of store that is about budgets; store's lock guards
// it. It decides nothing: it answers as it is told, and notes what it was asked.
type budgetStore struct {
	limits   []budget.Limit
	holds    []budget.Hold
	settled  []budget.Settlement
	queries  []budget.Query
	tenant   string // of the last question
	project  string
	refusal  error        // of holds and settlements
	replayed bool         // so are they
	state    budget.State // of what is held
	late     bool
}

func (s *store) seedBudget() {
	s.budgetStore = budgetStore{state: budget.Reserved}
	for i, tenant := range []string{"org1", "org2"} {
		s.limits = append(s.limits, budget.Limit{
			ID: uuid(i + 1), Tenant: tenant, Project: "proj1", Window: budget.Day, Zone: "UTC", Tokens: 1000,
			Version: 1, CreatedAt: seeded, UpdatedAt: seeded,
		})
	}
	s.limits = append(s.limits, budget.Limit{
		ID: uuid(3), Tenant: "org1", Window: budget.Total, Zone: "UTC", Tokens: 5000, Version: 1, CreatedAt: seeded, UpdatedAt: seeded,
		ClosedAt: seeded.Add(time.Hour),
	})
}

func (s *store) HoldTokens(ctx context.Context, tenant string, h budget.Hold) (budget.Answer, error) {
	done, err := s.change(ctx, request.Principal{Subject: h.Subject})
	defer done()
	if err != nil {
		return budget.Answer{}, err
	}
	s.tenant, s.holds = tenant, append(s.holds, h)
	r := budget.Request{Key: h.Key, Project: h.Project, State: s.state, Reserved: h.Tokens, Expires: seeded.Add(h.TTL)}
	return budget.Answer{Verdict: budget.Held, Replayed: s.replayed, Request: r}, s.refusal
}

func (s *store) SettleTokens(ctx context.Context, tenant string, t budget.Settlement) (budget.Result, error) {
	done, err := s.change(ctx, request.Principal{Project: t.Project})
	defer done()
	if err != nil {
		return budget.Result{}, err
	}
	s.tenant, s.settled = tenant, append(s.settled, t)
	r := budget.Request{Key: t.Key, Project: "proj1", State: budget.Committed, Reserved: 100, Actual: t.Tokens, Late: s.late, Settled: seeded}
	if t.Action == budget.Release {
		r.State = budget.Released
	}
	r.Overrun = max(0, r.Actual-r.Reserved)
	return budget.Result{Outcome: budget.Done, Replayed: s.replayed, Request: r}, s.refusal
}

func (s *store) BudgetUsage(ctx context.Context, tenant, project string) ([]budget.Usage, error) {
	done, err := s.ask(ctx)
	defer done()
	s.tenant, s.project = tenant, project
	var out []budget.Usage
	for _, l := range s.limits {
		p := budget.Period{Start: seeded, End: seeded.Add(24 * time.Hour)}
		if l.Window == budget.Total {
			p.End = time.Time{}
		}
		if matches(tenant, l.Tenant) && (l.Project == "" || l.Project == project) {
			out = append(out, budget.UsageOf(l, p, budget.Row{Limit: l.Tokens, Ceiling: l.Tokens, Used: 100, Reserved: 50, Overrun: 7}))
		}
	}
	return out, err
}

func (s *store) BudgetLines(ctx context.Context, tenant string, q budget.Query) (account.Page[budget.Line], error) {
	done, err := s.ask(ctx)
	defer done()
	s.tenant, s.queries = tenant, append(s.queries, q)
	key := budget.Key{Origin: budget.API, ID: "job-17", Attempt: 1}
	lines := []budget.Line{
		{ID: 3, Project: "proj1", LimitID: uuid(1), Key: key, Kind: budget.KindCommit, Delta: budget.Delta{Used: 40, Reserved: -100}, Late: true, At: seeded},
		{ID: 2, Project: "proj1", LimitID: uuid(1), Key: key, Kind: budget.KindReserve, Delta: budget.Delta{Reserved: 100}, At: seeded},
		{ID: 1, LimitID: uuid(3), Key: budget.Key{Origin: budget.Admin, Attempt: 1}, Kind: budget.KindLimit, Limit: 5000, At: seeded},
	}
	newest := func(l budget.Line) string { return fmt.Sprintf("%020d", 1<<40-l.ID) }
	return part(lines, func(budget.Line) bool { return true }, newest, q.Before, q.Limit), err
}

func (s *store) CreateBudgetLimit(ctx context.Context, by request.Principal, l budget.Limit) (budget.Limit, error) {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return budget.Limit{}, err
	}
	if slices.ContainsFunc(s.limits, func(o budget.Limit) bool {
		return o.Tenant == l.Tenant && o.Project == l.Project && o.Window == l.Window
	}) {
		return budget.Limit{}, conflict("already_exists")
	}
	l.ID, l.Version, l.CreatedAt, l.UpdatedAt = s.id(), 1, seeded, seeded
	s.limits = append(s.limits, l)
	return l, nil
}

func (s *store) BudgetLimit(ctx context.Context, tenant, id string) (budget.Limit, error) {
	done, err := s.ask(ctx)
	defer done()
	if err != nil {
		return budget.Limit{}, err
	}
	i, err := find(s.limits, func(l budget.Limit) bool { return l.ID == id && matches(tenant, l.Tenant) }, 0, nil)
	if err != nil {
		return budget.Limit{}, err
	}
	return s.limits[i], nil
}

func (s *store) BudgetLimits(ctx context.Context, tenant, after string, limit int) (account.Page[budget.Limit], error) {
	done, err := s.ask(ctx)
	defer done()
	return part(s.limits, func(l budget.Limit) bool { return matches(tenant, l.Tenant) }, func(l budget.Limit) string { return l.ID }, after, limit), err
}

func (s *store) UpdateBudgetLimit(ctx context.Context, by request.Principal, l budget.Limit) (budget.Limit, error) {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return budget.Limit{}, err
	}
	i, err := s.limitLocked(l)
	if err != nil {
		return budget.Limit{}, err
	}
	s.limits[i].Tokens = l.Tokens
	s.limits[i].Version++
	return s.limits[i], nil
}

func (s *store) DeleteBudgetLimit(ctx context.Context, by request.Principal, l budget.Limit) error {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return err
	}
	i, err := s.limitLocked(l)
	if err == nil {
		s.limits = slices.Delete(s.limits, i, i+1)
	}
	return err
}

func (s *store) limitLocked(l budget.Limit) (int, error) {
	return find(s.limits, func(o budget.Limit) bool { return o.ID == l.ID }, l.Version, func(o budget.Limit) int64 { return o.Version })
}

// insufficient is a refusal as the ledger's service makes one.
func insufficient() error {
	return apierr.New(apierr.BudgetInsufficient, apierr.Options{Details: []apierr.Detail{
		apierr.Text("reason", "exhausted"), apierr.Number("requested", 1200), apierr.Number("available", 300), apierr.Number("limit", 1000),
		apierr.Text("limit_id", uuid(1)), apierr.Text("resets_at", "2026-01-31T23:00:00Z"),
	}})
}

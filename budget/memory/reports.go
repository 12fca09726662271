package memory

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"gatehouse/budget"
	"gatehouse/internal/account"
)

// Usage implements budget.Reports.
func (s *Store) Usage(ctx context.Context, tenant, project string) ([]budget.Usage, error) {
	if err := ready[budget.Hold](ctx, nil); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []budget.Usage
	for _, l := range s.limits {
		if l.Tenant != tenant || !l.open() || (l.Project != "" && l.Project != project) {
			continue
		}
		r := l.current().Row
		p, changed, err := l.period(s.now())
		if err != nil {
			return nil, err
		}
		if changed { // nobody reserved in it yet
			r = budget.NewRow(l.Tokens)
		}
		all = append(all, budget.UsageOf(l.Limit, p, r))
	}
	slices.SortFunc(all, func(a, b budget.Usage) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(slices.Index(budget.Windows(), a.Window), slices.Index(budget.Windows(), b.Window)))
	})
	return all, nil
}

// Request implements budget.Reports.
func (s *Store) Request(ctx context.Context, tenant string, key budget.Key) (budget.Request, error) {
	if err := ready(ctx, []budget.Key{key}); err != nil {
		return budget.Request{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.requests[requestKey{tenant, key}]
	if !ok {
		return budget.Request{}, budget.ErrUnknown
	}
	return e.Request, nil
}

// Journal implements budget.Reports.
func (s *Store) Journal(ctx context.Context, tenant string, q budget.Query) (p account.Page[budget.Line], err error) {
	if err := ready[budget.Hold](ctx, nil); err != nil {
		return p, err
	}
	before, err := q.Position()
	if err != nil {
		return p, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range slices.Backward(s.journal) {
		switch {
		case l.tenant != tenant, l.ID >= before, q.Project != "" && l.Project != q.Project, q.Request != "" && l.Key.ID != q.Request:
			continue
		case len(p.Items) == budget.PageSize(q.Limit):
			p.Next = strconv.FormatInt(p.Items[len(p.Items)-1].ID, 10)
			return p, nil
		}
		p.Items = append(p.Items, l.Line)
	}
	return p, nil
}

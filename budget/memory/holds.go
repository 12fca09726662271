package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"gatehouse/budget"
)

// Reserve implements budget.Holds.
func (s *Store) Reserve(ctx context.Context, tenant string, holds []budget.Hold) ([]budget.Answer, error) {
	if err := ready(ctx, holds); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests)+len(holds) > maxRequests {
		return nil, errFull
	}
	now := s.now()
	answers := make([]budget.Answer, len(holds))
	for i, h := range holds {
		a, err := s.reserveLocked(tenant, h, now)
		if err != nil {
			return nil, err // a zone that is gone: before anything of this hold was changed
		}
		answers[i] = a
	}
	return answers, nil
}

func (s *Store) reserveLocked(tenant string, h budget.Hold, now time.Time) (budget.Answer, error) {
	key := requestKey{tenant, h.Key}
	if e, known := s.requests[key]; known {
		return budget.Found(e.Request, e.same(h)), nil
	}
	rows, err := s.rowsLocked(tenant, h, now)
	if err != nil {
		return budget.Answer{}, err
	}
	e := &entry{
		Request: budget.Request{Key: h.Key, Project: h.Project, Created: now}, tenant: tenant,
		hash: h.BodyHash, sidecar: h.Sidecar, incarnation: h.Incarnation,
	}
	s.requests[key] = e
	if e.Denial = deny(h, rows); e.Denial != nil {
		e.State, e.Settled = budget.Denied, now
		return budget.Answer{Verdict: budget.Refused, Request: e.Request}, nil
	}
	e.State, e.Reserved, e.Expires, e.rows = budget.Reserved, h.Tokens, now.Add(h.TTL), rows
	for _, r := range rows {
		s.lineLocked(e, r, budget.Line{Kind: budget.KindReserve, Delta: r.Hold(h.Tokens), At: now})
	}
	return budget.Answer{Verdict: budget.Held, Request: e.Request}, nil
}

// same reports whether a hold is the very one that made the request.
func (e *entry) same(h budget.Hold) bool {
	return e.hash == h.BodyHash && e.sidecar == h.Sidecar && e.incarnation == h.Incarnation
}

// rowsLocked returns the present rows of the limits that apply to a hold.
func (s *Store) rowsLocked(tenant string, h budget.Hold, now time.Time) (rows []*row, err error) {
	if h.Unlimited {
		return nil, nil
	}
	for _, l := range s.limits {
		if l.Tenant != tenant || !l.open() || (l.Project != "" && l.Project != h.Project) {
			continue
		}
		if err := l.roll(now); err != nil {
			return nil, err
		}
		rows = append(rows, l.current())
	}
	return rows, nil
}

// roll adds the row of the present period, if that has begun since the last one.
func (l *limit) roll(now time.Time) error {
	p, changed, err := l.period(now)
	if err != nil || !changed {
		return err
	}
	l.rows = append(l.rows, &row{Row: budget.NewRow(l.Tokens), Period: p, id: newID(), limit: l})
	return nil
}

// period is the present period, and whether it is another than the last row's.
func (l *limit) period(now time.Time) (budget.Period, bool, error) {
	last := l.current().Period
	if !last.Over(now) {
		return last, false, nil
	}
	p, err := budget.PeriodOf(l.Window, l.Zone, now)
	if last.End.After(p.Start) {
		p.Start = last.End // INVARIANT: periods of a limit don't overlap
	}
	return p, true, err
}

// deny says why a hold can't be had, or nil.
func deny(h budget.Hold, rows []*row) *budget.Denial {
	if h.Unlimited {
		return nil
	}
	if len(rows) == 0 {
		return &budget.Denial{Reason: budget.ReasonNoLimit, Requested: h.Tokens}
	}
	least := slices.MinFunc(rows, func(a, b *row) int { return cmp.Compare(a.Available(), b.Available()) })
	if least.Available() >= h.Tokens {
		return nil
	}
	d := &budget.Denial{
		Reason: budget.ReasonExhausted, LimitID: least.limit.ID, Window: least.limit.Window,
		Limit: least.Row.Limit, Available: least.Available(), Requested: h.Tokens,
	}
	if !least.End.IsZero() {
		d.ResetsAt = &least.End
	}
	return d
}

// Settle implements budget.Holds.
func (s *Store) Settle(ctx context.Context, tenant string, settlements []budget.Settlement) ([]budget.Result, error) {
	if err := ready(ctx, settlements); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests)+len(settlements) > 2*maxRequests { // settling goes on when reserving doesn't
		return nil, errFull
	}
	results := make([]budget.Result, len(settlements))
	for i, t := range settlements {
		results[i] = s.settleLocked(tenant, t, s.now())
	}
	return results, nil
}

func (s *Store) settleLocked(tenant string, t budget.Settlement, now time.Time) budget.Result {
	key := requestKey{tenant, t.Key}
	e, known := s.requests[key]
	switch {
	case !known && t.Action == budget.Release && t.Origin == budget.Inline:
		e = &entry{Request: budget.Request{Key: t.Key, State: budget.Void, Created: now, Settled: now}, tenant: tenant, sidecar: t.Sidecar}
		s.requests[key] = e
		return budget.Result{Outcome: budget.Done, Request: e.Request}
	case !known, e.sidecar != t.Sidecar, t.Project != "" && t.Project != e.Project:
		return budget.Result{Outcome: budget.NotFound}
	}
	step := budget.Resolve(e.Request, t.Action, t.Tokens)
	if step.Outcome != budget.Done {
		return budget.Result{Outcome: step.Outcome, Replayed: budget.Repeats(t, step.Outcome, e.Request), Request: e.Request}
	}
	if !e.fits(step.Grow) {
		return budget.Result{Outcome: budget.NoRoom, Request: e.Request}
	}
	if step.To == budget.Committed {
		e.Actual, e.Flagged = t.Tokens, t.Flagged
	}
	s.applyLocked(e, step, now)
	return budget.Result{Outcome: budget.Done, Request: e.Request}
}

// fits reports whether all rows have room for n more.
func (e *entry) fits(n int64) bool {
	return !slices.ContainsFunc(e.rows, func(r *row) bool { return n > 0 && r.Available() < n })
}

// applyLocked makes a step that is to be done.
func (s *Store) applyLocked(e *entry, step budget.Step, now time.Time) {
	if step.To == budget.Reserved && step.Grow == 0 {
		return // a top-up to what is held already
	}
	for _, r := range e.rows {
		delta := r.Row.Apply(step.Effect)
		if step.Grow > 0 {
			delta = r.Hold(step.Grow)
		}
		e.Overrun = max(e.Overrun, delta.Overrun)
		s.lineLocked(e, r, budget.Line{Kind: step.Kind, Delta: delta, Late: step.Late, At: now})
	}
	e.Reserved += step.Grow
	e.State, e.Late = step.To, step.Late
	if e.State != budget.Reserved {
		e.Settled = now
	}
}

// lineLocked writes what happened to a row on behalf of a request.
func (s *Store) lineLocked(e *entry, r *row, l budget.Line) {
	l.Key, l.Project, l.Row, l.LimitID = e.Key, e.Project, r.id, r.limit.ID
	s.writeLocked(e.tenant, l)
}

// Expire implements budget.Holds.
func (s *Store) Expire(ctx context.Context) (int, error) {
	now := s.now()
	return s.sweep(ctx, now, func(e *entry) bool { return !e.Expires.After(now) })
}

// CloseSidecar implements budget.Holds.
func (s *Store) CloseSidecar(ctx context.Context, sidecar string, below int64) (int, error) {
	return s.sweep(ctx, s.now(), func(e *entry) bool {
		return e.Origin == budget.Inline && e.sidecar == sidecar && e.incarnation < below
	})
}

func (s *Store) sweep(ctx context.Context, now time.Time, over func(*entry) bool) (int, error) {
	if err := ready[budget.Hold](ctx, nil); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []*entry
	for _, e := range s.requests {
		if e.State == budget.Reserved && over(e) {
			due = append(due, e)
		}
	}
	slices.SortFunc(due, func(a, b *entry) int { return a.Expires.Compare(b.Expires) })
	due = due[:min(len(due), budget.MaxSweep)]
	for _, e := range due {
		s.applyLocked(e, budget.ResolveExpiry(e.Request), now)
	}
	return len(due), nil
}

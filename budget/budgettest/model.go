package budgettest

import (
	"time"

	"gatehouse/budget"
)

// model is the ledger as people think of it: each request has a share of each
// row, and every figure of a row is a sum over the shares.
type model struct {
	now      time.Time
	limits   []*modelLimit
	requests map[budget.Key]*modelRequest
}

type modelLimit struct {
	id, project string
	window      budget.Window
	tokens      int64
	closed      bool
	rows        []*modelRow
}

type modelRow struct {
	budget.Period
	limit  int64
	shares []*share
}

type share struct{ held, used, over int64 }

type modelRequest struct {
	hold   budget.Hold
	state  budget.State
	actual int64
	until  time.Time
	shares map[*modelRow]*share
}

func (r *modelRow) sum() (s share) {
	for _, one := range r.shares {
		s.held, s.used, s.over = s.held+one.held, s.used+one.used, s.over+one.over
	}
	return s
}

func (r *modelRow) room() int64 {
	s := r.sum()
	return max(0, r.limit-s.held-s.used)
}

// row is the row of the present period.
func (l *modelLimit) row(now time.Time) *modelRow {
	last := l.rows[len(l.rows)-1]
	if !last.Over(now) {
		return last
	}
	p, _ := budget.PeriodOf(l.window, "UTC", now)
	l.rows = append(l.rows, &modelRow{Period: p, limit: l.tokens})
	return l.rows[len(l.rows)-1]
}

func (m *model) rows(project string) (rows []*modelRow) {
	for _, l := range m.limits {
		if !l.closed && (l.project == "" || l.project == project) {
			rows = append(rows, l.row(m.now))
		}
	}
	return rows
}

func (m *model) reserve(h budget.Hold) (budget.Verdict, budget.State) {
	if r := m.requests[h.Key]; r != nil {
		switch {
		case r.state == budget.Void, r.hold == h && r.state == budget.Denied:
			return budget.Refused, r.state
		case r.hold != h:
			return budget.KeyReused, ""
		case r.state == budget.Reserved:
			return budget.Held, r.state
		}
		return budget.Settled, r.state
	}
	r := &modelRequest{hold: h, state: budget.Reserved, until: m.now.Add(h.TTL), shares: map[*modelRow]*share{}}
	m.requests[h.Key] = r
	rows := m.rows(h.Project)
	for _, row := range rows {
		if row.room() < h.Tokens {
			r.state = budget.Denied
		}
	}
	if len(rows) == 0 {
		r.state = budget.Denied
	}
	if r.state == budget.Denied {
		return budget.Refused, r.state
	}
	for _, row := range rows {
		r.shares[row] = &share{held: h.Tokens}
		row.shares = append(row.shares, r.shares[row])
	}
	return budget.Held, r.state
}

// settle returns the outcome, and whether it was said before.
func (m *model) settle(t budget.Settlement) (budget.Outcome, bool) {
	r := m.requests[t.Key]
	switch {
	case r == nil && t.Action == budget.Release && t.Origin == budget.Inline:
		m.requests[t.Key] = &modelRequest{hold: budget.Hold{Sidecar: t.Sidecar}, state: budget.Void}
		return budget.Done, false
	case r == nil, r.hold.Sidecar != t.Sidecar:
		return budget.NotFound, false
	case r.state == budget.Committed:
		return budget.AlreadyCommitted, t.Action == budget.Commit && t.Tokens == r.actual
	case r.state == budget.Released, r.state == budget.Void:
		return budget.AlreadyReleased, t.Action == budget.Release
	case r.state == budget.Denied:
		return budget.NeverHeld, false
	case r.state == budget.Expired && t.Action != budget.Commit, r.state == budget.ExpiredCharged && t.Action == budget.TopUp:
		return budget.AlreadyExpired, false
	}
	switch t.Action {
	case budget.TopUp:
		return r.topUp(t.Tokens), false
	case budget.Commit:
		r.state, r.actual = budget.Committed, t.Tokens
	case budget.Release:
		r.state = budget.Released
	}
	r.charge(t.Tokens)
	return budget.Done, false
}

func (r *modelRequest) topUp(total int64) budget.Outcome {
	for row, s := range r.shares {
		if total > s.held && row.room() < total-s.held {
			return budget.NoRoom
		}
	}
	for _, s := range r.shares {
		s.held = max(s.held, total)
	}
	return budget.Done
}

// charge makes n the request's use. What it has by now it keeps as far as it
// needs it; the rest of n takes the room there is.
func (r *modelRequest) charge(n int64) {
	for row, s := range r.shares {
		had := s.held + s.used
		*s = share{used: min(n, had)}
		take := min(n-s.used, row.room())
		s.over = n - s.used - take
		s.used += take
	}
}

// expire ends the holds that are over.
func (m *model) expire(over func(*modelRequest) bool) {
	for _, r := range m.requests {
		if r.state != budget.Reserved || !over(r) {
			continue
		}
		r.state = budget.Expired
		if r.hold.Origin == budget.Inline {
			r.state = budget.ExpiredCharged
		}
		for _, s := range r.shares {
			if r.state == budget.ExpiredCharged {
				s.used = s.held
			}
			s.held = 0
		}
	}
}

package memory

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"

	"gatehouse/budget"
	"gatehouse/internal/account"
	"gatehouse/internal/request"
)

// newID is a random UUID (RFC 9562, version 4).
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// CreateLimit implements budget.Limits.
func (s *Store) CreateLimit(ctx context.Context, _ request.Principal, l budget.Limit) (budget.Limit, error) {
	if err := ready(ctx, []budget.Limit{l}); err != nil {
		return budget.Limit{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	p, err := budget.PeriodOf(l.Window, l.Zone, now)
	switch {
	case err != nil:
		return budget.Limit{}, err
	case len(s.limits) == maxLimits:
		return budget.Limit{}, errFull
	case slices.ContainsFunc(s.limits, func(o *limit) bool {
		return o.open() && o.Tenant == l.Tenant && o.Project == l.Project && o.Window == l.Window
	}):
		return budget.Limit{}, budget.ErrExists
	}
	n := &limit{Limit: budget.Limit{
		ID: newID(), Tenant: l.Tenant, Project: l.Project, Window: l.Window, Zone: l.Zone, Tokens: l.Tokens,
		Version: 1, CreatedAt: now, UpdatedAt: now,
	}}
	n.rows = []*row{{Row: budget.NewRow(l.Tokens), Period: p, id: newID(), limit: n}}
	s.limits = append(s.limits, n)
	s.limitLineLocked(n, budget.KindLimit)
	return n.Limit, nil
}

// openLocked returns an open limit of a version.
func (s *Store) openLocked(tenant, id string, version int64) (*limit, error) {
	for _, l := range s.limits {
		switch {
		case l.Tenant != tenant || l.ID != id || !l.open():
		case version != 0 && l.Version != version:
			return nil, budget.ErrVersion
		default:
			return l, nil
		}
	}
	return nil, budget.ErrUnknown
}

// SetLimit implements budget.Limits.
func (s *Store) SetLimit(ctx context.Context, _ request.Principal, tenant, id string, version, tokens int64) (budget.Limit, error) {
	if err := ready[budget.Hold](ctx, nil); err != nil {
		return budget.Limit{}, err
	}
	if err := budget.CheckTokens(tokens); err != nil {
		return budget.Limit{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.openLocked(tenant, id, version)
	if err != nil {
		return budget.Limit{}, err
	}
	if err := l.roll(s.now()); err != nil { // what is over keeps its limit
		return budget.Limit{}, err
	}
	l.Tokens, l.UpdatedAt = tokens, s.now()
	l.Version++
	l.current().SetLimit(tokens)
	s.limitLineLocked(l, budget.KindLimit)
	return l.Limit, nil
}

// DeleteLimit implements budget.Limits.
func (s *Store) DeleteLimit(ctx context.Context, _ request.Principal, tenant, id string, version int64) error {
	if err := ready[budget.Hold](ctx, nil); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.openLocked(tenant, id, version)
	if err != nil {
		return err
	}
	l.ClosedAt, l.UpdatedAt = s.now(), s.now()
	l.Version++
	s.limitLineLocked(l, budget.KindClose)
	return nil
}

// limitLineLocked writes what was done to a limit.
func (s *Store) limitLineLocked(l *limit, k budget.Kind) {
	s.writeLocked(l.Tenant, budget.Line{
		Project: l.Project, Row: l.current().id, LimitID: l.ID, Key: budget.Key{Origin: budget.Admin, Attempt: 1},
		Kind: k, Limit: l.Tokens, At: l.UpdatedAt,
	})
}

// Limit implements budget.Limits.
func (s *Store) Limit(ctx context.Context, tenant, id string) (budget.Limit, error) {
	if err := ready[budget.Hold](ctx, nil); err != nil {
		return budget.Limit{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.limits {
		if l.Tenant == tenant && l.ID == id && l.seen() {
			return l.Limit, nil
		}
	}
	return budget.Limit{}, budget.ErrUnknown
}

// Limits implements budget.Limits.
func (s *Store) Limits(ctx context.Context, tenant, after string, n int) (p account.Page[budget.Limit], err error) {
	if err := ready[budget.Hold](ctx, nil); err != nil {
		return p, err
	}
	if after != "" && !budget.IsID(after) {
		return p, budget.ErrPosition
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.limits {
		if l.Tenant == tenant && l.seen() && l.ID > after {
			p.Items = append(p.Items, l.Limit)
		}
	}
	slices.SortFunc(p.Items, func(a, b budget.Limit) int { return cmp.Compare(a.ID, b.ID) })
	if n = budget.PageSize(n); len(p.Items) > n {
		p.Items = p.Items[:n]
		p.Next = p.Items[n-1].ID
	}
	return p, nil
}

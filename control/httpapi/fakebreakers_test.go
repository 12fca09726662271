package httpapi

import (
	"context"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
)

// seedBreakers makes the breakers app and db of the set main, which both tenants
// follow, and app of the set far, which org2 alone does.
func (s *store) seedBreakers() {
	for _, b := range []mesh.Breaker{{PolicySet: "far", Name: "app"}, {PolicySet: "main", Name: "app"}, {PolicySet: "main", Name: "db"}} {
		b.Phase, b.Threshold, b.Recovery, b.UpdatedAt, b.Version = mesh.BreakerOpen, 5, 30*time.Second, seeded, 3
		b.Consecutive, b.Failures, b.Calls, b.Called, b.Open, b.HalfOpen = 5, 12, 3400, 3, 2, 1
		b.OpenedAt, b.NextProbe = seeded, seeded.Add(30*time.Second)
		if b.Name == "db" {
			b = closedBreaker(b)
		}
		s.breakers = append(s.breakers, b)
	}
}

func closedBreaker(b mesh.Breaker) mesh.Breaker {
	b.Phase, b.OpenedAt, b.NextProbe, b.Consecutive, b.Open, b.HalfOpen = mesh.BreakerClosed, time.Time{}, time.Time{}, 0, 0, 0
	return b
}

// breakersOf reports whether f selects a breaker that a tenant may see.
func breakersOf(tenant string, f mesh.BreakerFilter) func(mesh.Breaker) bool {
	return func(b mesh.Breaker) bool {
		return (f.PolicySet == "" || f.PolicySet == b.PolicySet) && (f.Name == "" || f.Name == b.Name) && (f.Phase == "" || f.Phase == b.Phase) &&
			(tenant != "org1" || b.PolicySet != "far")
	}
}

func (s *store) Breakers(ctx context.Context, tenant string, f mesh.BreakerFilter, after string, limit int) (account.Page[mesh.Breaker], error) {
	done, err := s.ask(ctx)
	defer done()
	return part(s.breakers, breakersOf(tenant, f), func(b mesh.Breaker) string { return b.PolicySet + "/" + b.Name }, after, limit), err
}

func (s *store) ResetBreaker(ctx context.Context, by request.Principal, set, name string) (mesh.Breaker, error) {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return mesh.Breaker{}, err
	}
	i, err := find(s.breakers, func(b mesh.Breaker) bool { return b.PolicySet == set && b.Name == name }, 0, nil)
	if err != nil {
		return mesh.Breaker{}, err
	}
	s.breakers[i] = closedBreaker(s.breakers[i])
	return s.breakers[i], nil
}

func (s *store) ResetBreakers(ctx context.Context, by request.Principal, set string) (n int, err error) {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return 0, err
	}
	for i, b := range s.breakers {
		if set == "" || b.PolicySet == set {
			s.breakers[i] = closedBreaker(b)
			n++
		}
	}
	return n, nil
}

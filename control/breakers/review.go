package breakers

import (
	"context"
	"time"

	"gatehouse/internal/mesh"
)

// Bounds of reviews.
const (
	reviewEvery   = time.Second
	reviewTimeout = 5 * time.Second
	calmEvery     = 10 * time.Second // while all breakers are closed
)

// Run reviews what sidecars report until ctx ends: each second while a breaker
// is not closed, else every ten. Several may run: one review is under way at a
// time. One that fails is left to the next.
func (s *Service) Run(ctx context.Context) {
	tick := time.NewTicker(reviewEvery)
	defer tick.Stop()
	r := reviewer{service: s}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := r.turn(ctx)
		if ctx.Err() != nil {
			return
		}
		r.tell(err)
	}
}

// reviewer is one loop of reviews.
type reviewer struct {
	service *Service
	last    time.Time // a review had no error
	failing bool
}

// turn makes a review if one is due.
func (r *reviewer) turn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	now, store := r.service.o.Now(), r.service.o.Store
	since := now.Add(-reportedSince)
	if now.Sub(r.last) < calmEvery {
		troubled, err := store.Troubled(ctx, since)
		if err != nil || !troubled {
			return err
		}
	}
	var before []Standing
	var out Outcome
	err := store.Review(ctx, since, func(reports []mesh.BreakerReport, standing []Standing) Outcome {
		before, out = standing, Judge(now, reports, standing)
		return out
	})
	if err == nil {
		r.last = now
		r.service.log(out, before)
	}
	return err
}

// log tells which breakers turn.
func (s *Service) log(out Outcome, standing []Standing) {
	before := make(map[key]mesh.BreakerPhase, len(standing))
	for _, b := range standing {
		before[b.key()] = b.Phase
	}
	for _, b := range out.Write {
		switch was := before[b.key()]; {
		case b.Phase == mesh.BreakerOpen && was != mesh.BreakerOpen:
			s.o.Log.Warn("a breaker opens for the mesh", "policy_set", b.PolicySet, "upstream", b.Name, "sidecars_open", b.Open, "sidecars_called", b.Called)
		case b.Phase == mesh.BreakerClosed && was == mesh.BreakerOpen:
			s.o.Log.Info("a breaker of the mesh is closed again", "policy_set", b.PolicySet, "upstream", b.Name)
		}
	}
}

// tell logs a failure, and its end, once.
func (r *reviewer) tell(err error) {
	switch {
	case err != nil && !r.failing:
		r.service.o.Log.Warn("breakers can't be reviewed: none opens or closes for the mesh until they can", "error", err)
	case err == nil && r.failing:
		r.service.o.Log.Info("breakers are reviewed again")
	}
	r.failing = err != nil
}

package budgets

import (
	"context"
	"log/slog"
	"time"

	"gatehouse/budget"
)

// Bounds of the sweep.
const (
	sweepEvery   = 5 * time.Second
	sweepTimeout = 4 * time.Second // of one turn
	maxSweeps    = 40              // calls of one turn: 10,240 holds
)

// Run ends holds whose time is over, every 5 s until ctx ends. Several may run:
// each hold is ended once. A turn that fails is left to the next one.
func (s *Service) Run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n, err := s.sweep(ctx)
		if ctx.Err() != nil {
			return
		}
		s.tell(n, err, failing)
		failing = err != nil
	}
}

// sweep ends what is due, and returns how many. What one turn can't do is due at
// the next.
func (s *Service) sweep(ctx context.Context) (total int, err error) {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	for range maxSweeps {
		n, err := s.o.Ledger.Expire(ctx)
		total += n
		if err != nil || n < budget.MaxSweep {
			return total, err
		}
	}
	return total, nil
}

// tell logs what expired, and a failure and its end once.
func (s *Service) tell(n int, err error, failing bool) {
	switch {
	case err != nil && !failing:
		s.o.Log.Warn("holds that are over can't be ended; trying again", slog.Any("error", err))
	case err == nil && failing:
		s.o.Log.Info("holds that are over are ended again")
	}
	if n > 0 {
		s.o.Log.Info("holds expired", slog.Int("holds", n))
	}
}

package soak

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	api "gatehouse/api/v1/client"
	"gatehouse/internal/fakellm"
)

const (
	// samplePause is between two looks at the limits.
	samplePause = 5 * time.Millisecond
	// askTimeout bounds a look, and any other question to control.
	askTimeout = 5 * time.Second
)

// watch looks, while clients are at it, at what is promised at each instant.
type watch struct {
	w       *world
	limits  limits
	allowed atomic.Int64 // the tenant's limit; raised before control is asked to
	patient bool         // the API may be away

	changes, samples int // of the provider's ledger; of ours
	worst            int64
	complaints       int // of the figures
	stop             context.CancelFunc
	all              sync.WaitGroup
}

// watch begins to look.
func (w *world) watch(l limits, patient bool) *watch {
	ctx, stop := context.WithCancel(w.t.Context())
	v := &watch{w: w, limits: l, patient: patient, stop: stop}
	v.allowed.Store(l.tenant.Tokens)
	v.all.Go(func() { v.provider(ctx) })
	v.all.Go(func() { v.ledger(ctx) })
	return v
}

// end ends it.
func (v *watch) end() {
	v.w.t.Helper()
	v.stop()
	v.all.Wait()
	v.w.t.Logf("looked at %d changes of the provider's count and at %d states of ours; at most %d tokens were held or used", v.changes, v.samples, v.worst)
	if v.changes == 0 || v.samples == 0 {
		v.w.t.Error("nothing was looked at")
	}
}

// provider looks at each change of what is billed.
func (v *watch) provider(ctx context.Context) {
	over := func(fakellm.Entry) bool {
		v.changes++
		billed := v.w.provider.TotalBilled()
		allowed := v.allowed.Load() // after billed: it only grows
		if billed > allowed {
			v.w.t.Errorf("the provider has billed %d, and the limit is %d", billed, allowed)
		}
		return billed > allowed
	}
	_, _ = v.w.provider.Await(ctx, "", over) // until one of the two
}

// ledger looks at the API's figures. What was billed before they were read is
// held or used in them: neither falls below what is billed.
func (v *watch) ledger(ctx context.Context) {
	for tick := time.NewTicker(samplePause); ctx.Err() == nil; <-tick.C {
		billed := v.w.provider.TotalBilled()
		items, err := v.ask(ctx)
		switch {
		case err != nil && (ctx.Err() != nil || v.patient):
			continue
		case err != nil:
			v.w.t.Errorf("the API does not answer: %v", err)
			return
		case len(items) != 2:
			v.w.t.Errorf("there are limits %+v, want the two of this run", items)
			return
		}
		v.samples++
		for _, u := range items {
			v.look(u, billed)
		}
	}
}

func (v *watch) ask(ctx context.Context) ([]api.BudgetUsage, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return v.w.ask(ctx)
}

func (v *watch) look(u api.BudgetUsage, billed int64) {
	taken := u.Used + u.Reserved
	v.worst = max(v.worst, taken)
	what := ""
	switch {
	case taken > u.Ceiling || u.Ceiling != u.Limit:
		what = "used and reserved exceed their ceiling, which is the limit"
	case taken+u.Available != u.Limit:
		what = "used, reserved and available are not the limit"
	case u.Overrun != 0:
		what = "there is overrun, though the provider keeps to the limits"
	case taken < billed:
		what = "less is held or used than the provider has billed"
	default:
		return
	}
	if v.complaints++; v.complaints <= maxComplaints {
		v.w.t.Errorf("%s: %+v; billed before: %d", what, u, billed)
	}
}

package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Bounds of the Rego that runs here.
const (
	maxTrials  = 2                // sets that are looked at at once
	trialWait  = 5 * time.Second  // for a place
	trialLimit = 10 * time.Second // for looking at one set
)

var (
	errBusy    = errors.New("as many policy sets are being checked as may be at once")
	errTooSlow = fmt.Errorf("compiling the Rego and running its tests did not end in %v", trialLimit)
)

// trial bounds the work that other people's Rego makes.
type trial struct {
	places chan struct{} // one element for each set that is looked at
	wait   time.Duration
	limit  time.Duration
}

func newTrial() *trial {
	return &trial{places: make(chan struct{}, maxTrials), wait: trialWait, limit: trialLimit}
}

// run runs f, which ends with its ctx as far as it can. errBusy without a place,
// errTooSlow after the limit, else ctx's error or f's.
//
// A compiler can't be stopped, so that f may go on after run has returned. It
// keeps its place until it has ended: there is never more than maxTrials of it.
// How long that may be is bounded by how much Check lets be compiled.
func (t *trial) run(ctx context.Context, f func(context.Context) (Findings, error)) (Findings, error) {
	if err := t.enter(ctx); err != nil {
		return Findings{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, t.limit, errTooSlow)
	defer cancel()
	done := make(chan result, 1)
	go func() {
		defer func() { <-t.places }()
		done <- guarded(ctx, f)
	}()
	select {
	case r := <-done:
		if r.err != nil && ctx.Err() != nil {
			return Findings{}, context.Cause(ctx)
		}
		return r.findings, r.err
	case <-ctx.Done():
		return Findings{}, context.Cause(ctx)
	}
}

// enter waits for a place.
func (t *trial) enter(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, t.wait, errBusy)
	defer cancel()
	select {
	case t.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

type result struct {
	findings Findings
	err      error
}

// guarded makes an error of a panic: Rego that breaks its compiler must not end
// the process, and there is no caller on this goroutine to recover.
func guarded(ctx context.Context, f func(context.Context) (Findings, error)) (r result) {
	defer func() {
		if p := recover(); p != nil {
			r = result{err: fmt.Errorf("checking a policy set: panic: %v", p)}
		}
	}()
	r.findings, r.err = f(ctx)
	return r
}

// Package meshlimit owns the sidecar's side of limits that the whole mesh
// counts: control is asked, and what it can't answer is decided here.
//
// It refuses to open: a limit that can't be asked denies, or is counted by this
// sidecar alone, at its share of the rate; anonymous callers are denied. A
// refusal is remembered until it is over, an allowance never. A request passes
// all of its limits or consumes nothing, whoever counts them.
//
// At most maxInFlight requests ask at a time, each for at most askTimeout;
// beyond that they are decided here at once. A Limits is safe for concurrent
// use; one mutex guards what is remembered, and is not held while asking.
package meshlimit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/ratelimit"
)

const (
	// askTimeout bounds the wait for control.
	askTimeout = 25 * time.Millisecond
	// maxInFlight is the number of requests that may wait for control.
	maxInFlight = 256
	// denyRetry is the advice while control can't be asked.
	denyRetry = time.Second
)

// Causes of a decision without control, besides the Asker's errors.
var (
	// ErrBusy means that maxInFlight requests wait for control already.
	ErrBusy = errors.New("meshlimit: too many requests wait for control")
	// ErrAnswer means that control's answer makes no sense.
	ErrAnswer = errors.New("meshlimit: control's answer is malformed")
)

// Ask is one limit of the mesh that a request has to pass.
type Ask struct {
	ratelimit.Ask
	OnError config.OnError
}

// Asker asks control.
type Asker interface {
	// TakeRate decides a request of tenant, "" where its principal has none, by
	// all of asks. It returns the state of the ask that binds, and its index:
	// of the result, Limit, Count, Per and Burst may be left out. An error means
	// that nothing was decided. It returns when ctx ends, at the latest.
	TakeRate(ctx context.Context, tenant string, asks []ratelimit.Ask) (ratelimit.Result, int, error)
}

// Source says who decided a request.
type Source string

// The sources.
const (
	SourceControl  Source = "control"
	SourceMemory   Source = "memory"   // a refusal of control's that still holds
	SourceFallback Source = "fallback" // control could not be asked
)

// Options are what Limits need.
type Options struct {
	Ask Asker
	// Connected is the number of sidecars that share the limits; below 1 counts
	// as 1.
	Connected func() int
	// Observe is told of each decision; err is why control was not asked, or
	// did not answer, for SourceFallback. It must not block.
	Observe func(s Source, allowed bool, err error)
}

// Limits decide by limits of the mesh. Make them with New.
type Limits struct {
	o        Options
	inFlight chan struct{}
	share    *ratelimit.Limiter // counts while control can't be asked

	mu       sync.Mutex // guards refusals
	refusals refusals
}

// New returns limits that remember nothing.
func New(o Options) *Limits {
	return &Limits{
		o: o, inFlight: make(chan struct{}, maxInFlight), share: ratelimit.New(),
		refusals: refusals{held: make(map[ratelimit.Ask]refusal)},
	}
}

// Take decides a request at now by all of asks and consumes their costs if it
// passes every one. No asks means allowed.
func (l *Limits) Take(ctx context.Context, now time.Time, tenant string, anonymous bool, asks []Ask) ratelimit.Result {
	if len(asks) == 0 {
		return ratelimit.Result{Allowed: true}
	}
	own := within(tenant, asks)
	if res, held := l.remembered(now, own); held {
		l.o.Observe(SourceMemory, false, nil)
		return res
	}
	res, which, err := l.ask(ctx, tenant, asks)
	if err != nil {
		res = l.fallBack(now, anonymous, own)
		l.o.Observe(SourceFallback, res.Allowed, err)
		return res
	}
	if !res.Allowed {
		l.remember(now, own[which].Ask, res)
	}
	l.o.Observe(SourceControl, res.Allowed, nil)
	return res
}

// within are the same asks by the counters of a tenant: control counts apart for
// each, and so does what is remembered and counted here, or at a shared sidecar
// one tenant's use would refuse the others.
func within(tenant string, asks []Ask) []Ask {
	own := slices.Clone(asks)
	for i := range own {
		own[i].Key = ratelimit.Key(tenant, own[i].Key)
	}
	return own
}

func (l *Limits) remembered(now time.Time, asks []Ask) (ratelimit.Result, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusals.find(now, asks)
}

// remember keeps a refusal. It counts from before control was asked: what is
// over too early is asked again, what is over too late would refuse too much.
func (l *Limits) remember(now time.Time, a ratelimit.Ask, res ratelimit.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusals.add(now, a, res)
}

// ask asks control, where not too many do.
func (l *Limits) ask(ctx context.Context, tenant string, asks []Ask) (ratelimit.Result, int, error) {
	select {
	case l.inFlight <- struct{}{}:
		defer func() { <-l.inFlight }()
	default:
		return ratelimit.Result{}, 0, ErrBusy
	}
	plain := make([]ratelimit.Ask, len(asks))
	for i := range asks {
		plain[i] = asks[i].Ask
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	res, which, err := l.o.Ask.TakeRate(ctx, tenant, plain)
	if err != nil {
		return ratelimit.Result{}, 0, err
	}
	return complete(res, which, plain)
}

// complete checks an answer, and adds what we know of the limit ourselves.
func complete(res ratelimit.Result, which int, asks []ratelimit.Ask) (ratelimit.Result, int, error) {
	if which < 0 || which >= len(asks) || res.Remaining < 0 || res.Reset < 0 || res.RetryAfter < 0 {
		return ratelimit.Result{}, 0, ErrAnswer
	}
	a := &asks[which]
	res.Limit, res.Count, res.Per, res.Burst = a.Rule, a.Count, a.Per, a.Burst
	return res, which, nil
}

// fallBack decides without control: any limit that denies then denies the
// request, before anything is taken; else all count this sidecar's share.
func (l *Limits) fallBack(now time.Time, anonymous bool, asks []Ask) ratelimit.Result {
	connected := max(l.o.Connected(), 1)
	shares := make([]ratelimit.Ask, len(asks))
	for i := range asks {
		a := asks[i].Ask
		if anonymous || asks[i].OnError != config.OnErrorLocal {
			return denial(&a)
		}
		a.Count, a.Burst = max(a.Count/connected, 1), max(a.Burst/connected, 1)
		shares[i] = a
	}
	return l.share.Take(now, shares)
}

func denial(a *ratelimit.Ask) ratelimit.Result {
	return ratelimit.Result{Limit: a.Rule, Count: a.Count, Per: a.Per, Burst: a.Burst, Reset: denyRetry, RetryAfter: denyRetry}
}

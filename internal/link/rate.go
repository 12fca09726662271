package link

import (
	"context"
	"errors"
	"time"

	"gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/ratelimit"
)

var errDown = errors.New("there is no line to control")

// TakeRate asks control to take from limits of the mesh, all or none, for a
// principal of a tenant. The result is that of the ask whose index is returned.
// Without a line it fails at once.
func (l *Line) TakeRate(ctx context.Context, tenant string, asks []ratelimit.Ask) (ratelimit.Result, int, error) {
	if !l.Up() {
		return ratelimit.Result{}, 0, errDown
	}
	req := &sidecarpb.TakeRateRequest{Tenant: tenant, Asks: make([]*sidecarpb.RateAsk, len(asks))}
	for i, a := range asks {
		req.Asks[i] = &sidecarpb.RateAsk{
			Rule: a.Rule, Key: a.Key, Count: int64(a.Count), PerMs: a.Per.Milliseconds(), Burst: int64(a.Burst), Cost: int64(a.Cost),
		}
	}
	r, err := l.client.TakeRate(ctx, req)
	if err != nil {
		return ratelimit.Result{}, 0, err
	}
	i := int(r.GetAsk())
	if i < 0 || i >= len(asks) {
		return ratelimit.Result{}, 0, errors.New("control answered for a limit that was not asked")
	}
	a := asks[i]
	ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
	return ratelimit.Result{
		Allowed: r.GetAllowed(), Limit: a.Rule, Count: a.Count, Per: a.Per, Burst: a.Burst,
		Remaining: int(r.GetRemaining()), Reset: ms(r.GetResetMs()), RetryAfter: ms(r.GetRetryAfterMs()),
	}, i, nil
}

package sync

import (
	"context"
	"math"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/mesh"
	"gatehouse/internal/ratelimit"
)

// Bounds of deciding a rate.
const (
	takeTimeout = 50 * time.Millisecond // of a decision, and of asking who wants it
	maxTakes    = 512                   // decisions at once; more are refused, none waits
	maxRule     = 256                   // bytes of a rule's name
	maxKey      = 4096                  // bytes of a counter's key
)

// errBusy is the answer to a call that finds all places taken.
var errBusy = status.Error(codes.ResourceExhausted, "too many rates are being decided")

// takeRate decides, if there is a place to, within takeTimeout.
func (s *Server) takeRate(ctx context.Context, r *pb.TakeRateRequest) (*pb.TakeRateResponse, error) {
	select {
	case s.takes <- struct{}{}:
		defer func() { <-s.takes }()
	default:
		return nil, errBusy
	}
	ctx, cancel := context.WithTimeout(ctx, takeTimeout)
	defer cancel()
	return s.take(ctx, callerOf(ctx).sidecar, r)
}

// take decides. The key of an ask is the sidecar's own affair, within a tenant:
// no sidecar can use up what another tenant's count. That one policy set's keys
// don't meet another's is the affair of Rates.
func (s *Server) take(ctx context.Context, sidecar mesh.Sidecar, r *pb.TakeRateRequest) (*pb.TakeRateResponse, error) {
	if t := r.GetTenant(); !sidecar.Shared && t != "" && t != sidecar.Tenant && t != everyTenant {
		return nil, status.Error(codes.PermissionDenied, "the tenant is not the sidecar's")
	}
	asks, err := asksOf(r)
	if err != nil {
		return nil, err
	}
	for i := range asks {
		asks[i].Key = ratelimit.Key(countedFor(sidecar, r.GetTenant()), asks[i].Key)
	}
	if s.opts.Rates == nil {
		return nil, status.Error(codes.Unavailable, "no rate of the whole mesh is decided here")
	}
	result, ask, err := s.opts.Rates.Take(ctx, sidecar.PolicySet, asks)
	if err != nil || ask < 0 || ask >= len(asks) {
		s.opts.Log.Debug("sync: a rate was not decided", "sidecar", sidecar.ID, "error", err)
		return nil, status.Error(codes.Unavailable, "the rate was not decided")
	}
	return &pb.TakeRateResponse{
		Allowed: result.Allowed, Ask: int32(ask), Remaining: int64(result.Remaining),
		ResetMs: roundUp(result.Reset), RetryAfterMs: roundUp(result.RetryAfter),
	}, nil
}

// countedFor is the tenant whose counters a request counts on: the sidecar's own,
// or at a shared one that of the request's principal.
func countedFor(sidecar mesh.Sidecar, tenant string) string {
	if sidecar.Shared {
		return tenant
	}
	return sidecar.Tenant
}

// asksOf reads the asks of a request. What one of them is out of range in, is
// not said: no sidecar sends such.
func asksOf(r *pb.TakeRateRequest) ([]ratelimit.Ask, error) {
	if n := len(r.GetAsks()); n < 1 || n > mesh.MaxRateAsks {
		return nil, status.Errorf(codes.InvalidArgument, "want 1 to %d asks", mesh.MaxRateAsks)
	}
	asks := make([]ratelimit.Ask, len(r.GetAsks()))
	for i, a := range r.GetAsks() {
		var ok bool
		if asks[i], ok = askOf(a); !ok {
			return nil, status.Errorf(codes.InvalidArgument, "ask %d is out of range", i)
		}
	}
	return asks, nil
}

// askOf reads one ask, and reports whether control counts such.
func askOf(a *pb.RateAsk) (ratelimit.Ask, bool) {
	if n := len(a.GetRule()); n < 1 || n > maxRule || len(a.GetKey()) > maxKey {
		return ratelimit.Ask{}, false
	}
	// A time that has no room in a Duration is beyond all bounds.
	if ms := a.GetPerMs(); ms < 1 || ms > ratelimit.MaxMeshPer.Milliseconds() {
		return ratelimit.Ask{}, false
	}
	ask := ratelimit.Ask{
		Rule: a.GetRule(), Key: a.GetKey(), Count: int(a.GetCount()), Per: time.Duration(a.GetPerMs()) * time.Millisecond,
		Burst: int(a.GetBurst()), Cost: int(a.GetCost()),
	}
	return ask, ask.CheckMesh() == nil
}

// roundUp is d in whole milliseconds: who waits that long, waits long enough.
func roundUp(d time.Duration) int64 {
	return int64(math.Ceil(float64(d) / float64(time.Millisecond)))
}

package link

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/ratelimit"
)

func asks() []ratelimit.Ask {
	return []ratelimit.Ask{
		{Rule: "a", Key: "k1", Count: 5, Per: time.Minute, Burst: 2},
		{Rule: "b", Key: "k2", Count: 7, Per: time.Second, Burst: 3, Cost: 2},
	}
}

func TestTakeRate(t *testing.T) {
	t.Parallel()
	b := onLoopback(t)
	b.welcomed()
	var asked *sidecarpb.TakeRateRequest
	b.server.OnTakeRate(func(r *sidecarpb.TakeRateRequest) (*sidecarpb.TakeRateResponse, error) {
		asked = r
		return &sidecarpb.TakeRateResponse{Allowed: false, Ask: 1, Remaining: 1, ResetMs: 1500, RetryAfterMs: 250}, nil
	})
	got, i, err := b.line.TakeRate(t.Context(), "org1", asks())
	check(t, err)
	want := ratelimit.Result{Limit: "b", Count: 7, Per: time.Second, Burst: 3, Remaining: 1, Reset: 1500 * time.Millisecond, RetryAfter: 250 * time.Millisecond}
	if diff := cmp.Diff(want, got); diff != "" || i != 1 {
		t.Errorf("ask %d (-want +got):\n%s", i, diff)
	}
	wantAsked := &sidecarpb.TakeRateRequest{Tenant: "org1", Asks: []*sidecarpb.RateAsk{
		{Rule: "a", Key: "k1", Count: 5, PerMs: 60000, Burst: 2}, {Rule: "b", Key: "k2", Count: 7, PerMs: 1000, Burst: 3, Cost: 2},
	}}
	if diff := cmp.Diff(wantAsked, asked, protocmp.Transform()); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

// What control can't have meant is no answer, and lets nothing pass.
func TestTakeRateRefusesBadAnswers(t *testing.T) {
	t.Parallel()
	b := onLoopback(t)
	b.welcomed()
	denied := status.Error(codes.PermissionDenied, "the tenant is not the sidecar's")
	for name, c := range map[string]struct {
		answer *sidecarpb.TakeRateResponse
		err    error
	}{
		"an ask too many": {answer: &sidecarpb.TakeRateResponse{Allowed: true, Ask: 2}},
		"an ask below":    {answer: &sidecarpb.TakeRateResponse{Allowed: true, Ask: -1}},
		"an error":        {err: denied},
	} {
		b.server.OnTakeRate(func(*sidecarpb.TakeRateRequest) (*sidecarpb.TakeRateResponse, error) { return c.answer, c.err })
		got, _, err := b.line.TakeRate(t.Context(), "org2", asks())
		if err == nil || got.Allowed || status.Code(err) != status.Code(c.err) && c.err != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// Without a line nobody waits for control.
func TestTakeRateWithoutALine(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bed) {
		b.server.Next() // not welcomed
		start := time.Now()
		if r, _, err := b.line.TakeRate(b.t.Context(), "org1", asks()); !errors.Is(err, errDown) || r.Allowed {
			b.t.Errorf("got %+v, %v", r, err)
		}
		if took := time.Since(start); took != 0 {
			b.t.Errorf("took %s", took)
		}
	})
}

package sync

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/mesh"
	"gatehouse/internal/ratelimit"
)

func oneAsk(tenant string) *pb.TakeRateRequest {
	return &pb.TakeRateRequest{Tenant: tenant, Asks: []*pb.RateAsk{{Rule: "r", Key: "k", Count: 10, PerMs: 60000, Burst: 5}}}
}

func TestTakeRate(t *testing.T) {
	t.Parallel()
	r := serve(t, newWorld(t), nil)
	r.register(ada("p"))
	r.do(func() {
		r.result = ratelimit.Result{Remaining: 4, Reset: 1500 * time.Microsecond, RetryAfter: 2 * time.Millisecond}
		r.binds = 1
	})
	request := oneAsk("org1")
	request.Asks = append(request.Asks, &pb.RateAsk{Rule: "s", Key: "l", Count: ratelimit.MaxMeshUnits, PerMs: ratelimit.MaxMeshPer.Milliseconds(), Burst: ratelimit.MaxMeshUnits, Cost: ratelimit.MaxMeshUnits})
	got, err := r.dial(t).TakeRate(as(t.Context(), secretOf("ada")), request)
	if err != nil {
		t.Fatal(err)
	}
	want := &pb.TakeRateResponse{Ask: 1, Remaining: 4, ResetMs: 2, RetryAfterMs: 2}
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Errorf("answer (-want +got):\n%s", d)
	}
	asks := []ratelimit.Ask{
		{Rule: "r", Key: ratelimit.Key("org1", "k"), Count: 10, Per: time.Minute, Burst: 5},
		{Rule: "s", Key: ratelimit.Key("org1", "l"), Count: ratelimit.MaxMeshUnits, Per: ratelimit.MaxMeshPer, Burst: ratelimit.MaxMeshUnits, Cost: ratelimit.MaxMeshUnits},
	}
	if d := cmp.Diff(asks, r.asked); d != "" {
		t.Errorf("asked (-want +got):\n%s", d)
	}
	if r.called("Take p") != 1 {
		t.Error("not asked for the sidecar's policy set")
	}
}

func TestTakeRateOfWhichTenant(t *testing.T) {
	t.Parallel()
	r := serve(t, newWorld(t), nil)
	r.register(ada("p"))
	shared := ada("p")
	shared.Name, shared.Shared = "all", true
	r.register(shared)
	client := r.dial(t)
	for _, tt := range []struct {
		name, tenant string
		want         codes.Code
		counted      string // whose counters
	}{
		{"ada", "org1", codes.OK, "org1"},
		{"ada", "", codes.OK, "org1"},
		{"ada", "*", codes.OK, "org1"},
		{"ada", "org2", codes.PermissionDenied, ""},
		{"all", "org2", codes.OK, "org2"},
		{"all", "", codes.OK, ""},
	} {
		r.do(func() { r.asked = nil })
		if _, err := client.TakeRate(as(t.Context(), secretOf(tt.name)), oneAsk(tt.tenant)); status.Code(err) != tt.want {
			t.Errorf("%s asks for %q: %v, want %v", tt.name, tt.tenant, err, tt.want)
		}
		if tt.want != codes.OK {
			continue
		}
		r.do(func() {
			if len(r.asked) != 1 || r.asked[0].Key != ratelimit.Key(tt.counted, "k") {
				t.Errorf("%s for %q counts on %+v, want those of %q", tt.name, tt.tenant, r.asked, tt.counted)
			}
		})
	}
}

func TestTakeRateOutOfRange(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*pb.RateAsk){
		"no rule":        func(a *pb.RateAsk) { a.Rule = "" },
		"long rule":      func(a *pb.RateAsk) { a.Rule = strings.Repeat("r", maxRule+1) },
		"long key":       func(a *pb.RateAsk) { a.Key = strings.Repeat("k", maxKey+1) },
		"no count":       func(a *pb.RateAsk) { a.Count = 0 },
		"large count":    func(a *pb.RateAsk) { a.Count = ratelimit.MaxMeshUnits + 1 },
		"no period":      func(a *pb.RateAsk) { a.PerMs = 0 },
		"long period":    func(a *pb.RateAsk) { a.PerMs = ratelimit.MaxMeshPer.Milliseconds() + 1 },
		"no burst":       func(a *pb.RateAsk) { a.Burst = 0 },
		"large burst":    func(a *pb.RateAsk) { a.Burst = ratelimit.MaxMeshUnits + 1 },
		"negative cost":  func(a *pb.RateAsk) { a.Cost = -1 },
		"large cost":     func(a *pb.RateAsk) { a.Cost = ratelimit.MaxMeshUnits + 1 },
		"long burst":     func(a *pb.RateAsk) { a.Count, a.PerMs, a.Burst = 1, ratelimit.MaxMeshPer.Milliseconds(), 32 },
		"long cost":      func(a *pb.RateAsk) { a.Count, a.PerMs, a.Cost = 1, ratelimit.MaxMeshPer.Milliseconds(), 32 },
		"endless period": func(a *pb.RateAsk) { a.PerMs = math.MaxInt64 },
		"negative count": func(a *pb.RateAsk) { a.Count = -1 },
	} {
		request := oneAsk("")
		change(request.Asks[0])
		if _, err := asksOf(request); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want InvalidArgument", name, err)
		}
	}
	many := oneAsk("")
	for len(many.Asks) <= mesh.MaxRateAsks {
		many.Asks = append(many.Asks, many.Asks[0])
	}
	for name, request := range map[string]*pb.TakeRateRequest{"none": {}, "too many": many, "a nil one": {Asks: []*pb.RateAsk{nil}}} {
		if _, err := asksOf(request); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want InvalidArgument", name, err)
		}
	}
	many.Asks = many.Asks[:mesh.MaxRateAsks]
	if _, err := asksOf(many); err != nil {
		t.Errorf("as many as may be: %v", err)
	}
}

func TestTakeRateUndecided(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*world, *Options){
		"no rates":       func(_ *world, o *Options) { o.Rates = nil },
		"rates are away": func(w *world, _ *Options) { w.away["Take p"] = true },
		"a wrong answer": func(w *world, _ *Options) { w.binds = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := serve(t, w, func(o *Options) { w.do(func() { change(w, o) }) })
			r.register(ada("p"))
			if _, err := r.dial(t).TakeRate(as(t.Context(), secretOf("ada")), oneAsk("")); status.Code(err) != codes.Unavailable {
				t.Errorf("got %v, want Unavailable", err)
			}
		})
	}
}

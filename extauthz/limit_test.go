package extauthz

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/config"
	"gatehouse/internal/meshlimit"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/request"
	"gatehouse/internal/snapshot"
)

func TestNetwork(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::/64", "2001:db8:0:0:ffff::3": "2001:db8::/64", "2001:db8:0:1::": "2001:db8:0:1::/64",
		"::ffff:192.0.2.1": "::ffff:192.0.2.1", "fe80::1%eth0": "fe80::/64", "": "", "/run/app.sock": "/run/app.sock",
	} {
		if got := network(address); got != want {
			t.Errorf("%q: got %s, want %s", address, got, want)
		}
	}
}

// Whoever has no name is counted by network, and whoever is counted by address.
func TestAddressesInKeys(t *testing.T) {
	t.Parallel()
	named := request.Principal{Kind: request.KindToken, Issuer: "main", Subject: "alice"}
	for name, c := range map[string]struct {
		by   string
		p    request.Principal
		want []string
	}{
		"anonymous":          {"principal", request.Anonymous(), []string{"anonymous", "2001:db8::/64"}},
		"named":              {"principal", named, []string{"token", "main", "alice"}},
		"by address":         {"address", request.Anonymous(), []string{"2001:db8::/64"}},
		"named, by address ": {"address", named, []string{"2001:db8::/64"}},
	} {
		k := &check{in: &envoyRequest{}}
		k.Principal, k.in.Source.Address = c.p, "2001:db8::7"
		if got := k.appendKey(nil, c.by); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// others are the rest of the mesh: what they answer, and what they were asked.
type others struct {
	answer    ratelimit.Result
	calls     int
	tenant    string
	anonymous bool
	asks      []meshlimit.Ask
}

func (o *others) Take(_ context.Context, _ time.Time, tenant string, anonymous bool, asks []meshlimit.Ask) ratelimit.Result {
	o.calls++
	o.tenant, o.anonymous, o.asks = tenant, anonymous, asks
	return o.answer
}

// tenAnHour is a limit of ten an hour by tenant.
func tenAnHour(name string, scope config.Scope) config.Limit {
	l := config.Limit{Name: name, Key: []string{"tenant"}, Rate: config.Rate{Count: 10, Per: time.Hour}, Burst: 10, Scope: scope}
	if scope == config.ScopeMesh {
		l.OnError = config.OnErrorDeny
	}
	return l
}

// limited asks a server by limits, for a principal.
func limited(s *Server, p request.Principal, limits ...config.Limit) (*check, *Refusal) {
	c := &check{in: &envoyRequest{}, route: &snapshot.Route{Limits: limits}}
	c.Start, c.Principal = s.opts.Now(), p
	return c, s.limit(c)
}

func newLimited(mesh MeshLimits) *Server {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return New(Options{Limiter: ratelimit.New(), Mesh: mesh, Now: func() time.Time { return now }})
}

var dev = request.Principal{Kind: request.KindToken, Issuer: "main", Subject: "alice", Tenant: "org1"}

func TestMeshIsAskedAboutItsLimitsOnly(t *testing.T) {
	t.Parallel()
	o := &others{answer: ratelimit.Result{Allowed: true, Limit: "mesh", Count: 10, Per: time.Hour, Burst: 10, Remaining: 3}}
	s := newLimited(o)
	c, r := limited(s, dev, tenAnHour("mesh", config.ScopeMesh), tenAnHour("own", config.ScopeSidecar))
	if r != nil || o.calls != 1 || o.tenant != "org1" || o.anonymous {
		t.Fatalf("refusal %+v, asked %+v", r, o)
	}
	want := []meshlimit.Ask{{Ask: ratelimit.Ask{Rule: "mesh", Key: ratelimit.Key("mesh", "tenant", "org1"), Count: 10, Per: time.Hour, Burst: 10}, OnError: config.OnErrorDeny}}
	if d := cmp.Diff(want, o.asks); d != "" {
		t.Errorf("asks (-want +got):\n%s", d)
	}
	if c.limits != o.answer {
		t.Errorf("%+v is shown, want the tighter limit of the mesh", c.limits)
	}
	o.answer.Remaining = 9
	if c, _ := limited(s, dev, tenAnHour("mesh", config.ScopeMesh), tenAnHour("own", config.ScopeSidecar)); c.limits.Limit != "own" || c.limits.Remaining != 8 {
		t.Errorf("%+v is shown, want the tighter limit of our own", c.limits)
	}
	limited(s, request.Anonymous(), tenAnHour("mesh", config.ScopeMesh))
	if !o.anonymous || o.tenant != "" {
		t.Errorf("asked %+v, want an anonymous caller", o)
	}
}

// TestRefusalByTheMeshTakesNothing of our own limits either.
func TestRefusalByTheMeshTakesNothing(t *testing.T) {
	t.Parallel()
	o := &others{answer: ratelimit.Result{Limit: "mesh", Count: 10, Per: time.Hour, Burst: 10, RetryAfter: time.Minute}}
	s := newLimited(o)
	both := []config.Limit{tenAnHour("own", config.ScopeSidecar), tenAnHour("mesh", config.ScopeMesh)}
	for range 30 {
		c, r := limited(s, dev, both...)
		if r == nil || r.Class != ClassLimit || r.Rule != "mesh" || c.limits != o.answer {
			t.Fatalf("%+v by %+v, want a refusal by mesh", r, c.limits)
		}
		if h := r.headers[len(r.headers)-1]; h.Name != "retry-after" || h.Value != "60" {
			t.Errorf("last header %+v, want retry-after: 60", h)
		}
	}
	if c, r := limited(s, dev, both[0]); r != nil || c.limits.Remaining != 9 {
		t.Errorf("%+v by %+v, want 9 remaining", r, c.limits)
	}
}

// TestOwnLimitsComeFirst: what they refuse, the mesh is not asked about.
func TestOwnLimitsComeFirst(t *testing.T) {
	t.Parallel()
	o := &others{answer: ratelimit.Result{Allowed: true, Limit: "mesh"}}
	s := newLimited(o)
	both := []config.Limit{tenAnHour("mesh", config.ScopeMesh), tenAnHour("own", config.ScopeSidecar)}
	for i := range 15 {
		_, r := limited(s, dev, both...)
		if refused := r != nil; refused != (i >= 10) {
			t.Fatalf("request %d: %+v", i, r)
		}
	}
	if o.calls != 10 {
		t.Errorf("the mesh was asked %d times, want 10", o.calls)
	}
}

// TestNoMeshWithoutControl: the limit holds all the same.
func TestNoMeshWithoutControl(t *testing.T) {
	t.Parallel()
	s := newLimited(nil)
	for i := range 15 {
		_, r := limited(s, dev, tenAnHour("mesh", config.ScopeMesh))
		if refused := r != nil; refused != (i >= 10) {
			t.Fatalf("request %d: %+v", i, r)
		}
	}
}

// TestOwnLimitsAllocateAsTheyDid: one slice of asks, and a key for each with
// its parts; the mesh costs a route without its limits nothing.
func TestOwnLimitsAllocateAsTheyDid(t *testing.T) {
	s := newLimited(&others{})
	c := &check{in: &envoyRequest{}, route: &snapshot.Route{Limits: []config.Limit{tenAnHour("a", config.ScopeSidecar), tenAnHour("b", config.ScopeSidecar)}}}
	c.Start, c.Principal = s.opts.Now(), dev
	for i := range c.route.Limits {
		c.route.Limits[i].Burst = 1_000_000
	}
	if n := testing.AllocsPerRun(100, func() { s.limit(c) }); n > 5 {
		t.Errorf("%v allocations, want at most 5", n)
	}
}

func BenchmarkLimit(b *testing.B) {
	for name, scope := range map[string]config.Scope{"own": config.ScopeSidecar, "mesh": config.ScopeMesh} {
		b.Run(name, func(b *testing.B) {
			s := newLimited(&others{answer: ratelimit.Result{Allowed: true, Limit: "limit", Remaining: 1}})
			c := &check{in: &envoyRequest{}, route: &snapshot.Route{Limits: []config.Limit{tenAnHour("limit", scope)}}}
			c.route.Limits[0].Rate.Per = time.Second
			c.Start, c.Principal = s.opts.Now(), dev
			b.ReportAllocs()
			for b.Loop() {
				c.Start = c.Start.Add(time.Second)
				if s.limit(c) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}

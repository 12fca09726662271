package sync

import (
	"context"
	"maps"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/mesh"
)

// registrar is breakers in memory, beside a world whose lock guards it.
type registrar struct {
	*world
	orders  map[string][]mesh.BreakerOrder
	reports map[string]mesh.BreakerReport
}

func newRegistrar(w *world) *registrar {
	return &registrar{w, map[string][]mesh.BreakerOrder{}, map[string]mesh.BreakerReport{}}
}

func (r *registrar) ReportBreakers(ctx context.Context, reports map[string]mesh.BreakerReport) error {
	if err := r.ask(ctx, "ReportBreakers"); err != nil {
		return err
	}
	r.do(func() { maps.Copy(r.reports, reports) })
	return nil
}

func (r *registrar) BreakerOrders(ctx context.Context) (out map[string][]mesh.BreakerOrder, err error) {
	err = r.ask(ctx, "BreakerOrders")
	r.do(func() { out = maps.Clone(r.orders) })
	return out, err
}

func (r *registrar) order(set string, orders ...mesh.BreakerOrder) {
	r.change("circuit_breaker_state", func() { r.orders[set] = orders })
}

func (r *registrar) reported(id string) (out mesh.BreakerReport) {
	r.do(func() { out = r.reports[id] })
	return out
}

func TestBreakersOfAStatus(t *testing.T) {
	t.Parallel()
	closed := &pb.Breaker{Name: "app", Phase: "closed", ConsecutiveFailures: 2, TotalFailures: 3, TotalCalls: 40, CalledMsAgo: 250, Failures: 5, RecoveryMs: 30_000}
	open := &pb.Breaker{
		Name: "other", Phase: "open", ConsecutiveFailures: 5, TotalFailures: 5, TotalCalls: 5, OpenedMsAgo: 4000, ProbeInMs: 26_000,
		CalledMsAgo: 1, Ordered: true, Order: 9,
	}
	app := mesh.BreakerState{
		Name: "app", Phase: mesh.BreakerClosed, Consecutive: 2, Failures: 3, Calls: 40, CalledAt: start.Add(-250 * time.Millisecond),
		Threshold: 5, Recovery: 30 * time.Second,
	}
	other := mesh.BreakerState{
		Name: "other", Phase: mesh.BreakerOpen, Consecutive: 5, Failures: 5, Calls: 5, OpenedAt: start.Add(-4 * time.Second),
		NextProbe: start.Add(26 * time.Second), CalledAt: start.Add(-time.Millisecond), Ordered: true, Order: 9,
	}
	wild := &pb.Breaker{
		Name: "wild", Phase: "half_open", ConsecutiveFailures: -1, TotalFailures: math.MaxInt64, TotalCalls: -5, OpenedMsAgo: -1, ProbeInMs: math.MaxInt64,
		CalledMsAgo: math.MinInt64, Order: -1, Failures: -1, RecoveryMs: math.MinInt64,
	}
	tamed := mesh.BreakerState{
		Name: "wild", Phase: mesh.BreakerHalfOpen, OpenedAt: start.Add(-time.Millisecond), NextProbe: start.Add(longestSpan),
	}
	for name, tt := range map[string]struct {
		said []*pb.Breaker
		want []mesh.BreakerState
	}{
		"as they are":             {[]*pb.Breaker{closed, open}, []mesh.BreakerState{app, other}},
		"twice":                   {[]*pb.Breaker{closed, {Name: "app", Phase: "open"}}, []mesh.BreakerState{app}},
		"a phase of later builds": {[]*pb.Breaker{{Name: "x", Phase: "ajar"}, closed}, []mesh.BreakerState{app}},
		"no name":                 {[]*pb.Breaker{{Name: "A b\x00", Phase: "open"}, {Phase: "open"}, closed}, []mesh.BreakerState{app}},
		"out of range":            {[]*pb.Breaker{wild}, []mesh.BreakerState{tamed}},
	} {
		s := newSession(known("p"), beatWithin)
		h := mustTake(t, s, start, helloOf(&pb.Status{Breakers: tt.said}))
		want := &mesh.BreakerReport{PolicySet: "p", Incarnation: 7, At: start, Breakers: tt.want}
		if diff := cmp.Diff(want, h.breakers); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if h := mustTake(t, newSession(known("p"), beatWithin), start, helloOf(&pb.Status{})); h.breakers != nil {
		t.Errorf("of no breakers: %+v", h.breakers)
	}
	if h := mustTake(t, newSession(bound("p"), beatWithin), start, helloOf(&pb.Status{Breakers: []*pb.Breaker{closed}})); h.breakers != nil {
		t.Errorf("of a set that is not known: %+v", h.breakers)
	}
	_, err := newSession(known("p"), beatWithin).take(start, helloOf(&pb.Status{Breakers: make([]*pb.Breaker, mesh.MaxBreakers+1)}))
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("too many: %v", err)
	}
}

// orderView is a view with orders for the set p.
func orderView(orders ...mesh.BreakerOrder) *view {
	v := viewOf(1, revisionKey{"p", 1, fakeID(1)}, revisionKey{"q", 1, fakeID(1)})
	m, _ := newOrdersMessage(orders)
	none, _ := newOrdersMessage(nil)
	v.orders = map[string]*ordersMessage{"p": m, "q": none}
	return v
}

// TestOrdersAreState: they come once, again when they change, and those of
// another set when the sidecar moves.
func TestOrdersAreState(t *testing.T) {
	t.Parallel()
	v := orderView(mesh.BreakerOrder{Name: "app", Open: 3})
	s := greeted(t, &pb.Status{Generation: 1, Revision: fakeID(1)})
	if d := cmp.Diff([]kind{sendWelcome, sendLive, sendOrders, sendBeat}, drive(s, start, v, start)); d != "" {
		t.Errorf("at first (-want +got):\n%s", d)
	}
	if got := drive(s, start, v, start); len(got) != 0 {
		t.Errorf("sent %v again", got)
	}
	v.orders = orderView().orders
	if d := cmp.Diff([]kind{sendOrders}, drive(s, start, v, start)); d != "" {
		t.Errorf("after a change (-want +got):\n%s", d)
	}
	to := bound("q")
	to.Version = 2
	s.rebind(to)
	if d := cmp.Diff([]kind{sendWelcome, sendOrders, sendRevision}, drive(s, start, v, start)); d != "" {
		t.Errorf("in another set (-want +got):\n%s", d)
	}
}

func TestOrdersMessage(t *testing.T) {
	t.Parallel()
	m, err := newOrdersMessage(append([]mesh.BreakerOrder{{Name: "a", Reset: 3}, {Name: "b", Reset: 4, Open: 5}}, make([]mesh.BreakerOrder, mesh.MaxBreakers)...))
	if err != nil {
		t.Fatal(err)
	}
	var down pb.Down
	if err := proto.Unmarshal(m.text, &down); err != nil {
		t.Fatal(err)
	}
	got := down.GetBreakers().GetOrders()
	if len(got) != mesh.MaxBreakers || got[0].GetName() != "a" || got[0].GetClose() != 3 || got[0].GetOpen() != 0 ||
		got[1].GetName() != "b" || got[1].GetClose() != 4 || got[1].GetOpen() != 5 {
		t.Errorf("%d orders, the first %v", len(got), got[:2])
	}
}

// TestOrdersThatCantBeHad: what was sent stays, beats go on, and the log says it
// once.
func TestOrdersThatCantBeHad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := newRegistrar(w)
	o := w.options()
	o.Breakers = r
	h := newHub(o, newRoster(w, nil))
	sets := map[string]int{"p": 1, "q": 1}
	r.order("p", mesh.BreakerOrder{Name: "app", Open: 3})
	first := h.orders(t.Context(), sets)
	h.view.Store(&view{orders: first})
	if again := h.orders(t.Context(), sets); !maps.Equal(first, again) {
		t.Error("what has not changed is another message")
	}
	w.do(func() { w.away["BreakerOrders"] = true })
	if held := h.orders(t.Context(), sets); !maps.Equal(first, held) || h.unasked == nil {
		t.Errorf("got %v and %v, want what was held, and why", held, h.unasked)
	}
	h.round(t.Context())
	if h.fresh.Load().IsZero() || h.fault == "" {
		t.Errorf("fresh since %s, fault %q, want beats and a word", h.fresh.Load(), h.fault)
	}
	w.do(func() { delete(w.away, "BreakerOrders") })
	r.order("p", mesh.BreakerOrder{Name: "app", Reset: 4})
	next := h.orders(t.Context(), sets)
	if next["p"] == first["p"] || next["q"] != first["q"] || h.unasked != nil {
		t.Errorf("got %v and %v, want p's alone to be another", next, h.unasked)
	}
}

// TestBreakersOverTheWire: what sidecars say is kept, and all of a set are told
// what is ordered, nobody else.
func TestBreakersOverTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := newRegistrar(w)
	run := serve(t, w, func(o *Options) { o.Breakers = r })
	s := ada("p")
	s.Last.Generation, s.Last.Revision = 1, fakeID(1)
	one := w.register(s)
	other := ada("q")
	other.Name = "eve"
	w.register(other)
	said := &pb.Status{Breakers: []*pb.Breaker{{Name: "app", Phase: "open", OpenedMsAgo: 1, ProbeInMs: 30_000}}}
	p, q := run.connect(t, "ada", 7, said), run.connect(t, "eve", 1, nil)
	for _, peer := range []*peer{p, q} {
		told := peer.settle()
		if len(told) < 3 || told[2].GetBreakers() == nil || len(told[2].GetBreakers().GetOrders()) != 0 {
			t.Errorf("at first: %v, want no orders third", told)
		}
	}
	eventually(t, "the report is kept", func() bool {
		got := r.reported(one.ID)
		return got.PolicySet == "p" && got.Incarnation == 7 && len(got.Breakers) == 1 && got.Breakers[0].Phase == mesh.BreakerOpen
	})
	r.order("p", mesh.BreakerOrder{Name: "app", Reset: 4})
	if got := p.next().GetBreakers().GetOrders(); len(got) != 1 || got[0].GetName() != "app" || got[0].GetClose() != 4 {
		t.Errorf("told %v", got)
	}
	r.order("q", mesh.BreakerOrder{Name: "db", Open: 5})
	if got := q.next().GetBreakers().GetOrders(); len(got) != 1 || got[0].GetName() != "db" {
		t.Errorf("the other set is told %v", got)
	}
}

// TestBreakerReportsWait while they can't be kept, the newest of each sidecar.
func TestBreakerReportsWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := newRegistrar(w)
	w.away["ReportBreakers"] = true
	b := newBreakerReports(r, w.options().Log)
	at := func(incarnation int64, second int) mesh.BreakerReport {
		return mesh.BreakerReport{Incarnation: incarnation, At: start.Add(time.Duration(second) * time.Second)}
	}
	b.put("a", at(2, 1))
	b.flush(t.Context())
	b.put("a", at(1, 9)) // of an older process
	w.do(func() { delete(w.away, "ReportBreakers") })
	b.flush(t.Context())
	if got := r.reported("a"); got.Incarnation != 2 {
		t.Errorf("kept %+v, want that of the newer process", got)
	}
	none := newBreakerReports(nil, w.options().Log)
	none.put("a", at(1, 1))
	none.flush(t.Context())
	if len(none.pending) != 0 {
		t.Errorf("%d reports wait for nobody", len(none.pending))
	}
}

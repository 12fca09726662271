package sync

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/mesh"
	"gatehouse/internal/rawgrpc"
)

// longestSpan bounds how far from now a sidecar may say that something is.
const longestSpan = 365 * 24 * time.Hour

// breakers is what a status says of the sidecar's breakers; nil for nothing, and
// while it is not known of which policy set a status is.
func (s *session) breakers(now time.Time, st *pb.Status) *mesh.BreakerReport {
	if !s.ofSet || len(st.GetBreakers()) == 0 {
		return nil
	}
	r := &mesh.BreakerReport{PolicySet: s.sidecar.PolicySet, Incarnation: s.report.Incarnation, At: now}
	seen := make(map[string]bool, len(st.GetBreakers()))
	for _, b := range st.GetBreakers() {
		state := breakerState(now, b)
		if state.Phase.Valid() && mesh.BreakerName(state.Name) && !seen[state.Name] {
			r.Breakers = append(r.Breakers, state)
			seen[state.Name] = true
		}
	}
	return r
}

// breakerState reads one breaker. Figures that can't be are brought into range:
// a sidecar may say what it wants of itself, and nothing else hangs on them.
func breakerState(now time.Time, b *pb.Breaker) mesh.BreakerState {
	calls := max(b.GetTotalCalls(), 0)
	out := mesh.BreakerState{
		Name: b.GetName(), Phase: mesh.BreakerPhase(b.GetPhase()),
		Consecutive: max(b.GetConsecutiveFailures(), 0), Failures: min(max(b.GetTotalFailures(), 0), calls), Calls: calls,
		CalledAt: ago(now, b.GetCalledMsAgo()), Ordered: b.GetOrdered(), Order: max(b.GetOrder(), 0),
		Threshold: int(max(b.GetFailures(), 0)), Recovery: span(b.GetRecoveryMs()),
	}
	if out.Phase != mesh.BreakerClosed {
		out.OpenedAt, out.NextProbe = ago(now, max(b.GetOpenedMsAgo(), 1)), now.Add(span(b.GetProbeInMs()))
	}
	return out
}

// ago is the time so many milliseconds before now; the zero time for 0.
func ago(now time.Time, ms int64) time.Time {
	if ms <= 0 {
		return time.Time{}
	}
	return now.Add(-span(ms))
}

func span(ms int64) time.Duration {
	return time.Duration(min(max(ms, 0), longestSpan.Milliseconds())) * time.Millisecond
}

func newBreakerReports(b Breakers, log *slog.Logger) *reports[mesh.BreakerReport] {
	store := func(context.Context, map[string]mesh.BreakerReport) error { return nil }
	if b != nil {
		store = b.ReportBreakers
	}
	return &reports[mesh.BreakerReport]{
		what: "what sidecars report of breakers", store: store, log: log, pending: map[string]mesh.BreakerReport{},
		newer: func(a, b mesh.BreakerReport) bool {
			return newer(mesh.Report{Incarnation: a.Incarnation, At: a.At}, mesh.Report{Incarnation: b.Incarnation, At: b.At})
		},
	}
}

// ordersMessage is the orders for the breakers of a policy set, encoded. It is
// immutable.
type ordersMessage struct{ text rawgrpc.Message }

func newOrdersMessage(orders []mesh.BreakerOrder) (*ordersMessage, error) {
	out := &pb.BreakerOrders{}
	for _, o := range orders[:min(len(orders), mesh.MaxBreakers)] {
		out.Orders = append(out.Orders, &pb.BreakerOrder{Name: o.Name, Close: o.Reset, Open: o.Open})
	}
	text, err := proto.Marshal(&pb.Down{Message: &pb.Down_Breakers{Breakers: out}})
	if err != nil {
		return nil, fmt.Errorf("encode the orders for breakers: %w", err)
	}
	return &ordersMessage{text}, nil
}

// orders are those of the policy sets, for each a message, of no orders too: it
// takes back those before. Where they can't be had, those that were sent stay, and
// beats go on: what sidecars do without them is safe.
func (h *hub) orders(ctx context.Context, sets map[string]int) map[string]*ordersMessage {
	if h.breakers == nil {
		return nil
	}
	held := h.view.Load().orders
	all, err := h.breakers.BreakerOrders(ctx)
	if err != nil {
		h.unasked = fmt.Errorf("ask for the orders for breakers: %w", err)
		return held
	}
	h.unasked = nil
	out := make(map[string]*ordersMessage, len(sets))
	for set := range sets {
		m, err := newOrdersMessage(all[set])
		if err != nil {
			h.unasked = err
			continue
		}
		if old := held[set]; old != nil && bytes.Equal(old.text, m.text) {
			m = old
		}
		out[set] = m
	}
	return out
}

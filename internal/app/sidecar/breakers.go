package sidecar

import (
	"time"

	"gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/breaker"
)

// breakerChanged tells control that a breaker has opened or closed.
func (a *App) breakerChanged() {
	if a.control != nil {
		a.control.line.Changed()
	}
}

// Breakers puts control's orders for all breakers of the policy set in force.
func (m *control) Breakers(o *sidecarpb.BreakerOrders) {
	orders := make([]breaker.Order, len(o.GetOrders()))
	for i, order := range o.GetOrders() {
		orders[i] = breaker.Order{Name: order.GetName(), Reset: order.GetClose(), Open: order.GetOpen()}
	}
	m.app.breakers.Apply(orders)
	m.line.Changed() // that they were followed
}

// breakerReports are the breakers as control is told of them: what has a time of
// this machine says how long ago it was.
func breakerReports(states []breaker.State, now time.Time) []*sidecarpb.Breaker {
	out := make([]*sidecarpb.Breaker, len(states))
	for i, s := range states {
		out[i] = &sidecarpb.Breaker{
			Name: s.Name, Phase: string(s.Phase), ConsecutiveFailures: s.ConsecutiveFailures, TotalFailures: s.TotalFailures, TotalCalls: s.TotalCalls,
			OpenedMsAgo: ago(now, s.OpenedAt), ProbeInMs: untilProbe(now, s.NextProbe), CalledMsAgo: ago(now, s.LastCall),
			Ordered: s.Ordered, Order: s.Order, Failures: int32(s.Config.Failures), RecoveryMs: s.Config.Recovery.Milliseconds(),
		}
	}
	return out
}

// ago is how long before now something was, at least 1 ms; 0 for never.
func ago(now, at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return max(1, now.Sub(at).Milliseconds())
}

func untilProbe(now, at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return max(0, at.Sub(now).Milliseconds())
}

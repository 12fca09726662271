package breakers

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"gatehouse/internal/mesh"
)

// Times of a review.
const (
	calledWithin  = 60 * time.Second // sidecars that count
	figuresEvery  = 10 * time.Second // what is only counted is written
	forgottenIn   = 24 * time.Hour   // closed, and of no sidecar
	reportedSince = 15 * time.Second // of a sidecar that is connected: three beats
)

// Standing is a breaker of the mesh and the orders about it.
type Standing struct {
	mesh.Breaker
	Reset  int64 // the last order to close, 0 for none
	Opened int64 // the last order to open, 0 for none; in force while it is open
}

// Order is what sidecars are told.
func (s Standing) Order() mesh.BreakerOrder {
	o := mesh.BreakerOrder{Name: s.Name, Reset: s.Reset}
	if s.Phase == mesh.BreakerOpen {
		o.Open = s.Opened
	}
	return o
}

// next is the number of the next order.
func (s Standing) next(now time.Time) int64 { return max(s.Reset+1, s.Opened+1, now.UnixMilli()) }

// Close is the standing after an order to close all.
func (s Standing) Close(now time.Time) Standing {
	s.Reset = s.next(now)
	s.Phase, s.OpenedAt, s.NextProbe = mesh.BreakerClosed, time.Time{}, time.Time{}
	s.Open, s.HalfOpen, s.Consecutive = 0, 0, 0
	return s
}

// Bounds of who makes room for others.
const (
	rootedIn     = 2  // so many sidecars' breakers stay: as many as can open the mesh's
	maxDisplaced = 16 // by one review
)

// quorum is when the mesh has a breaker open: of the sidecars that called, so
// many found it failing.
func quorum(called, open int) bool { return open >= 2 && 2*open >= called }

// Outcome is what a review comes to.
type Outcome struct {
	Write []Standing // new, or other than they were
	Drop  []Standing // of which nobody knows any more
}

// key names a breaker.
type key struct{ set, name string }

func (s Standing) key() key { return key{s.PolicySet, s.Name} }

// Judge holds what sidecars that are connected reported against what stands.
func Judge(now time.Time, reports []mesh.BreakerReport, standing []Standing) Outcome {
	seen := tally(now, reports, standing)
	fresh, displaced := admitted(seen, standing)
	var out Outcome
	for _, before := range standing {
		after, known := seen[before.key()] // else nobody knows of it
		forgotten := !known && before.Phase == mesh.BreakerClosed && now.Sub(before.UpdatedAt) >= forgottenIn
		if forgotten || displaced[before.key()] {
			out.Drop = append(out.Drop, before)
			continue
		}
		if s, other := after.judge(now, before); other {
			out.Write = append(out.Write, s)
		}
	}
	for _, k := range fresh {
		s, _ := seen[k].judge(now, Standing{Breaker: mesh.Breaker{PolicySet: k.set, Name: k.name, Phase: mesh.BreakerClosed}})
		out.Write = append(out.Write, s)
	}
	return out
}

// admitted are the new breakers that there is room for in their policy sets, those of
// the most sidecars first, and the ones that make room: closed, and of so few that
// one of them may have made up the name.
func admitted(seen map[key]counted, standing []Standing) (fresh []key, displaced map[key]bool) {
	stands, held, weak := make(map[key]bool, len(standing)), map[string]int{}, map[string][]key{}
	for _, s := range standing {
		k := s.key()
		stands[k] = true
		held[k.set]++
		if s.Phase == mesh.BreakerClosed && seen[k].reporting < rootedIn {
			weak[k.set] = append(weak[k.set], k)
		}
	}
	fresh = slices.DeleteFunc(slices.Collect(maps.Keys(seen)), func(k key) bool { return stands[k] })
	slices.SortFunc(fresh, func(a, b key) int {
		return cmp.Or(cmp.Compare(seen[b].reporting, seen[a].reporting), cmp.Compare(a.set, b.set), cmp.Compare(a.name, b.name))
	})
	displaced = map[key]bool{}
	return slices.DeleteFunc(fresh, func(k key) bool {
		switch {
		case held[k.set] < mesh.MaxBreakers:
			held[k.set]++
		case seen[k].reporting >= rootedIn && len(weak[k.set]) > 0 && len(displaced) < maxDisplaced:
			displaced[weak[k.set][0]], weak[k.set] = true, weak[k.set][1:]
		default:
			return true
		}
		return false
	}), displaced
}

// counted is what all sidecars together say of one breaker.
type counted struct {
	reporting            int
	called, open, half   int
	consecutive          int64
	failures, calls      int64
	nextProbe, thenceFor time.Time // of any that is not closed; of the report that threshold and recovery are of
	threshold            int
	recovery             time.Duration
}

func tally(now time.Time, reports []mesh.BreakerReport, standing []Standing) map[key]counted {
	resets := make(map[key]int64, len(standing))
	for _, s := range standing {
		resets[s.key()] = s.Reset
	}
	seen := map[key]counted{}
	for _, r := range reports {
		for _, b := range r.Breakers {
			k := key{r.PolicySet, b.Name}
			seen[k] = seen[k].add(now, r.At, b, resets[k])
		}
	}
	return seen
}

// add counts one sidecar. What it says of before the last reset is no evidence.
func (c counted) add(now, at time.Time, b mesh.BreakerState, reset int64) counted {
	c.reporting++
	c.failures, c.calls = plus(c.failures, b.Failures), plus(c.calls, b.Calls)
	if at.After(c.thenceFor) {
		c.thenceFor, c.threshold, c.recovery = at, b.Threshold, b.Recovery
	}
	if b.CalledAt.IsZero() || now.Sub(b.CalledAt) > calledWithin {
		return c
	}
	c.called++
	if b.Order < reset {
		return c
	}
	c.consecutive = max(c.consecutive, b.Consecutive)
	if b.Phase == mesh.BreakerClosed {
		return c
	}
	if !b.Ordered {
		c.open++
	}
	if b.Phase == mesh.BreakerHalfOpen {
		c.half++
	}
	if c.nextProbe.IsZero() || b.NextProbe.Before(c.nextProbe) {
		c.nextProbe = b.NextProbe
	}
	return c
}

// plus adds two counts that are not negative, and stays a count.
func plus(a, b int64) int64 {
	const most = 1 << 61
	return min(min(a, most)+min(b, most), most)
}

// judge is what stands now, and whether it is to be written.
func (c counted) judge(now time.Time, before Standing) (Standing, bool) {
	s := before
	s.Called, s.Open, s.HalfOpen = c.called, c.open, c.half
	s.Consecutive = c.consecutive
	if c.reporting > 0 {
		s.Failures, s.Calls, s.Threshold, s.Recovery = min(c.failures, c.calls), c.calls, c.threshold, c.recovery
	}
	switch open := quorum(c.called, c.open); {
	case open && before.Phase != mesh.BreakerOpen:
		s.Phase, s.OpenedAt, s.Opened = mesh.BreakerOpen, now, before.next(now)
	case !open:
		s.Phase, s.OpenedAt = mesh.BreakerClosed, time.Time{}
	}
	s.NextProbe = time.Time{}
	if s.Phase == mesh.BreakerOpen {
		s.NextProbe = c.nextProbe
	}
	turned := s.Phase != before.Phase
	age := now.Sub(before.UpdatedAt).Abs() // by two clocks
	due := age >= figuresEvery && c.reporting > 0
	thinner := s.Called != before.Called || s.Open != before.Open || s.HalfOpen != before.HalfOpen
	return s, turned || due || thinner
}

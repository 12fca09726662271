package breaker

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is a breaker as people think of it: the calls whose results count, by
// name.
type model struct {
	open    bool
	fails   int
	probeAt time.Time
	counts  map[string]bool
	order   int64
}

func (m *model) turn(open bool, probeAt time.Time) {
	m.open, m.probeAt, m.counts = open, probeAt, map[string]bool{}
	if !open {
		m.fails = 0
	}
}

func (m *model) allow(now time.Time, call string) (bool, time.Duration) {
	if m.open {
		if now.Before(m.probeAt) {
			return false, m.probeAt.Sub(now)
		}
		m.turn(true, now.Add(recovery))
	}
	m.counts[call] = true
	return true, 0
}

func (m *model) done(now time.Time, call string, failed bool) {
	counts := m.counts[call]
	delete(m.counts, call)
	switch {
	case !counts:
	case !failed && m.open:
		m.turn(false, time.Time{})
	case !failed:
		m.fails = 0
	default:
		if m.fails++; m.open || m.fails >= config.Failures {
			m.turn(true, now.Add(recovery))
		}
	}
}

func (m *model) release(now time.Time, call string) {
	if m.open && m.counts[call] {
		m.turn(true, now)
	}
	delete(m.counts, call)
}

func (m *model) obey(now time.Time, o Order) {
	if o.Reset > m.order {
		m.turn(false, time.Time{})
	}
	if o.Open > m.order && !m.open {
		m.turn(true, now.Add(recovery))
	}
	m.order = max(m.order, o.Reset, o.Open)
}

func (m *model) phase() Phase {
	switch {
	case !m.open:
		return Closed
	case len(m.counts) > 0:
		return HalfOpen
	}
	return Open
}

// TestAnyHistory compares a Set with the model after each of random events.
func TestAnyHistory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_800_000_000, 0)
		s := newSet(Options{Now: func() time.Time { return now }}, func() gate { return &plain{} })
		m := &model{counts: map[string]bool{}}
		var last Order
		call := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
		t.Repeat(map[string]func(*rapid.T){
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(recovery)).Draw(t, "for")))
			},
			"allow": func(t *rapid.T) {
				c := call.Draw(t, "call")
				if len(s.breakers) == 0 {
					m.obey(now, last)
				}
				ok, wait := s.Allow("up", config, c)
				if wantOK, want := m.allow(now, c); ok != wantOK || wait != want {
					t.Fatalf("got %v after %v, want %v after %v", ok, wait, wantOK, want)
				}
			},
			"done": func(t *rapid.T) {
				c, failed := call.Draw(t, "call"), rapid.Bool().Draw(t, "failed")
				s.Done(c, failed)
				m.done(now, c, failed)
			},
			"release": func(t *rapid.T) {
				c := call.Draw(t, "call")
				s.Release(c)
				m.release(now, c)
			},
			"order": func(t *rapid.T) {
				if rapid.Bool().Draw(t, "anew") {
					last.Reset, last.Open = max(last.Reset, last.Open)+1, 0
				}
				if rapid.Bool().Draw(t, "to open") {
					last.Open = max(last.Reset, last.Open) + 1
				}
				last.Name = "up"
				s.Apply([]Order{last})
				if len(s.breakers) > 0 { // one that is made later follows it then
					m.obey(now, last)
				}
			},
			"": func(t *rapid.T) { compare(t, s, m) },
		})
	})
}

func compare(t *rapid.T, s *Set, m *model) {
	states := s.States()
	if len(states) == 0 {
		return
	}
	got := states[0]
	if got.Phase != m.phase() || !got.NextProbe.Equal(m.probeAt) || got.ConsecutiveFailures < int64(m.fails) ||
		got.Phase == Closed && got.ConsecutiveFailures != int64(m.fails) || got.TotalFailures > got.TotalCalls {
		t.Fatalf("got %+v, want %s after %d failures, probe at %s", got, m.phase(), m.fails, m.probeAt)
	}
}

func ids(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint("call ", i))
	}
	return out
}

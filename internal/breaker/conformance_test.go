package breaker

import (
	"crypto/rand"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/afex/hystrix-go/hystrix"
)

// gates are all implementations of gate: each returns n of them.
var gates = map[string]func(n int) []gate{
	"plain": func(n int) (out []gate) {
		for range n {
			out = append(out, &plain{})
		}
		return out
	},
	// hystrix's goroutines never end, so that its circuits are made outside of
	// the bubbles in which they are used.
	"hystrix": func(n int) (out []gate) {
		for range n {
			g := &circuit{name: "test/" + rand.Text()}
			g.made, _, _ = hystrix.GetCircuit(g.name)
			out = append(out, g)
		}
		return out
	},
	"stubborn": func(n int) (out []gate) {
		for range n {
			out = append(out, stubborn{})
		}
		return out
	},
}

// stubborn is a gate that never lets a probe through, and never tells why.
type stubborn struct{}

func (stubborn) trip(time.Time, time.Duration) {}
func (stubborn) probe(time.Time) bool          { return false }
func (stubborn) open()                         {}

// bed is a Set whose clock is that of a bubble.
type bed struct {
	*Set
	t       *testing.T
	turns   int
	patient time.Duration // how much later than its time a probe may be
}

// each runs a story on a Set with each kind of gate.
func each(t *testing.T, story func(b *bed)) {
	t.Helper()
	for name, make := range gates {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ready := make(4)
			synctest.Test(t, func(t *testing.T) {
				b := &bed{t: t}
				if name == "stubborn" {
					b.patient = recovery
				}
				b.Set = newSet(Options{Changed: func() { b.turns++ }}, func() gate {
					g := ready[0]
					ready = ready[1:]
					return g
				})
				story(b)
			})
		})
	}
}

const recovery = 10 * time.Second

var config = Config{Failures: 3, Recovery: recovery}

func pass(d time.Duration) { <-time.After(d) }

// allows wants a call to pass.
func (b *bed) allows(call string) {
	b.t.Helper()
	if ok, wait := b.Allow("up", config, call); !ok || wait != 0 {
		b.t.Fatalf("%s: got %v after %v, want it to pass", call, ok, wait)
	}
}

// refuses wants a call to be refused, and told how long to wait.
func (b *bed) refuses(call string, after time.Duration) {
	b.t.Helper()
	if ok, wait := b.Allow("up", config, call); ok || wait != after {
		b.t.Fatalf("%s: got %v after %v, want a refusal for %v", call, ok, wait, after)
	}
}

// is wants the breaker to be in a phase.
func (b *bed) is(want Phase) {
	b.t.Helper()
	for _, s := range b.States() {
		if s.Phase != want || (want == Closed) != s.OpenedAt.IsZero() || (want == Closed) != s.NextProbe.IsZero() {
			b.t.Fatalf("got %+v, want %s", s, want)
		}
	}
}

// fails opens the breaker.
func (b *bed) fails() {
	b.t.Helper()
	for i := range config.Failures {
		call := fmt.Sprint("failing ", i)
		b.allows(call)
		b.Done(call, true)
	}
	b.is(Open)
}

// recovers waits until a probe may pass.
func (b *bed) recovers() { pass(recovery + b.patient) }

func TestOpensAndCloses(t *testing.T) {
	t.Parallel()
	each(t, func(b *bed) {
		for range 3 { // each circuit as if it were new
			b.fails()
			b.refuses("early", recovery)
			pass(recovery - time.Second)
			b.refuses("almost", time.Second)
			pass(time.Second + b.patient)
			b.allows("probe")
			b.is(HalfOpen)
			b.refuses("beside the probe", recovery)
			b.Done("probe", false)
			b.is(Closed)
			b.allows("after")
			b.Done("after", false)
		}
		if b.turns != 9 {
			t.Errorf("told of %d turns, want 9", b.turns)
		}
	})
}

func TestFailuresInARow(t *testing.T) {
	t.Parallel()
	each(t, func(b *bed) {
		for i := range 20 {
			b.allows("x")
			b.Done("x", i%3 != 2) // two of three fail
		}
		b.is(Closed)
	})
}

// TestStaleResults: calls that began before the trip neither close the breaker
// nor keep it open, whenever they end.
func TestStaleResults(t *testing.T) {
	t.Parallel()
	each(t, func(b *bed) {
		for _, call := range []string{"stale 1", "stale 2", "stale 3", "stale 4", "stale 5"} {
			b.allows(call)
		}
		b.fails()
		b.Done("stale 1", false)
		b.refuses("x", recovery)
		pass(recovery / 2)
		b.Done("stale 2", true)
		b.refuses("x", recovery/2)
		pass(recovery/2 + b.patient)
		b.allows("probe")
		b.Done("stale 3", false)
		b.is(HalfOpen)
		b.Done("stale 4", true)
		b.is(HalfOpen)
		b.Done("probe", false)
		for range config.Failures - 1 {
			b.allows("x")
			b.Done("x", true)
		}
		b.Done("stale 5", true) // would be one more
		b.is(Closed)
	})
}

func TestProbeFails(t *testing.T) {
	t.Parallel()
	each(t, func(b *bed) {
		b.fails()
		since := b.States()[0].OpenedAt
		for range 3 {
			b.recovers()
			b.allows("probe")
			pass(time.Second)
			b.Done("probe", true)
			b.is(Open)
			b.refuses("after", recovery)
		}
		if got := b.States()[0]; !got.OpenedAt.Equal(since) || got.ConsecutiveFailures != 6 {
			t.Errorf("got %+v, want it open since %s after 6 failures", got, since)
		}
	})
}

// TestLostProbe: one whose end is never told is followed by another, and what
// it says afterwards does not count.
func TestLostProbe(t *testing.T) {
	t.Parallel()
	each(t, func(b *bed) {
		b.fails()
		b.recovers()
		b.allows("lost")
		pass(recovery - 1)
		b.refuses("early", 1)
		pass(1 + b.patient)
		b.allows("second")
		b.Done("lost", false)
		b.is(HalfOpen)
		b.Done("second", true)
		b.is(Open)
	})
}

// TestProbeGivenBack: one that came to nothing makes place for another at once.
func TestProbeGivenBack(t *testing.T) {
	t.Parallel()
	each(t, func(b *bed) {
		b.fails()
		b.recovers()
		b.allows("given back")
		b.Release("given back")
		b.is(Open)
		b.allows("second")
		b.Done("given back", false)
		b.is(HalfOpen)
		b.Done("second", false)
		b.is(Closed)
		b.allows("x")
		b.Release("x")
		if got := b.States()[0]; got.TotalCalls != 4 || got.TotalFailures != 3 {
			t.Errorf("got %+v, want 4 calls that ended, 3 of them failed", got)
		}
	})
}

func TestReset(t *testing.T) {
	t.Parallel()
	each(t, func(b *bed) {
		for i := range int64(3) {
			b.allows("stale")
			b.fails()
			b.Apply([]Order{{Name: "up", Reset: i + 1}})
			b.is(Closed)
			b.Done("stale", true)
			b.Apply([]Order{{Name: "up", Reset: i + 1}}) // said again
			b.fails()
			b.Apply([]Order{{Name: "up", Reset: i + 1}})
			b.is(Open) // it was not ordered anew
			b.recovers()
			b.allows("probe")
			b.Done("probe", false)
		}
	})
}

// TestOneProbe: of many that come at once, one passes.
func TestOneProbe(t *testing.T) {
	t.Parallel()
	each(t, func(b *bed) {
		b.fails()
		b.recovers()
		var wait sync.WaitGroup
		passed := make(chan string, 16)
		for i := range 16 {
			wait.Go(func() {
				call := fmt.Sprint(i)
				if ok, _ := b.Allow("up", config, call); ok {
					passed <- call
				}
			})
		}
		wait.Wait()
		if len(passed) != 1 {
			t.Fatalf("%d probes passed, want 1", len(passed))
		}
		b.Done(<-passed, false)
		b.is(Closed)
	})
}

// TestZeroConfig: what is not said is the default.
func TestZeroConfig(t *testing.T) {
	t.Parallel()
	each(t, func(b *bed) {
		for _, c := range []Config{{}, {Failures: -1, Recovery: -1}} {
			for i := range defaultFailures {
				if ok, _ := b.Allow("up", c, "x"); !ok {
					t.Fatalf("refused after %d failures, want %d", i, defaultFailures)
				}
				b.Done("x", true)
			}
			if ok, wait := b.Allow("up", c, "x"); ok || wait != defaultRecovery {
				t.Errorf("got %v after %v, want a refusal for %v", ok, wait, defaultRecovery)
			}
			pass(2 * defaultRecovery)
			if ok, _ := b.Allow("up", c, "x"); !ok {
				t.Error("no probe after the recovery")
			}
			b.Done("x", false)
			b.is(Closed)
		}
	})
}

// TestGateIsConsistent holds what implements gate to its contract, without the
// machine before it.
func TestGateIsConsistent(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"plain", "hystrix"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gates[name](1)[0]
			synctest.Test(t, func(t *testing.T) {
				if !g.probe(time.Now()) {
					t.Error("shut before any trip")
				}
				for range 3 {
					g.trip(time.Now(), recovery)
					for c, ok := g.(*circuit); ok && !c.made.IsOpen(); { // the event is on its way
						continue
					}
					if g.probe(time.Now()) {
						t.Error("open after a trip")
					}
					pass(recovery)
					if !g.probe(time.Now()) || g.probe(time.Now()) {
						t.Error("want one probe after the recovery")
					}
					pass(recovery)
					if !g.probe(time.Now()) {
						t.Error("want another probe when the first is lost")
					}
					g.open()
					for range 2 {
						if !g.probe(time.Now()) {
							t.Error("shut after it was opened")
						}
					}
				}
			})
		})
	}
}

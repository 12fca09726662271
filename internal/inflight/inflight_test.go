package inflight

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// clocked is a Set with a clock that stands.
type clocked struct {
	*Set
	now time.Time
}

func newClocked(limit int) *clocked {
	c := &clocked{now: time.Unix(1_800_000_000, 0)}
	c.Set = New(Options{Now: func() time.Time { return c.now }})
	c.max = limit
	return c
}

const ttl = 10 * time.Second

// enter wants a key to be free or not.
func (c *clocked) enter(t *testing.T, scope, call string, want bool) {
	t.Helper()
	if got := c.Enter(scope, call, ttl); got != want {
		t.Errorf("%s enters %s: got %v, want %v", call, scope, got, want)
	}
}

func TestOneAtATime(t *testing.T) {
	t.Parallel()
	c := newClocked(10)
	c.enter(t, "k1", "a", true)
	c.enter(t, "k1", "b", false)
	c.enter(t, "k2", "b", true)
	c.Leave("c") // has none
	c.Leave("a")
	c.Leave("a")
	c.enter(t, "k1", "c", true)
	c.enter(t, "k1", "c", true) // has it
	c.enter(t, "k1", "a", false)
	c.Leave("c")
	c.enter(t, "k1", "a", true)
	if c.Len() != 2 {
		t.Errorf("%d keys are held, want 2", c.Len())
	}
}

func TestTimeIsOver(t *testing.T) {
	t.Parallel()
	c := newClocked(10)
	c.enter(t, "k", "a", true)
	c.now = c.now.Add(ttl - 1)
	c.enter(t, "k", "b", false)
	c.now = c.now.Add(1)
	c.enter(t, "k", "b", true)
	c.Leave("a") // the key is another's now
	c.enter(t, "k", "c", false)
	c.enter(t, "k", "b", true) // again, from now
	c.now = c.now.Add(ttl - 1)
	c.enter(t, "k", "c", false)
}

// TestAnotherKey: a call that comes with another key gives the first back, but
// not for one that it does not get.
func TestAnotherKey(t *testing.T) {
	t.Parallel()
	c := newClocked(10)
	c.enter(t, "k1", "a", true)
	c.enter(t, "k2", "b", true)
	c.enter(t, "k2", "a", false)
	c.enter(t, "k1", "b", false)
	c.enter(t, "k3", "a", true)
	c.enter(t, "k1", "b", true)
	if c.Len() != 2 {
		t.Errorf("%d keys are held, want 2", c.Len())
	}
}

// TestNoRoom: nothing is free then, until something is or its time is over.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	c := newClocked(3)
	for i := range 3 {
		c.enter(t, fmt.Sprint("k", i), fmt.Sprint("c", i), true)
	}
	c.enter(t, "k3", "c3", false)
	c.enter(t, "k1", "c1", true)
	c.Leave("c0")
	c.enter(t, "k3", "c3", true)
	c.enter(t, "k4", "c4", false)
	c.now = c.now.Add(ttl)
	c.enter(t, "k4", "c4", true)
	if c.Len() != 1 || len(c.calls) != 1 {
		t.Errorf("%d keys of %d calls are held, want 1", c.Len(), len(c.calls))
	}
}

// TestAnyHistory compares a Set with a list of who holds what, until when.
func TestAnyHistory(t *testing.T) {
	t.Parallel()
	type held struct {
		scope, call string
		until       time.Time
	}
	rapid.Check(t, func(t *rapid.T) {
		c := newClocked(1000)
		var model []held
		drop := func(is func(held) bool) {
			kept := model[:0:0]
			for _, h := range model {
				if !is(h) {
					kept = append(kept, h)
				}
			}
			model = kept
		}
		some := rapid.SampledFrom([]string{"1", "2", "3"})
		t.Repeat(map[string]func(*rapid.T){
			"wait": func(t *rapid.T) { c.now = c.now.Add(time.Duration(rapid.Int64Range(0, int64(ttl)).Draw(t, "for"))) },
			"enter": func(t *rapid.T) {
				scope, call := some.Draw(t, "scope"), some.Draw(t, "call")
				drop(func(h held) bool { return !c.now.Before(h.until) })
				want := true
				for _, h := range model {
					want = want && (h.scope != scope || h.call == call)
				}
				if got := c.Enter(scope, call, ttl); got != want {
					t.Fatalf("got %v, want %v", got, want)
				}
				if want {
					drop(func(h held) bool { return h.call == call })
					model = append(model, held{scope, call, c.now.Add(ttl)})
				}
			},
			"leave": func(t *rapid.T) {
				call := some.Draw(t, "call")
				c.Leave(call)
				drop(func(h held) bool { return h.call == call })
			},
			"": func(t *rapid.T) {
				if len(c.keys) != len(c.calls) || len(c.keys) < len(model) {
					t.Fatalf("%d keys of %d calls, want as many, and at least %d", len(c.keys), len(c.calls), len(model))
				}
			},
		})
	})
}

// TestAllAtOnce: of many that come with one key, one enters.
func TestAllAtOnce(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	var wait sync.WaitGroup
	var entered atomic.Int64
	for i := range 32 {
		wait.Go(func() {
			if s.Enter("k", fmt.Sprint(i), time.Hour) {
				entered.Add(1)
			}
		})
	}
	wait.Wait()
	if entered.Load() != 1 {
		t.Errorf("%d entered, want 1", entered.Load())
	}
}

func BenchmarkEnterLeave(b *testing.B) {
	s := New(Options{})
	b.ReportAllocs()
	for b.Loop() {
		if !s.Enter("scope", "call", time.Minute) {
			b.Fatal("not free")
		}
		s.Leave("call")
	}
}

package rates

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// call makes one call and reports whether it was let through.
func call(c *circuit, now time.Time, failed bool) bool {
	p, ok := c.enter(now)
	if ok {
		c.leave(now, p, failed)
	}
	return ok
}

func opened(t *testing.T) *circuit {
	t.Helper()
	c := &circuit{}
	for i := range failuresToOpen {
		if !call(c, epoch, true) {
			t.Fatalf("call %d was refused", i)
		}
	}
	if call(c, epoch, false) || call(c, epoch.Add(openTime-1), false) {
		t.Fatal("the circuit is not open")
	}
	return c
}

func TestCircuitOpensForFailuresInARow(t *testing.T) {
	t.Parallel()
	c := opened(t)
	if !call(c, epoch.Add(openTime), false) || !call(c, epoch.Add(openTime), true) {
		t.Error("a probe that succeeds must close it")
	}
	c = &circuit{}
	for range 10 * failuresToOpen {
		for range failuresToOpen - 1 {
			call(c, epoch, true)
		}
		if !call(c, epoch, false) {
			t.Fatal("opened by failures that are not in a row")
		}
	}
}

func TestCircuitLetsOneProbeThrough(t *testing.T) {
	t.Parallel()
	c := opened(t)
	now := epoch.Add(openTime)
	p, ok := c.enter(now)
	if !ok || !p.probe {
		t.Fatal("no probe after the time")
	}
	if call(c, now.Add(time.Hour), false) {
		t.Error("a second call while the probe is under way")
	}
	now = now.Add(10 * time.Millisecond)
	if c.leave(now, p, true) {
		t.Error("a failed probe changed the state")
	}
	if call(c, now.Add(openTime-1), false) {
		t.Error("a failed probe must wait its time")
	}
	if !call(c, now.Add(openTime), false) {
		t.Error("no further probe")
	}
}

// TestCircuitAndLateCalls: what began before it opened neither delays the
// probe by failing, nor is a success ignored.
func TestCircuitAndLateCalls(t *testing.T) {
	t.Parallel()
	c := opened(t)
	c.leave(epoch.Add(openTime-1), pass{}, true)
	if p, ok := c.enter(epoch.Add(openTime)); !ok || !p.probe {
		t.Error("a late failure delayed the probe")
	}
	c = opened(t)
	if !c.leave(epoch, pass{}, false) || !call(c, epoch, false) {
		t.Error("a late success must close it")
	}
}

// TestCircuitIsNeverStuck: whatever came before, once calls succeed and their
// passes are back, it is closed after its time at the latest.
func TestCircuitIsNeverStuck(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c, now := &circuit{}, epoch
		var out []pass
		probes := func() (n int) {
			for _, p := range out {
				if p.probe {
					n++
				}
			}
			return n
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "ms")) * time.Millisecond)
			if len(out) > 0 && rapid.Bool().Draw(t, "leave") {
				c.leave(now, out[0], rapid.IntRange(0, 5).Draw(t, "outcome") > 0)
				out = out[1:]
			} else if p, ok := c.enter(now); ok {
				out = append(out, p)
			}
			if probes() > 1 {
				t.Fatal("two probes are under way")
			}
		}
		for _, p := range out {
			c.leave(now, p, true)
		}
		now = now.Add(openTime)
		for range 2 {
			if !call(c, now, false) || c.open {
				t.Fatalf("%+v is stuck", *c)
			}
		}
	})
}

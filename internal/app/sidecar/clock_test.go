package sidecar

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// begin is where the tests' clocks begin. Both are on the wall only: what they
// measure is the difference between two of them, as a monotonic one would.
func begin() time.Time { return time.Unix(1_700_000_000, 0) }

// A beat is as old as it is, however late it is read.
func TestLateBeatsMoveNothing(t *testing.T) {
	t.Parallel()
	c := controlClock{start: begin()}
	at := func(d time.Duration) time.Time { return begin().Add(d) }
	if ahead := c.ahead(at(0)); ahead != 0 {
		t.Errorf("before any beat control is %v ahead", ahead)
	}
	c.beat(at(5*time.Second), at(5*time.Second))
	// The process stands still for two minutes, and reads a burst of what came.
	for i := range 20 {
		sent := at(time.Duration(10+5*i) * time.Second)
		if delay := c.beat(at(2*time.Minute), sent); delay != at(2*time.Minute).Sub(sent) {
			t.Errorf("the beat of %v is %v late", sent, delay)
		}
	}
	if ahead := c.ahead(at(2 * time.Minute)); ahead != 0 {
		t.Errorf("a burst of old beats sets control %v ahead", ahead)
	}
}

func TestControlsClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	c := controlClock{start: begin()}
	at := func(d time.Duration) time.Time { return begin().Add(d) }
	c.beat(at(0), at(10*time.Minute)) // control is ten minutes ahead
	for i := range beatsToFall {
		now := at(time.Duration(i+1) * 5 * time.Second)
		if ahead := c.ahead(now); ahead != 10*time.Minute {
			t.Errorf("beat %d: control is %v ahead, want 10m", i, ahead)
		}
		c.beat(now, now) // it is set right
	}
	if ahead := c.ahead(at(time.Minute)); ahead != 0 {
		t.Errorf("after %d beats control is still %v ahead", beatsToFall, ahead)
	}
}

// However beats are delayed, and whatever the two clocks differ by, control's
// is never believed to be later than it is, and right after a beat that was not
// delayed no earlier either.
func TestControlsClockIsBounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		differ := time.Duration(rapid.Int64Range(-int64(time.Hour), int64(time.Hour)).Draw(t, "differ"))
		c := controlClock{start: begin()}
		now, sent := begin(), begin()
		for range rapid.IntRange(1, 40).Draw(t, "beats") {
			sent = sent.Add(5 * time.Second)
			delay := time.Duration(rapid.SampledFrom([]int64{0, 0, 0, int64(time.Second), int64(time.Minute)}).Draw(t, "delay"))
			if now = maxTime(now, sent.Add(delay)); now.Equal(sent) {
				delay = 0
			}
			c.beat(now, sent.Add(differ))
			believed, truly := c.ahead(now), differ
			if believed > max(truly, 0)+clockTolerance {
				t.Fatalf("control is believed %v ahead, and is %v", believed, truly)
			}
			if delay == 0 && now.Equal(sent) && (believed-truly).Abs() > clockTolerance {
				t.Fatalf("after a beat without delay control is believed %v ahead, and is %v", believed, truly)
			}
		}
	})
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

package sidecar

import (
	"sync/atomic"
	"time"
)

// Bounds of what control is believed about time.
const (
	clockTolerance = 5 * time.Second // a smaller difference may be the network's
	beatsApart     = 2 * time.Second // between beats that did not come in one burst
	beatsToFall    = 3               // of such that must agree before control's clock has gone back
)

// controlClock is control's clock as its beats tell it, carried on by this
// machine's monotonic one. What a beat says is as old as the beat: one that lay
// in a buffer while this process stood still makes control's clock look behind,
// and never ahead. So of what beats say the latest time counts.
//
// The methods are for one goroutine, except at.
type controlClock struct {
	start   time.Time                 // of this process, with its monotonic reading
	atStart atomic.Pointer[time.Time] // what control's clock showed then; nil before the first beat

	low     int // beats in a row, apart from each other, that say it is earlier
	lowBest time.Time
	lowLast time.Duration // since start
}

// beat takes in that control's clock showed a time, and returns for how long
// that has been under way.
func (c *controlClock) beat(now, shown time.Time) time.Duration {
	elapsed := now.Sub(c.start)
	then := shown.Add(-elapsed)
	best := c.atStart.Load()
	if best == nil || !then.Before(*best) {
		c.set(then)
		return 0
	}
	delay := best.Sub(then)
	if delay <= clockTolerance {
		c.low = 0
		return delay
	}
	if c.low == 0 || elapsed-c.lowLast >= beatsApart {
		c.low, c.lowLast = c.low+1, elapsed
	}
	if c.low == 1 || then.After(c.lowBest) {
		c.lowBest = then
	}
	if c.low < beatsToFall {
		return delay
	}
	c.set(c.lowBest) // several beats, as they came: it was set back
	return max(0, c.lowBest.Sub(then))
}

func (c *controlClock) set(atStart time.Time) {
	c.atStart.Store(&atStart)
	c.low = 0
}

// at is the time by which tokens are judged: control's where this machine's is
// off by more than the tolerance, and this machine's else, or before any beat.
// It is safe for concurrent use.
func (c *controlClock) at(now time.Time) time.Time { return now.Add(c.ahead(now)) }

// ahead is how far control's clock is ahead, 0 if not by much.
func (c *controlClock) ahead(now time.Time) time.Duration {
	atStart := c.atStart.Load()
	if atStart == nil {
		return 0
	}
	// Round strips the monotonic readings: these two are clocks on the wall.
	ahead := atStart.Add(now.Sub(c.start)).Round(0).Sub(now.Round(0))
	if ahead.Abs() <= clockTolerance {
		return 0
	}
	return ahead
}

package rates

import "time"

const (
	// failuresToOpen is the number of failures in a row after which Redis
	// counts as gone.
	failuresToOpen = 5
	// openTime is how long calls then fail at once, before one is let through.
	openTime = time.Second
)

// circuit decides whether a call is worth its wait. The zero value is closed.
// It is no more than arithmetic on now: its owner locks it.
type circuit struct {
	failures int // in a row
	open     bool
	until    time.Time // no probe before; set while open
	probing  bool      // one call is finding out
}

// pass is the leave to make one call.
type pass struct{ probe bool }

// enter reports whether a call may be made. Each pass is handed back to leave.
func (c *circuit) enter(now time.Time) (pass, bool) {
	if !c.open {
		return pass{}, true
	}
	if c.probing || now.Before(c.until) {
		return pass{}, false
	}
	c.probing = true
	return pass{probe: true}, true
}

// leave tells how a call went, and reports whether the circuit opened or
// closed by it. While it is open only the probe's failure counts: the others'
// calls began before. Any success is one.
func (c *circuit) leave(now time.Time, p pass, failed bool) (changed bool) {
	if p.probe {
		c.probing = false
	}
	switch was := c.open; {
	case !failed:
		c.failures, c.open = 0, false
		return was
	case was && p.probe:
		c.until = now.Add(openTime)
	case !was:
		c.failures++
		if c.failures >= failuresToOpen {
			c.open, c.until = true, now.Add(openTime)
		}
		return c.open
	}
	return false
}

package breaker

import "time"

// Phase is where a breaker stands.
type Phase string

// The phases.
const (
	Closed   Phase = "closed"    // all calls pass
	Open     Phase = "open"      // none does
	HalfOpen Phase = "half_open" // one is under way and decides
)

// Config says when a breaker opens, and for how long.
type Config struct {
	Failures int           // in a row; 5 where it is below 1
	Recovery time.Duration // until a probe; 30 s where it is not above 0
}

// Defaults of a Config.
const (
	defaultFailures = 5
	defaultRecovery = 30 * time.Second
)

func (c Config) withDefaults() Config {
	if c.Failures < 1 {
		c.Failures = defaultFailures
	}
	if c.Recovery <= 0 {
		c.Recovery = defaultRecovery
	}
	return c
}

// machine is one breaker's state as a value: its methods return the next one.
// The zero value is closed.
type machine struct {
	phase       Phase  // "" is Closed
	generation  uint64 // of the calls whose results count
	consecutive int64  // failures
	openedAt    time.Time
	nextProbe   time.Time // while not closed: when a call may pass
	spare       bool      // open: a probe was given back unused
	ordered     bool      // open by an order alone, not by what was seen here
}

func (m machine) closed() bool { return m.phase != Open && m.phase != HalfOpen }

// ask returns how long until a call may pass, 0 for now. A recovery that has
// become shorter counts at once, and so does a clock that was set back.
func (m machine) ask(now time.Time, c Config) (machine, time.Duration) {
	if m.closed() {
		return m, 0
	}
	if latest := now.Add(c.Recovery); m.nextProbe.After(latest) {
		m.nextProbe = latest
	}
	return m, max(m.nextProbe.Sub(now), 0)
}

// begin lets a call pass whose result counts in the generation returned. It must
// follow an ask that returned 0. In a breaker that is not closed the call is the
// probe, and takes the place of one that was lost.
func (m machine) begin(now time.Time, c Config) machine {
	if m.closed() {
		return m
	}
	m.phase, m.spare = HalfOpen, false
	m.generation++
	m.nextProbe = now.Add(c.Recovery)
	return m
}

// end takes the result of a call that began in a generation.
func (m machine) end(now time.Time, c Config, generation uint64, failed bool) machine {
	switch {
	case generation != m.generation:
		return m
	case !failed && m.closed():
		m.consecutive = 0
		return m
	case !failed:
		return m.reset()
	}
	m.consecutive++
	switch {
	case m.phase == HalfOpen:
		m.phase, m.ordered = Open, false
		m.generation++
		m.nextProbe = now.Add(c.Recovery)
	case m.consecutive >= int64(c.Failures):
		return m.trip(now, c)
	}
	return m
}

// giveBack takes a call back that came to nothing. If it was the probe, another
// may pass at once.
func (m machine) giveBack(now time.Time, generation uint64) machine {
	if m.phase != HalfOpen || generation != m.generation {
		return m
	}
	m.phase, m.spare = Open, true
	m.generation++
	m.nextProbe = now
	return m
}

// trip opens a closed breaker.
func (m machine) trip(now time.Time, c Config) machine {
	if !m.closed() {
		return m
	}
	return machine{
		phase: Open, generation: m.generation + 1, consecutive: m.consecutive, openedAt: now, nextProbe: now.Add(c.Recovery),
	}
}

// reset closes a breaker and forgets its failures.
func (m machine) reset() machine { return machine{phase: Closed, generation: m.generation + 1} }

package breaker

import (
	"cmp"
	"crypto/rand"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"
)

// MaxBreakers bounds the breakers of a Set, and the orders that it follows: as
// many upstreams as a policy set can have, and some of the one before. The one
// that was asked for least lately makes room.
const MaxBreakers = 512

// gateRetry is when to come again after the gate alone has refused.
const gateRetry = time.Second

// Options are what New needs; the zero value will do.
type Options struct {
	Now func() time.Time // with monotonic readings; nil means time.Now
	// Changed is told after the phase of any breaker has changed. It is called by
	// whoever made it change, and must not block. Nil tells nobody.
	Changed func()
}

// Set is breakers by name. Make it with New.
type Set struct {
	now     func() time.Time
	changed func()
	newGate func() gate

	mu       sync.Mutex // guards all below
	breakers map[string]*breaker
	calls    calls
	orders   map[string]Order
}

// breaker is one of a Set, whose lock guards it.
type breaker struct {
	name   string
	config Config
	machine
	gate            gate
	calls, failures int64 // whose end is known
	asked           time.Time
	order           int64 // the last that was followed
}

// New returns a Set whose gates are hystrix-go's.
func New(o Options) *Set {
	prefix, n := "gatehouse/"+rand.Text()+"/", 0 // hystrix knows circuits by names of the whole process
	return newSet(o, func() gate {
		n++
		return &circuit{name: prefix + strconv.Itoa(n)}
	})
}

func newSet(o Options, newGate func() gate) *Set {
	s := &Set{now: o.Now, changed: o.Changed, newGate: newGate, breakers: map[string]*breaker{}, calls: newCalls(maxCalls)}
	if s.now == nil {
		s.now = time.Now
	}
	if s.changed == nil {
		s.changed = func() {}
	}
	return s
}

// Allow reports whether a call to the upstream of that name may go on, and if
// not, after what time one may. A call that may is remembered by its id until
// Done or Release; one of both must follow.
func (s *Set) Allow(name string, c Config, call string) (ok bool, retryAfter time.Duration) {
	now := s.now()
	s.mu.Lock()
	b := s.breakerLocked(now, name, c.withDefaults())
	before := b.phase
	ok, retryAfter = b.allow(now)
	if ok {
		s.calls.add(call, begun{b, b.generation, now})
	}
	turned := b.phase != before
	s.mu.Unlock()
	if turned {
		s.changed()
	}
	return ok, retryAfter
}

// allow decides about one call.
func (b *breaker) allow(now time.Time) (bool, time.Duration) {
	var wait time.Duration
	if b.machine, wait = b.ask(now, b.config); wait > 0 {
		return false, wait
	}
	if !b.closed() && !b.overdue(now) && !b.gate.probe(now) {
		return false, min(gateRetry, b.config.Recovery)
	}
	b.machine = b.begin(now, b.config)
	return true, 0
}

// overdue says that the gate is not to be asked: it has let a probe through that
// came back unused, or has kept refusing for a whole recovery.
func (b *breaker) overdue(now time.Time) bool {
	return b.spare || now.Sub(b.nextProbe) >= b.config.Recovery
}

// Done says how a call ended. One that is not remembered is passed over.
func (s *Set) Done(call string, failed bool) {
	s.finish(call, func(b *breaker, now time.Time, generation uint64) {
		b.calls++
		if failed {
			b.failures++
		}
		b.machine = b.end(now, b.config, generation, failed)
	})
}

// Release says that a call came to nothing that tells of the upstream, as when a
// later step refused it: it is as if it had not been allowed.
func (s *Set) Release(call string) {
	s.finish(call, func(b *breaker, now time.Time, generation uint64) { b.machine = b.giveBack(now, generation) })
}

func (s *Set) finish(call string, step func(b *breaker, now time.Time, generation uint64)) {
	now := s.now()
	s.mu.Lock()
	c, ok := s.calls.take(call)
	turned := false
	if ok {
		turned = c.breaker.turn(now, func() { step(c.breaker, now, c.generation) })
	}
	s.mu.Unlock()
	if turned {
		s.changed()
	}
}

// turn takes a step, tells the gate what it comes to, and reports whether the
// phase is another.
func (b *breaker) turn(now time.Time, step func()) bool {
	before := b.machine
	step()
	switch {
	case before.closed() && !b.closed():
		b.gate.trip(now, b.config.Recovery)
	case !before.closed() && b.closed():
		b.gate.open()
	}
	return before.phase != b.phase
}

// breakerLocked finds or makes the breaker of a name, which is asked for now. A
// new one follows what was ordered for it before.
func (s *Set) breakerLocked(now time.Time, name string, c Config) *breaker {
	if b := s.breakers[name]; b != nil {
		b.config, b.asked = c, now
		return b
	}
	b := &breaker{name: name, machine: machine{phase: Closed}, config: c, asked: now}
	if len(s.breakers) >= MaxBreakers {
		b.gate = s.evictLocked()
	} else {
		b.gate = s.newGate()
	}
	s.breakers[name] = b
	b.turn(now, func() { b.obey(now, s.orders[name]) })
	return b
}

// evictLocked takes out the breaker that was asked for least lately, and returns
// its gate, open: gates can't be thrown away.
func (s *Set) evictLocked() gate {
	oldest := slices.MinFunc(slices.Collect(maps.Values(s.breakers)), func(a, b *breaker) int { return a.asked.Compare(b.asked) })
	delete(s.breakers, oldest.name)
	g := oldest.gate
	g.open()
	oldest.gate = &plain{} // calls that are under way may still end there
	return g
}

// State is what can be shown of a breaker.
type State struct {
	Name   string
	Phase  Phase
	Config Config

	ConsecutiveFailures int64
	TotalFailures       int64     // of TotalCalls
	TotalCalls          int64     // that ended, with a result
	OpenedAt            time.Time // the zero time while closed
	NextProbe           time.Time // the zero time while closed
	LastCall            time.Time // when one came, whether it passed or not

	Ordered bool  // open by an order alone, not by what was seen here
	Order   int64 // the last that was followed, 0 for none
}

// States returns all breakers, by name: at most MaxBreakers.
func (s *Set) States() []State {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]State, 0, len(s.breakers))
	for _, b := range s.breakers {
		out = append(out, b.state())
	}
	slices.SortFunc(out, func(a, b State) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (b *breaker) state() State {
	return State{
		Name: b.name, Phase: b.phase, Config: b.config,
		ConsecutiveFailures: b.consecutive, TotalFailures: b.failures, TotalCalls: b.calls,
		OpenedAt: b.openedAt, NextProbe: b.nextProbe, LastCall: b.asked, Ordered: b.ordered, Order: b.order,
	}
}

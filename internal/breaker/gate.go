package breaker

import (
	"runtime"
	"time"

	"github.com/afex/hystrix-go/hystrix"
)

// gate lets single calls through while a breaker is not closed. It is told of
// trips and closings, and asked for each probe that the machine would let pass.
// Its methods are called one after the other, in this order:
//
//	trip, probe…, open, trip, …
//
// The zero value of what implements it lets everything pass.
type gate interface {
	// trip shuts the gate.
	trip(now time.Time, recovery time.Duration)
	// probe reports whether a call may pass: the first after recovery has gone by
	// since trip, or since the last that passed.
	probe(now time.Time) bool
	// open lets everything pass.
	open()
}

// plain is the gate that is written here.
type plain struct {
	shut     bool
	recovery time.Duration
	last     time.Time // of trip, or of the last call that passed
}

func (g *plain) trip(now time.Time, recovery time.Duration) {
	g.shut, g.recovery, g.last = true, recovery, now
}

func (g *plain) probe(now time.Time) bool {
	if !g.shut {
		return true
	}
	if now.Sub(g.last) < g.recovery {
		return false
	}
	g.last = now
	return true
}

func (g *plain) open() { g.shut = false }

// circuit is a gate of hystrix-go. It goes by the process's own clock, and is
// made at its first trip, since hystrix keeps a circuit and its two goroutines
// for ever. Its name must be one of its own in the process.
type circuit struct {
	name string
	made *hystrix.CircuitBreaker // nil before the first trip
}

// Settings of circuits.
const (
	// earlier is by how much hystrix's window ends before ours: it begins a
	// little later, when the trip has come to its metrics.
	earlier = 20 * time.Millisecond
	// tripSpins bounds how often trip looks whether it has: a millisecond or two.
	tripSpins = 1 << 13
)

// trip sends one failure. hystrix takes it by another goroutine and opens when it
// is asked after that; where that is late, the machine refuses meanwhile.
func (g *circuit) trip(_ time.Time, recovery time.Duration) {
	hystrix.ConfigureCommand(g.name, hystrix.CommandConfig{
		RequestVolumeThreshold: 1, ErrorPercentThreshold: 1,
		SleepWindow: int(max((recovery - min(earlier, recovery/2)).Milliseconds(), 1)), // 0 would be the default
	})
	if g.made == nil {
		g.made, _, _ = hystrix.GetCircuit(g.name) // its error is always nil
	}
	g.report("failure")
	for range tripSpins {
		if g.made.IsOpen() {
			return
		}
		runtime.Gosched()
	}
}

// probe asks for the single test that hystrix allows after its sleeping time.
func (g *circuit) probe(time.Time) bool { return g.made == nil || g.made.AllowRequest() }

// open sends the one success, which closes a circuit at once.
func (g *circuit) open() {
	if g.made != nil {
		g.report("success")
	}
}

// report sends an event. Its error says that 2000 wait: one comes with each trip,
// and the machine does not depend on any.
func (g *circuit) report(event string) {
	_ = g.made.ReportEvent([]string{event}, time.Now(), 0)
}

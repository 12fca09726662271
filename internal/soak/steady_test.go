package soak

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

const (
	clients   = 200 // at once
	exchanges = 3   // of each, one after the other
	// tight is a limit that about half of what they ask for fits into.
	tight = 30_000
	// settleTime is how long the last settlement may take: the access log, which
	// alone knows of some, is waited for 5 s.
	settleTime = 15 * time.Second
)

// Clients of all kinds ask for more than there is. At no instant is more billed
// than was allowed; afterwards nothing is held, and each exchange is charged what
// its provider billed, or, where that was not seen, something between that and
// its hold.
func TestNoOverspend(t *testing.T) {
	w := newWorld(t)
	for run := range *steadyRuns {
		seed := seed(run)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			again := *w
			again.t = t
			again.steady(seed)
		})
		if t.Failed() {
			t.Logf("again: go test ./internal/soak -count=1 -run TestNoOverspend -soak.seed %d", seed)
			return
		}
	}
}

func (w *world) steady(seed uint64) {
	w.t.Helper()
	w.login()
	l := w.limit(tight)
	v := w.watch(l, false)
	outcomes := w.crowd(seed)
	usage := w.quiet(settleTime)
	v.end()
	verdict := w.judge(l, outcomes)
	verdict.settled = w.told()
	verdict.bounded(usage)
	verdict.exact()
	verdict.kept()
	verdict.busy(len(outcomes) / 20)
	for _, rule := range []string{"reported", "counted", "broken", "held", "error_answer"} {
		if verdict.rules()[rule] == 0 {
			verdict.complain("no exchange was charged by the rule %q: %v", rule, verdict.rules())
		}
	}
}

// crowd lets all clients loose at once.
func (w *world) crowd(seed uint64) []*outcome {
	outcomes := make([]*outcome, clients*exchanges)
	var all sync.WaitGroup
	for c := range clients {
		r := rand.New(rand.NewPCG(seed, uint64(c)))
		all.Go(func() {
			for i := range exchanges {
				outcomes[c*exchanges+i] = w.send(w.t.Context(), draw(r))
			}
		})
	}
	all.Wait()
	return outcomes
}

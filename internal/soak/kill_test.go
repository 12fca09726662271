package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

const (
	workers = 40
	// A worker whose client could not connect does not try at once again, and no
	// worker goes as fast as it can: the provider tells 10,000 requests apart.
	workerPause = 20 * time.Millisecond
	// The limit is raised bit by bit, so that it is tight all the time.
	firstLimit = 6_000
	raiseEvery = 250 * time.Millisecond
	raiseBy    = 1_500
	// killEvery is about how long it is from one kill to the next.
	killEvery = 800 * time.Millisecond
	// quietTime is how long it may take from the last kill until all is up again
	// and every hold is settled, those of processes that are gone too.
	quietTime = 60 * time.Second
)

// Whatever is killed at whatever moment, no more is billed than was allowed at any
// instant; afterwards every hold is accounted for, and every exchange is charged
// at least what its provider billed.
func TestKills(t *testing.T) {
	for round := range *killRounds {
		seed := seed(round)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { newWorld(t).rampage(seed) })
		if t.Failed() {
			t.Logf("again: go test ./internal/soak -count=1 -run TestKills -soak.seconds %d -soak.seed %d", *killSeconds, seed)
			return
		}
	}
}

func (w *world) rampage(seed uint64) {
	w.t.Helper()
	l := w.limit(firstLimit)
	v := w.watch(l, true)
	ctx, end := context.WithTimeout(w.t.Context(), time.Duration(*killSeconds)*time.Second)
	defer end()
	var outcomes []*outcome
	var all sync.WaitGroup
	all.Go(func() { outcomes = w.work(ctx, seed) })
	all.Go(func() { w.raise(ctx, v) })
	all.Go(func() { w.kill(ctx, rand.New(rand.NewPCG(seed, workers))) })
	all.Wait()
	usage := w.quiet(quietTime)
	v.end()
	verdict := w.judge(l, outcomes)
	verdict.bounded(usage)
	verdict.busy(*killSeconds)
	verdict.kept()
}

// work lets clients come and go until ctx ends. What is under way then ends by
// itself.
func (w *world) work(ctx context.Context, seed uint64) []*outcome {
	each := make([][]*outcome, workers)
	var all sync.WaitGroup
	for i := range workers {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		all.Go(func() {
			for ctx.Err() == nil {
				each[i] = append(each[i], w.send(w.t.Context(), draw(r)))
				<-time.After(time.Duration(r.Int64N(int64(2 * workerPause))))
			}
		})
	}
	all.Wait()
	return slices.Concat(each...)
}

// raise raises the tenant's limit, again and again. What is allowed is noted
// before control is asked: it may do it and die before it says so.
func (w *world) raise(ctx context.Context, v *watch) {
	for tick := time.NewTicker(raiseEvery); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		bounded, cancel := context.WithTimeout(ctx, askTimeout)
		_ = w.setLimit(bounded, v.limits.tenant, v.allowed.Add(raiseBy)) // away: the next one raises by more
		cancel()
	}
}

// kill kills one process after the other, each once before any comes again.
func (w *world) kill(ctx context.Context, r *rand.Rand) {
	units := []*unit{w.postgres, w.control, w.sidecar, w.envoy}
	kills := map[string]int{}
	for i := 0; ; i++ {
		if i%len(units) == 0 {
			r.Shuffle(len(units), func(i, j int) { units[i], units[j] = units[j], units[i] })
		}
		select {
		case <-ctx.Done():
			w.t.Logf("killed: %v", kills)
			if len(kills) == 0 {
				w.t.Error("nothing was killed")
			}
			return
		case <-time.After(time.Duration(min(r.ExpFloat64(), 4) * float64(killEvery))):
		}
		if u := units[i%len(units)]; u.kill() {
			kills[u.name]++
		}
	}
}

package meshlimit

import (
	"time"

	"gatehouse/internal/ratelimit"
)

// maxRefusals is the number of refusals that are remembered, about 300 bytes
// each.
const maxRefusals = 10_000

// refusalSweep is how many refusals a new one looks at, to forget those that
// are over; twice as many as come in, so that the rest shrinks.
const refusalSweep = 2

// fullSweep is how many it looks at where there is no room.
const fullSweep = 64

// refusal is the answer to an ask that was over its limit.
type refusal struct {
	result ratelimit.Result
	from   time.Time // when it was given
}

func (r *refusal) until() time.Time { return r.from.Add(r.result.RetryAfter) }

// at is the same answer later: what remains of the waits.
func (r *refusal) at(now time.Time) ratelimit.Result {
	res, passed := r.result, now.Sub(r.from)
	res.RetryAfter -= passed
	res.Reset = max(res.Reset-passed, res.RetryAfter)
	return res
}

// refusals remembers answers for as long as they hold: a limit that refused
// for a time refuses the same ask until then, whoever takes from it meanwhile.
// Whatever is forgotten is only asked again. Its owner locks it.
type refusals struct {
	// An ask is its whole self: a changed rate, or a smaller cost, is another.
	held map[ratelimit.Ask]refusal
	last time.Time // the latest now: time never goes back
}

func (r *refusals) clock(now time.Time) time.Time {
	if now.Before(r.last) {
		return r.last
	}
	r.last = now
	return now
}

// find is the refusal of those that hold that takes longest.
func (r *refusals) find(now time.Time, asks []Ask) (ratelimit.Result, bool) {
	now = r.clock(now)
	var binding ratelimit.Result
	for i := range asks {
		held, ok := r.held[asks[i].Ask]
		if !ok {
			continue
		}
		if !now.Before(held.until()) {
			delete(r.held, asks[i].Ask)
			continue
		}
		binding = ratelimit.Binding(binding, held.at(now))
	}
	return binding, binding.Limit != ""
}

// add remembers a refusal, where there is room and a wait is known. One that
// takes longer stays.
func (r *refusals) add(now time.Time, a ratelimit.Ask, res ratelimit.Result) {
	// From the instant itself, so that it is over no later than was said.
	fresh := refusal{result: res, from: now}
	now = r.clock(now)
	held, known := r.held[a]
	if res.RetryAfter <= 0 || (known && held.until().After(fresh.until())) {
		return
	}
	if !known && !r.room(now) {
		return
	}
	r.held[a] = fresh
}

// room forgets what is over, and reports whether there is room for one more.
func (r *refusals) room(now time.Time) bool {
	steps := refusalSweep
	if len(r.held) >= maxRefusals {
		steps = fullSweep
	}
	for a, held := range r.held { // from anywhere, which is what a sweep needs
		if steps == 0 {
			break
		}
		steps--
		if !now.Before(held.until()) {
			delete(r.held, a)
		}
	}
	return len(r.held) < maxRefusals
}

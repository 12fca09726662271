package budgettest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"gatehouse/budget"
	"gatehouse/internal/request"
)

// Histories that are checked for being linearizable: callers at once, calls of
// each, and requests that all of them share.
const (
	linearRounds   = 8
	linearCallers  = 5
	linearCalls    = 14
	linearRequests = 10
	linearTimeout  = 4 * time.Second // for all of it
)

func linearizing() map[string]func(*stage) {
	return map[string]func(*stage){"calls at once are as if one came after the other": linearizable}
}

// linearizable lets callers loose on one tenant, round by round, and demands of
// each round's answers that some order of its calls explains them, in which no
// call takes effect before it began or after it was answered.
func linearizable(s *stage) {
	deadline := time.Now().Add(linearTimeout)
	seen := map[string]int{}
	for round := range linearRounds {
		c := &callers{stage: s, org: s.Harness.Tenant(s), round: uint64(round), began: time.Now()}
		c.limit = s.limitOf(c.org, 100)
		history := c.run()
		for _, op := range history {
			for _, text := range op.Output.(said) {
				seen[text]++
			}
		}
		model := porcupine.Model{
			Init: func() any { return line{limit: 100} },
			Step: func(state, input, output any) (bool, any) {
				next, text := state.(line).take(input.(asking))
				return slices.Equal(text, output.(said)), next
			},
		}
		if r := porcupine.CheckOperationsTimeout(model, history, max(time.Until(deadline), time.Millisecond)); r != porcupine.Ok {
			s.Fatalf("round %d: no order explains the answers (%s):\n%s", round, r, tell(history))
		}
	}
	// INVARIANT: an answer that never comes proves nothing.
	for _, text := range []string{"held reserved", "refused denied", "key_reused ", "done committed", "done released", "done reserved", "already_committed committed", "not_found "} {
		if seen[text] == 0 {
			s.Errorf("no call was answered %q: %v", text, seen)
		}
	}
}

// limitOf makes a limit of a tenant's project p1.
func (s *stage) limitOf(tenant string, tokens int64) budget.Limit {
	s.Helper()
	l, err := s.Store.CreateLimit(s.Context(), request.Principal{}, budget.Limit{Tenant: tenant, Project: "p1", Window: budget.Total, Zone: "UTC", Tokens: tokens})
	if err != nil {
		s.Fatal(err)
	}
	return l
}

// asking is one call: holds, second words, a new limit, or where the limit stands.
type asking struct {
	holds   []budget.Hold
	seconds []budget.Settlement
	limit   int64 // 0 for none
}

// said is what a call was answered, a text for each item.
type said []string

// callers call the store at once.
type callers struct {
	*stage
	org   string
	limit budget.Limit
	round uint64
	began time.Time

	mu      sync.Mutex // guards history
	history []porcupine.Operation
}

func (c *callers) run() []porcupine.Operation {
	var all sync.WaitGroup
	begin := make(chan struct{})
	for caller := range linearCallers {
		r := rand.New(rand.NewPCG(c.round, uint64(caller)))
		all.Go(func() {
			<-begin
			for range linearCalls {
				c.call(caller, drawn(r))
			}
		})
	}
	close(begin)
	all.Wait()
	return c.history
}

func (c *callers) call(caller int, a asking) {
	op := porcupine.Operation{ClientId: caller, Input: a, Call: int64(time.Since(c.began))}
	out, err := c.do(a)
	op.Output, op.Return = out, int64(time.Since(c.began))
	if err != nil {
		c.Errorf("%+v: %v", a, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history = append(c.history, op)
}

// drawn is a call at random, of so few requests that callers meet. The two items
// of one call are of different requests.
func drawn(r *rand.Rand) asking {
	ids := r.Perm(linearRequests)
	a := asking{}
	switch n := r.IntN(20); {
	case n < 9:
		for _, id := range ids[:1+n/6] {
			a.holds = append(a.holds, drawnHold(r, id))
		}
	case n < 16:
		for _, id := range ids[:1+n/14] {
			a.seconds = append(a.seconds, drawnWord(r, drawnHold(r, id)))
		}
	case n < 18:
		a.limit = 60 + 10*r.Int64N(8)
	}
	return a
}

func drawnHold(r *rand.Rand, id int) budget.Hold {
	return asked(fmt.Sprint(id), []int64{20, 20, 20, 30}[r.IntN(4)])
}

func drawnWord(r *rand.Rand, h budget.Hold) budget.Settlement {
	switch r.IntN(7) {
	case 0, 1:
		return second(h, budget.Release, 0)
	case 2, 3:
		return second(h, budget.TopUp, 15+r.Int64N(50))
	}
	return second(h, budget.Commit, 10*r.Int64N(5))
}

func (c *callers) do(a asking) (out said, err error) {
	switch {
	case a.holds != nil:
		answers, err := c.Store.Reserve(c.Context(), c.org, a.holds)
		for _, x := range answers {
			out = append(out, replayed(string(x.Verdict), x.State, x.Replayed))
		}
		return out, err
	case a.seconds != nil:
		results, err := c.Store.Settle(c.Context(), c.org, a.seconds)
		for _, x := range results {
			out = append(out, replayed(string(x.Outcome), x.State, x.Replayed))
		}
		return out, err
	case a.limit > 0:
		_, err := c.Store.SetLimit(c.Context(), request.Principal{}, c.org, c.limit.ID, 0, a.limit)
		return said{"set"}, err
	}
	usage, err := c.Store.Usage(c.Context(), c.org, "p1")
	for _, u := range usage {
		out = append(out, standing(u.Used, u.Reserved, u.Overrun, u.Tokens, u.Ceiling))
	}
	return out, err
}

func replayed(what string, state budget.State, again bool) string {
	text := what + " " + string(state)
	if again {
		text += " again"
	}
	return text
}

func standing(used, reserved, overrun, limit, ceiling int64) string {
	return fmt.Sprintf("%d/%d/%d of %d, %d", used, reserved, overrun, limit, ceiling)
}

// line is the reference: one limit, and the requests that were heard of. It is
// a value, so that each order of calls can be tried.
type line struct {
	limit, used, overrun int64
	requests             [linearRequests]one
}

// one is a request: first is what it was made with, which tells it from others
// of its id.
type one struct {
	state               budget.State
	first, held, actual int64
}

func (l line) reserved() (n int64) {
	for _, r := range l.requests {
		if r.state == budget.Reserved {
			n += r.held
		}
	}
	return n
}

func (l line) room() int64 { return max(0, l.limit-l.used-l.reserved()) }

func (l line) take(a asking) (line, said) {
	var out said
	for _, h := range a.holds {
		out = append(out, l.hold(h))
	}
	for _, s := range a.seconds {
		out = append(out, l.settle(s))
	}
	switch {
	case out != nil:
	case a.limit > 0:
		l.limit, out = a.limit, said{"set"}
	default:
		out = said{standing(l.used, l.reserved(), l.overrun, l.limit, max(l.limit, l.used+l.reserved()))}
	}
	return l, out
}

func (l *line) at(id string) *one { return &l.requests[id[0]-'0'] }

func (l *line) hold(h budget.Hold) string {
	r := l.at(h.ID)
	switch {
	case r.state == "" && h.Tokens > l.room():
		*r = one{state: budget.Denied, first: h.Tokens}
		return "refused denied"
	case r.state == "":
		*r = one{state: budget.Reserved, first: h.Tokens, held: h.Tokens}
		return "held reserved"
	case r.first != h.Tokens:
		return "key_reused "
	}
	verdict := map[budget.State]budget.Verdict{budget.Denied: budget.Refused, budget.Reserved: budget.Held}[r.state]
	if verdict == "" {
		verdict = budget.Settled
	}
	return replayed(string(verdict), r.state, true)
}

func (l *line) settle(s budget.Settlement) string {
	r := l.at(s.ID)
	switch r.state {
	case "":
		return "not_found "
	case budget.Denied:
		return "denied denied"
	case budget.Committed:
		return replayed("already_committed", r.state, s.Action == budget.Commit && s.Tokens == r.actual)
	case budget.Released:
		return replayed("already_released", r.state, s.Action == budget.Release)
	}
	switch s.Action {
	case budget.TopUp:
		if s.Tokens-r.held > l.room() {
			return "no_room reserved"
		}
		r.held = max(r.held, s.Tokens)
	case budget.Release:
		r.state = budget.Released
	case budget.Commit:
		r.state, r.actual = budget.Committed, s.Tokens
		within := min(s.Tokens, r.held)
		l.used += within
		more := min(s.Tokens-within, l.room())
		l.used += more
		l.overrun += s.Tokens - within - more
	}
	return "done " + string(r.state)
}

// tell writes a history as it was answered.
func tell(history []porcupine.Operation) (text string) {
	for _, op := range history {
		text += fmt.Sprintf("%10d %10d caller %d: %s: %q\n", op.Call, op.Return, op.ClientId, op.Input.(asking), op.Output)
	}
	return text
}

func (a asking) String() (text string) {
	for _, h := range a.holds {
		text += fmt.Sprintf("hold %s of %d; ", h.ID, h.Tokens)
	}
	for _, s := range a.seconds {
		text += fmt.Sprintf("%s %s of %d; ", s.Action, s.ID, s.Tokens)
	}
	if a.limit > 0 {
		text = fmt.Sprintf("limit %d; ", a.limit)
	}
	return text
}

package budgettest

import (
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/budget"
)

func reserving() map[string]func(*stage) {
	return map[string]func(*stage){
		"all limits hold, or none":                allOrNone,
		"each item of a batch is decided":         batchItems,
		"same id, same body, same answer":         sameAnswer,
		"the table of keys":                       keys,
		"denied stays denied":                     deniedStays,
		"no limit, no hold":                       noLimit,
		"unlimited is recorded":                   unlimited,
		"a denial has the figures":                denialFigures,
		"a reserve after its release is denied":   afterRelease,
		"a tenant's figures are its own":          tenantsApart,
		"an id twice in one batch is one request": twiceInBatch,
		"a whole batch":                           wholeBatch,
	}
}

func allOrNone(s *stage) {
	s.limit("", budget.Total, 100)
	s.limit("p1", budget.Day, 60)
	s.held(asked("a", 50))
	s.stands("total 0/50/0 of 100", "day 0/50/0 of 60")
	s.answered(asked("b", 20), "refused exhausted") // the day has 10
	other := asked("c", 50)
	other.Project = "p2"
	s.held(other)
	s.answered(asked("d", 1), "refused exhausted") // the total has none
	s.stands("total 0/100/0 of 100", "day 0/50/0 of 60")
}

func batchItems(s *stage) {
	s.limit("p1", budget.Total, 100)
	var got []budget.Verdict
	for _, a := range s.reserve(asked("a", 60), asked("b", 50), asked("c", 40), asked("d", 1)) {
		got = append(got, a.Verdict)
	}
	if want := []budget.Verdict{budget.Held, budget.Refused, budget.Held, budget.Refused}; !slices.Equal(got, want) {
		s.Errorf("got %v, want %v", got, want)
	}
	s.stands("total 0/100/0 of 100")
}

// sameAnswer is also the case of an answer that was lost, and of a crash behind
// the commit: who asks again gets what was done.
func sameAnswer(s *stage) {
	s.limit("p1", budget.Total, 100)
	for _, h := range []budget.Hold{asked("a", 40), s.inline("a", 40)} {
		first := s.reserve(h)[0]
		s.Clock.Advance(time.Second)
		again := s.reserve(h)[0]
		if !again.Replayed {
			s.Error("the second answer is not marked")
		}
		again.Replayed = false
		if diff := cmp.Diff(first, again); diff != "" {
			s.Errorf("(-first +again):\n%s", diff)
		}
	}
	s.stands("total 0/80/0 of 100")
}

func keys(s *stage) {
	s.limit("p1", budget.Total, 1000)
	h := s.inline("a", 40)
	s.held(h, asked("a", 40)) // the other origin's is another
	next := h
	next.Attempt = 2
	s.held(next) // and so is the next attempt's
	for name, change := range map[string]func(*budget.Hold){
		"another body":        func(h *budget.Hold) { h.BodyHash[31]++ },
		"another sidecar":     func(h *budget.Hold) { h.Sidecar = s.Sidecars[1] },
		"another incarnation": func(h *budget.Hold) { h.Incarnation++ },
	} {
		other := h
		change(&other)
		if a := s.reserve(other)[0]; a.Verdict != budget.KeyReused || a.Request != (budget.Request{}) {
			s.Errorf("%s: got %+v, want key_reused and nothing of the request", name, a)
		}
	}
	s.stands("total 0/120/0 of 1000")
	for _, settle := range []struct {
		a     budget.Action
		n     int64
		state budget.State
	}{{budget.Commit, 7, budget.Committed}, {budget.Release, 0, budget.Released}} {
		h.Attempt++ // 2, which is held, and 3
		s.reserve(h)
		s.settle(second(h, settle.a, settle.n))
		if a := s.reserve(h)[0]; a.Verdict != budget.Settled || !a.Replayed || a.State != settle.state {
			s.Errorf("after its %s: got %+v, want it settled", settle.a, a)
		}
	}
	s.stands("total 7/80/0 of 1000")
}

func deniedStays(s *stage) {
	l := s.limit("p1", budget.Total, 10)
	s.answered(asked("a", 11), "refused exhausted")
	s.cut(l, 100)
	s.answered(asked("a", 11), "refused exhausted again")
	s.settled(second(asked("a", 11), budget.Commit, 11), "denied denied")
	s.settled(second(asked("a", 11), budget.Release, 0), "denied denied")
	s.settled(second(asked("a", 11), budget.TopUp, 20), "denied denied")
	s.held(asked("b", 11))
	s.stands("total 0/11/0 of 100")
}

func noLimit(s *stage) {
	s.answered(asked("a", 1), "refused no_limit")
	s.limit("p2", budget.Total, 100)
	s.answered(asked("b", 1), "refused no_limit")
	s.limit("", budget.Hour, 100)
	s.held(asked("c", 1))
	nobody := asked("d", 1)
	nobody.Project = ""
	s.held(nobody)
	s.stands("hour 0/2/0 of 100")
}

func unlimited(s *stage) {
	s.limit("p1", budget.Total, 10)
	h := s.inline("a", 500)
	h.Unlimited = true
	s.held(h)
	s.settled(second(h, budget.TopUp, 600), "done reserved")
	s.settled(second(h, budget.Commit, 700), "done committed")
	r, err := s.Store.Request(s.Context(), s.tenant, h.Key)
	if err != nil || r.Actual != 700 || r.Reserved != 600 || r.Overrun != 0 {
		s.Errorf("got %+v and %v", r, err)
	}
	s.stands("total 0/0/0 of 10")
}

func denialFigures(s *stage) {
	s.limit("", budget.Total, 1000)
	l := s.limit("p1", budget.Day, 100)
	s.held(asked("a", 30))
	midnight := time.Date(2026, 6, 18, 0, 0, 0, 0, time.UTC)
	want := &budget.Denial{Reason: budget.ReasonExhausted, LimitID: l.ID, Window: budget.Day, Limit: 100, Available: 70, Requested: 71, ResetsAt: &midnight}
	for range 2 {
		if diff := cmp.Diff(want, s.reserve(asked("b", 71))[0].Denial); diff != "" {
			s.Errorf("(-want +got):\n%s", diff)
		}
	}
	s.cut(l, 20)
	if d := s.reserve(asked("c", 1))[0].Denial; d == nil || d.Available != 0 || d.Limit != 20 {
		s.Errorf("after a cut: got %+v, want nothing available of 20", d)
	}
}

func afterRelease(s *stage) {
	s.limit("p1", budget.Total, 100)
	h := s.inline("a", 40)
	s.settled(second(h, budget.Release, 0), "done void")
	s.answered(h, "refused released")
	s.settled(second(h, budget.Release, 0), "already_released void again")
	s.settled(second(h, budget.Commit, 4), "already_released void")
	s.settled(second(asked("a", 40), budget.Release, 0), "not_found") // outsiders leave none
	s.held(asked("a", 40))
	s.stands("total 0/40/0 of 100")
}

func tenantsApart(s *stage) {
	other := *s
	other.tenant = s.Harness.Tenant(s)
	s.limit("p1", budget.Total, 100)
	l := other.limit("p1", budget.Total, 50)
	s.held(asked("a", 40))
	other.held(asked("a", 30))
	other.settled(second(asked("a", 30), budget.Commit, 20), "done committed")
	s.stands("total 0/40/0 of 100")
	other.stands("total 20/0/0 of 50")
	if _, err := s.Store.Limit(s.Context(), s.tenant, l.ID); err == nil {
		s.Error("another tenant's limit is there")
	}
}

func twiceInBatch(s *stage) {
	s.limit("p1", budget.Total, 100)
	other := asked("a", 50)
	got := s.reserve(asked("a", 40), asked("b", 40), asked("a", 40), other)
	if got[0].Verdict != budget.Held || got[1].Verdict != budget.Held || got[2].Verdict != budget.Held || !got[2].Replayed || got[3].Verdict != budget.KeyReused {
		s.Errorf("got %+v", got)
	}
	results, err := s.Store.Settle(s.Context(), s.tenant, []budget.Settlement{
		second(asked("a", 40), budget.Commit, 1), second(asked("b", 40), budget.Release, 0), second(asked("a", 40), budget.Commit, 2),
	})
	if err != nil || results[0].Outcome != budget.Done || results[1].Outcome != budget.Done || results[2].Outcome != budget.AlreadyCommitted {
		s.Errorf("got %+v and %v", results, err)
	}
	s.stands("total 1/0/0 of 100")
}

func wholeBatch(s *stage) {
	s.limit("p1", budget.Total, budget.MaxBatch-1)
	holds := make([]budget.Hold, budget.MaxBatch)
	settlements := make([]budget.Settlement, budget.MaxBatch)
	for i := range holds {
		holds[i] = asked(string(rune('a'+i%26))+string(rune('a'+i/26)), 1)
		settlements[i] = second(holds[i], budget.Commit, 2)
	}
	answers := s.reserve(holds...)
	for i, a := range answers {
		if want := i < budget.MaxBatch-1; (a.Verdict == budget.Held) != want {
			s.Errorf("hold %d: got %s", i, a.Verdict)
		}
	}
	results, err := s.Store.Settle(s.Context(), s.tenant, settlements)
	if err != nil || results[0].Overrun != 1 || results[budget.MaxBatch-1].Outcome != budget.NeverHeld {
		s.Errorf("got %v, %+v and %+v", err, results[0], results[budget.MaxBatch-1])
	}
	s.stands("total 255/0/255 of 255")
}

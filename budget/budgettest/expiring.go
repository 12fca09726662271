package budgettest

import (
	"fmt"
	"time"

	"gatehouse/budget"
)

func expiring() map[string]func(*stage) {
	return map[string]func(*stage){
		"a hold of the API expires to nothing":   apiExpiry,
		"an inline hold expires to its charge":   inlineExpiry,
		"a late commit takes what room there is": lateCommit,
		"a sidecar's earlier processes":          incarnations,
		"a sweep is bounded":                     boundedSweep,
	}
}

func apiExpiry(s *stage) {
	s.limit("p1", budget.Total, 100)
	a, b, c := asked("a", 40), asked("b", 20), asked("c", 10)
	c.TTL = time.Hour
	s.held(a, b, c)
	s.Clock.Advance(5*time.Minute - time.Millisecond)
	s.expired(0)
	s.Clock.Advance(time.Millisecond)
	s.expired(2)
	s.expired(0)
	s.stands("total 0/10/0 of 100")
	s.settled(second(a, budget.Release, 0), "expired expired")
	s.settled(second(a, budget.Commit, 30), "done committed late")
	s.settled(second(a, budget.Commit, 30), "already_committed committed late again")
	s.stands("total 30/10/0 of 100")
	if v := s.reserve(b)[0]; v.Verdict != budget.Settled || v.State != budget.Expired {
		s.Errorf("an expired hold that is asked for again: got %+v", v)
	}
}

// inlineExpiry: what went upstream may have been billed in full, until its
// sidecar says better.
func inlineExpiry(s *stage) {
	s.limit("p1", budget.Total, 200)
	a, b, c, d := s.inline("a", 40), s.inline("b", 50), s.inline("c", 20), s.inline("d", 10)
	s.held(a, b, c, d)
	s.Clock.Advance(time.Hour)
	s.expired(4)
	s.stands("total 120/0/0 of 200")
	s.settled(second(a, budget.Commit, 15), "done committed late")
	s.stands("total 95/0/0 of 200")
	s.settled(second(b, budget.Release, 0), "done released late")
	s.stands("total 45/0/0 of 200")
	s.held(asked("e", 150))
	s.settled(second(c, budget.Commit, 27), "done committed late") // 7 more; 5 left
	s.stands("total 50/150/2 of 200")
	s.settled(second(c, budget.Release, 0), "already_committed committed late")
	s.settled(second(b, budget.Commit, 9), "already_released released late")
	s.settled(second(b, budget.Release, 0), "already_released released late again")
}

func lateCommit(s *stage) {
	s.limit("", budget.Total, 1000)
	s.limit("p1", budget.Day, 100)
	h := asked("a", 80)
	s.held(h)
	s.Clock.Advance(10 * time.Minute)
	s.expired(1)
	s.held(asked("b", 70))
	s.settled(second(h, budget.Commit, 50), "done committed late")
	s.stands("total 50/70/0 of 1000", "day 30/70/20 of 100")
}

func incarnations(s *stage) {
	s.limit("p1", budget.Total, 1000)
	first, now, elsewhere, outside := s.inline("a", 10), s.inline("b", 20), s.inline("c", 40), asked("d", 80)
	now.Incarnation = 2
	elsewhere.Sidecar = s.Sidecars[1]
	s.held(first, now, elsewhere, outside)
	for i, want := range []int{1, 0} {
		if n, err := s.Store.CloseSidecar(s.Context(), s.Sidecars[0], 2); err != nil || n != want {
			s.Errorf("closing, time %d: got %d and %v, want %d", i, n, err, want)
		}
	}
	s.stands("total 10/140/0 of 1000")
	s.settled(second(first, budget.Commit, 3), "done committed late")
	s.settled(second(now, budget.Commit, 3), "done committed")
	s.stands("total 6/120/0 of 1000")
	if n, err := s.Store.CloseSidecar(s.Context(), "no UUID", 2); err != nil || n != 0 {
		s.Errorf("nobody's: got %d and %v", n, err)
	}
}

// boundedSweep: the first to be kept are the last to expire.
func boundedSweep(s *stage) {
	s.limit("p1", budget.Total, 1000)
	for batch := range 2 {
		holds := make([]budget.Hold, budget.MaxSweep-1)
		for i := range holds {
			holds[i] = asked(fmt.Sprint(batch, "-", i), 1)
			holds[i].TTL -= time.Duration(batch) * time.Minute
		}
		s.held(holds...)
	}
	s.Clock.Advance(time.Hour)
	s.expired(budget.MaxSweep)
	for i := range budget.MaxSweep - 1 {
		r, err := s.Store.Request(s.Context(), s.tenant, asked(fmt.Sprint("1-", i), 1).Key)
		if err != nil || r.State != budget.Expired {
			s.Fatalf("one of those that expired first is %+v, %v", r, err)
		}
	}
	s.expired(budget.MaxSweep - 2)
	s.stands("total 0/0/0 of 1000")
}

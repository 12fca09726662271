package budgettest

import (
	"time"

	"gatehouse/budget"
)

func settling() map[string]func(*stage) {
	return map[string]func(*stage){
		"a commit gives the rest back":         commitGivesBack,
		"a release gives all back":             releaseGivesBack,
		"each second resolution has its name":  secondResolutions,
		"excess takes room row by row":         excess,
		"a limit that is cut":                  cutLimit,
		"a top-up names the total":             topUps,
		"nobody settles what is another's":     anothers,
		"an id of another origin is not found": otherOrigin,
	}
}

func commitGivesBack(s *stage) {
	s.limit("", budget.Total, 100)
	s.limit("p1", budget.Hour, 100)
	a, b := asked("a", 40), s.inline("b", 60)
	s.held(a, b)
	s.settled(second(a, budget.Commit, 15), "done committed")
	flagged := second(b, budget.Commit, 0)
	flagged.Flagged = true
	s.settled(flagged, "done committed")
	s.stands("total 15/0/0 of 100", "hour 15/0/0 of 100")
	r, err := s.Store.Request(s.Context(), s.tenant, b.Key)
	if err != nil || !r.Flagged || r.Actual != 0 || r.Reserved != 60 || !r.Settled.Equal(s.Clock.Now()) || !r.Expires.Equal(s.Clock.Now().Add(b.TTL)) {
		s.Errorf("got %+v and %v", r, err)
	}
}

func releaseGivesBack(s *stage) {
	s.limit("p1", budget.Total, 100)
	h := asked("a", 100)
	s.held(h)
	s.answered(asked("b", 1), "refused exhausted")
	s.settled(second(h, budget.Release, 0), "done released")
	s.stands("total 0/0/0 of 100")
	s.held(asked("c", 100))
}

func secondResolutions(s *stage) {
	s.limit("p1", budget.Total, 1000)
	committed, released := asked("c", 50), asked("r", 50)
	s.held(committed, released)
	s.settle(second(committed, budget.Commit, 30))
	s.settle(second(released, budget.Release, 0))
	s.settled(second(committed, budget.Commit, 30), "already_committed committed again")
	s.settled(second(committed, budget.Commit, 31), "already_committed committed")
	s.settled(second(committed, budget.Release, 0), "already_committed committed")
	s.settled(second(committed, budget.TopUp, 70), "already_committed committed")
	s.settled(second(released, budget.Release, 0), "already_released released again")
	s.settled(second(released, budget.Commit, 30), "already_released released")
	s.settled(second(released, budget.TopUp, 70), "already_released released")
	s.settled(second(asked("never", 1), budget.Commit, 1), "not_found")
	s.settled(second(s.inline("never", 1), budget.Commit, 1), "not_found")
	s.settled(second(s.inline("never", 1), budget.TopUp, 1), "not_found")
	s.stands("total 30/0/0 of 1000")
}

func excess(s *stage) {
	s.limit("p1", budget.Day, 100)
	s.limit("", budget.Total, 1000)
	a, b := asked("a", 60), asked("b", 30)
	s.held(a, b)
	s.settled(second(a, budget.Commit, 90), "done committed") // 30 more; the day has 10
	s.stands("total 90/30/0 of 1000", "day 70/30/20 of 100")
	s.settled(second(b, budget.Commit, 31), "done committed")
	s.stands("total 121/0/0 of 1000", "day 100/0/21 of 100")
	if r, err := s.Store.Request(s.Context(), s.tenant, a.Key); err != nil || r.Overrun != 20 || r.Actual != 90 {
		s.Errorf("got %+v and %v, want an overrun of 20", r, err)
	}
	s.answered(asked("c", 1), "refused exhausted")
}

// cutLimit: at once nothing more is held, and what is held stays paid for.
func cutLimit(s *stage) {
	l := s.limit("p1", budget.Total, 100)
	a, b, c := asked("a", 30), asked("b", 30), asked("c", 30)
	s.held(a, b, c)
	s.settle(second(a, budget.Commit, 20))
	s.cut(l, 50)
	s.stands("total 20/60/0 of 50 up to 80")
	s.answered(asked("d", 1), "refused exhausted")
	s.settled(second(b, budget.TopUp, 31), "no_room reserved")
	s.settled(second(b, budget.Commit, 35), "done committed") // 5 beyond, and no room
	s.stands("total 50/30/5 of 50 up to 80")
	s.settled(second(c, budget.Release, 0), "done released")
	s.stands("total 50/0/5 of 50")
	s.cut(l, 40)
	s.stands("total 50/0/5 of 40 up to 50")
	s.cut(l, 70)
	s.stands("total 50/0/5 of 70")
	s.held(asked("e", 20))
}

func topUps(s *stage) {
	s.limit("", budget.Total, 100)
	s.limit("p1", budget.Day, 70)
	h := s.inline("a", 20)
	s.held(h)
	s.settled(second(h, budget.TopUp, 50), "done reserved")
	s.settled(second(h, budget.TopUp, 50), "done reserved") // again
	s.settled(second(h, budget.TopUp, 30), "done reserved") // overtaken
	s.stands("total 0/50/0 of 100", "day 0/50/0 of 70")
	s.settled(second(h, budget.TopUp, 71), "no_room reserved")
	s.stands("total 0/50/0 of 100", "day 0/50/0 of 70")
	s.settled(second(h, budget.TopUp, 70), "done reserved")
	s.settled(second(h, budget.Commit, 65), "done committed")
	s.stands("total 65/0/0 of 100", "day 65/0/0 of 70")
	expired := s.inline("b", 5)
	s.held(expired)
	s.Clock.Advance(time.Hour)
	s.expired(1)
	s.settled(second(expired, budget.TopUp, 6), "expired expired_charged")
}

// anothers also shows that a release of what is there and another's leaves no
// tombstone.
func anothers(s *stage) {
	s.limit("", budget.Total, 1000)
	mine, outside := s.inline("a", 10), asked("b", 10)
	s.held(mine, outside)
	for _, a := range []budget.Action{budget.Commit, budget.Release, budget.TopUp} {
		tokens := int64(5)
		if a == budget.Release {
			tokens = 0
		}
		t := second(mine, a, tokens)
		t.Sidecar = s.Sidecars[1]
		s.settled(t, "not_found")
		t = second(outside, a, tokens)
		t.Project = "p2"
		s.settled(t, "not_found")
	}
	s.stands("total 0/20/0 of 1000")
	t := second(outside, budget.Commit, 5)
	t.Project = "p1"
	s.settled(t, "done committed")
	s.settled(second(mine, budget.Commit, 5), "done committed")
	tenantWide := asked("c", 10)
	tenantWide.Project = ""
	s.held(tenantWide)
	t = second(tenantWide, budget.Commit, 5)
	t.Project = "p1"
	s.settled(t, "not_found")
	t.Project = ""
	s.settled(t, "done committed")
}

func otherOrigin(s *stage) {
	s.limit("p1", budget.Total, 1000)
	h := s.inline("a", 40)
	s.held(h)
	outsider := asked("a", 40)
	s.settled(second(outsider, budget.Commit, 5), "not_found")
	s.settled(second(outsider, budget.Release, 0), "not_found")
	s.settled(second(outsider, budget.TopUp, 50), "not_found")
	if _, err := s.Store.Request(s.Context(), s.tenant, outsider.Key); err == nil {
		s.Error("the request is there for outsiders")
	}
	s.stands("total 0/40/0 of 1000")
	s.settled(second(h, budget.Commit, 5), "done committed")
}

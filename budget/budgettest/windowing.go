package budgettest

import (
	"time"

	"gatehouse/budget"
	"gatehouse/internal/request"
)

func windowing() map[string]func(*stage) {
	return map[string]func(*stage){
		"windows roll over":                         rollOver,
		"a hold stays in the window it was held in": staysInWindow,
		"a day has a zone":                          zones,
		"a change is of the present window":         changesPresent,
		"a limit that nobody used for long":         longIdle,
	}
}

func rollOver(s *stage) {
	for _, w := range budget.Windows() {
		s.limit("p1", w, 100)
	}
	use := func(id string) {
		s.Helper()
		s.held(asked(id, 10))
		s.settled(second(asked(id, 10), budget.Commit, 10), "done committed")
	}
	at := func(month time.Month, day, hour, minute int) {
		s.Clock.Set(time.Date(2026, month, day, hour, minute, 0, 0, time.UTC))
	}
	use("wednesday")
	s.stands("total 10/0/0 of 100", "hour 10/0/0 of 100", "day 10/0/0 of 100", "week 10/0/0 of 100", "month 10/0/0 of 100")
	at(time.June, 17, 13, 0)
	s.stands("total 10/0/0 of 100", "hour 0/0/0 of 100", "day 10/0/0 of 100", "week 10/0/0 of 100", "month 10/0/0 of 100")
	use("an hour later")
	at(time.June, 18, 0, 0)
	use("thursday")
	s.stands("total 30/0/0 of 100", "hour 10/0/0 of 100", "day 10/0/0 of 100", "week 30/0/0 of 100", "month 30/0/0 of 100")
	at(time.June, 21, 23, 59)
	use("sunday")
	at(time.June, 22, 0, 0)
	use("monday")
	s.stands("total 50/0/0 of 100", "hour 10/0/0 of 100", "day 10/0/0 of 100", "week 10/0/0 of 100", "month 50/0/0 of 100")
	at(time.July, 1, 0, 0)
	use("july")
	s.stands("total 60/0/0 of 100", "hour 10/0/0 of 100", "day 10/0/0 of 100", "week 10/0/0 of 100", "month 10/0/0 of 100")
}

func staysInWindow(s *stage) {
	s.limit("p1", budget.Hour, 100)
	a, b, c := asked("a", 40), s.inline("b", 50), s.inline("c", 10)
	a.TTL, b.TTL, c.TTL = 3*time.Hour, 3*time.Hour, 3*time.Hour
	s.held(a, b, c)
	s.Clock.Advance(time.Hour)
	s.stands("hour 0/0/0 of 100")
	s.held(asked("d", 100))
	s.settled(second(a, budget.Commit, 70), "done committed") // all its hour had is taken: 30 are overrun
	s.settled(second(b, budget.TopUp, 51), "no_room reserved")
	s.settled(second(b, budget.Release, 0), "done released")
	s.settled(second(c, budget.TopUp, 60), "done reserved") // its own hour has the room
	s.stands("hour 0/100/0 of 100")
	r, err := s.Store.Request(s.Context(), s.tenant, a.Key)
	if err != nil || r.Overrun != 30 {
		s.Errorf("got %+v and %v", r, err)
	}
}

// zones: Berlin's midnight was 22:00 UTC in June, and it sets its clocks in March
// and October.
func zones(s *stage) {
	_, err := s.Store.CreateLimit(s.Context(), request.Principal{}, budget.Limit{Tenant: s.tenant, Project: "p1", Window: budget.Day, Zone: "Europe/Berlin", Tokens: 100})
	if err != nil {
		s.Fatal(err)
	}
	utc := func(text string) time.Time {
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			s.Fatal(err)
		}
		return t
	}
	for _, tt := range []struct{ now, start, end string }{
		{"2026-06-17T21:59:59Z", "2026-06-16T22:00:00Z", "2026-06-17T22:00:00Z"},
		{"2026-06-17T22:00:00Z", "2026-06-17T22:00:00Z", "2026-06-18T22:00:00Z"},
		{"2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"}, // 25 hours
		{"2027-03-28T12:00:00Z", "2027-03-27T23:00:00Z", "2027-03-28T22:00:00Z"}, // 23 hours
	} {
		s.Clock.Set(utc(tt.now))
		h := asked(tt.now, 100)
		s.held(h)
		s.settled(second(h, budget.Commit, 100), "done committed")
		u, err := s.Store.Usage(s.Context(), s.tenant, "p1")
		if err != nil || len(u) != 1 || !u[0].Start.Equal(utc(tt.start)) || !u[0].End.Equal(utc(tt.end)) || u[0].Used != 100 {
			s.Errorf("at %s: got %+v and %v, want %s to %s", tt.now, u, err, tt.start, tt.end)
		}
	}
}

func changesPresent(s *stage) {
	l := s.limit("p1", budget.Hour, 100)
	h := asked("a", 100)
	h.TTL = 3 * time.Hour
	s.held(h)
	s.Clock.Advance(time.Hour)
	s.cut(l, 10)
	s.stands("hour 0/0/0 of 10")
	s.answered(asked("b", 11), "refused exhausted")
	s.settled(second(h, budget.Commit, 100), "done committed") // its hour keeps the limit it had
	if r, err := s.Store.Request(s.Context(), s.tenant, h.Key); err != nil || r.Overrun != 0 {
		s.Errorf("got %+v and %v", r, err)
	}
	s.Clock.Advance(time.Hour)
	s.stands("hour 0/0/0 of 10")
	s.remove(l)
	s.gone(l)
}

func longIdle(s *stage) {
	s.limit("p1", budget.Hour, 100)
	s.held(asked("a", 60))
	s.Clock.Advance(1000*time.Hour + 20*time.Minute)
	u, err := s.Store.Usage(s.Context(), s.tenant, "p1")
	start := s.Clock.Now().Truncate(time.Hour)
	if err != nil || len(u) != 1 || !u[0].Start.Equal(start) || !u[0].End.Equal(start.Add(time.Hour)) {
		s.Errorf("got %+v and %v, want the hour from %s", u, err, start)
	}
	s.held(asked("b", 60))
	s.stands("hour 0/60/0 of 100")
}

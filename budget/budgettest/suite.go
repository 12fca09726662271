// Package budgettest is the suite that every budget.Store passes. It is
// test-only.
//
// Each case has a Store of its own and a clock that it sets. What a case shows
// by figures is written as people would read them off: "used/reserved/overrun of
// limit".
package budgettest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/budget"
	"gatehouse/internal/request"
)

// Harness is a store under test with what it must know of.
type Harness struct {
	Store    budget.Store
	Clock    *Clock                    // the store's
	Tenant   func(t testing.TB) string // registers one more, with projects p1 and p2
	Sidecars [2]string                 // registered
	Balanced func(t testing.TB)        // reports rows that journal or requests don't account for
	Steps    int                       // of a random history
}

// Clock is a clock that stands until it is moved. It may be shared.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands in the middle of a day, an hour and a
// month in UTC.
func NewClock() *Clock { return &Clock{now: time.Date(2026, 6, 17, 12, 30, 0, 0, time.UTC)} }

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Set moves the clock to a time.
func (c *Clock) Set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// TestStore runs the suite. newHarness makes an empty store for each case.
func TestStore(t *testing.T, newHarness func(t *testing.T) Harness) {
	for _, suite := range []map[string]func(*stage){reserving(), settling(), expiring(), limiting(), windowing(), telling(), failing(), linearizing()} {
		for name, run := range suite {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				h := newHarness(t)
				s := &stage{T: t, Harness: h, tenant: h.Tenant(t)}
				run(s)
				h.Balanced(t)
			})
		}
	}
	t.Run("any history", func(t *testing.T) {
		t.Parallel()
		anyHistory(t, newHarness(t))
	})
}

// stage is a case's store, and short words for what cases do. A word that
// expects something reports at its caller.
type stage struct {
	*testing.T
	Harness
	tenant string
}

// limit makes a limit.
func (s *stage) limit(project string, w budget.Window, tokens int64) budget.Limit {
	s.Helper()
	l, err := s.Store.CreateLimit(s.Context(), request.Principal{}, budget.Limit{Tenant: s.tenant, Project: project, Window: w, Zone: "UTC", Tokens: tokens})
	if err != nil {
		s.Fatalf("limit of %d: %v", tokens, err)
	}
	return l
}

// cut sets a limit to another number.
func (s *stage) cut(l budget.Limit, tokens int64) {
	s.Helper()
	if _, err := s.Store.SetLimit(s.Context(), request.Principal{}, s.tenant, l.ID, 0, tokens); err != nil {
		s.Fatalf("limit to %d: %v", tokens, err)
	}
}

// remove deletes a limit.
func (s *stage) remove(l budget.Limit) {
	s.Helper()
	if err := s.Store.DeleteLimit(s.Context(), request.Principal{}, s.tenant, l.ID, 0); err != nil {
		s.Fatal(err)
	}
}

// asked is a hold of the API for project p1.
func asked(id string, tokens int64) budget.Hold {
	return budget.Hold{
		Key: budget.Key{Origin: budget.API, ID: id, Attempt: 1}, Project: "p1", Tokens: tokens, TTL: 5 * time.Minute, BodyHash: [32]byte{byte(tokens)},
	}
}

// inline is a hold of the first sidecar for project p1.
func (s *stage) inline(id string, tokens int64) budget.Hold {
	h := asked(id, tokens)
	h.Origin, h.Sidecar, h.Incarnation = budget.Inline, s.Sidecars[0], 1
	return h
}

// second is a second word about a hold, by whoever made it.
func second(h budget.Hold, a budget.Action, tokens int64) budget.Settlement {
	return budget.Settlement{Key: h.Key, Action: a, Tokens: tokens, Sidecar: h.Sidecar}
}

// reserve reserves in one call.
func (s *stage) reserve(holds ...budget.Hold) []budget.Answer {
	s.Helper()
	answers, err := s.Store.Reserve(s.Context(), s.tenant, holds)
	if err != nil || len(answers) != len(holds) {
		s.Fatalf("reserve: %d answers and %v", len(answers), err)
	}
	return answers
}

// held reserves and expects to hold.
func (s *stage) held(holds ...budget.Hold) {
	s.Helper()
	for i, a := range s.reserve(holds...) {
		if h := holds[i]; a.Verdict != budget.Held || a.Replayed || a.Reserved != h.Tokens || a.State != budget.Reserved || a.Key != h.Key || a.Project != h.Project {
			s.Fatalf("hold %+v: got %+v, want it held", h, a)
		}
	}
}

// answered expects the verdict on a hold, as text.
func (s *stage) answered(h budget.Hold, want string) {
	s.Helper()
	a := s.reserve(h)[0]
	got := string(a.Verdict)
	if a.Denial != nil {
		got += " " + string(a.Denial.Reason)
	}
	if a.Replayed {
		got += " again"
	}
	if got != want {
		s.Errorf("hold of %d: got %q, want %q", h.Tokens, got, want)
	}
}

// settle settles one and returns what became of it.
func (s *stage) settle(t budget.Settlement) budget.Result {
	s.Helper()
	r, err := s.Store.Settle(s.Context(), s.tenant, []budget.Settlement{t})
	if err != nil || len(r) != 1 {
		s.Fatalf("settle: %d results and %v", len(r), err)
	}
	return r[0]
}

// settled expects the outcome of a settlement, as text.
func (s *stage) settled(t budget.Settlement, want string) {
	s.Helper()
	r := s.settle(t)
	got := string(r.Outcome)
	if r.State != "" {
		got += " " + string(r.State)
	}
	if r.Late {
		got += " late"
	}
	if r.Replayed {
		got += " again"
	}
	if got != want {
		s.Errorf("%s of %d: got %q, want %q", t.Action, t.Tokens, got, want)
	}
}

// expired expects how many holds end now.
func (s *stage) expired(want int) {
	s.Helper()
	if n, err := s.Store.Expire(s.Context()); err != nil || n != want {
		s.Errorf("expire: got %d and %v, want %d", n, err, want)
	}
}

// stands expects where the limits of p1 stand, the tenant's first.
func (s *stage) stands(want ...string) {
	s.Helper()
	usage, err := s.Store.Usage(s.Context(), s.tenant, "p1")
	if err != nil {
		s.Fatal(err)
	}
	var got []string
	for _, u := range usage {
		text := fmt.Sprintf("%s %d/%d/%d of %d", u.Window, u.Used, u.Reserved, u.Overrun, u.Tokens)
		if u.Ceiling != u.Tokens {
			text += fmt.Sprintf(" up to %d", u.Ceiling)
		}
		if want := max(0, u.Tokens-u.Used-u.Reserved); u.Available != want {
			s.Errorf("%s: %d available, want %d", text, u.Available, want)
		}
		got = append(got, text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.Errorf("limits (-want +got):\n%s", diff)
	}
}

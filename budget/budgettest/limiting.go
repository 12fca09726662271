package budgettest

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/budget"
	"gatehouse/internal/request"
)

func limiting() map[string]func(*stage) {
	return map[string]func(*stage){
		"a limit's life":                      limitLife,
		"a limit counts from its creation":    countsFromCreation,
		"a deleted limit waits for its holds": deletedWaits,
		"limits that can't be":                refusedLimits,
		"pages of limits":                     limitPages,
	}
}

func limitLife(s *stage) {
	made := s.limit("p1", budget.Day, 100)
	want := budget.Limit{
		ID: made.ID, Tenant: s.tenant, Project: "p1", Window: budget.Day, Zone: "UTC", Tokens: 100, Version: 1,
		CreatedAt: s.Clock.Now(), UpdatedAt: s.Clock.Now(),
	}
	if diff := cmp.Diff(want, made); diff != "" || !budget.IsID(made.ID) {
		s.Errorf("made (-want +got):\n%s", diff)
	}
	s.Clock.Advance(48 * time.Hour)
	want.Tokens, want.Version, want.UpdatedAt = 70, 2, s.Clock.Now()
	set, err := s.Store.SetLimit(s.Context(), request.Principal{}, s.tenant, made.ID, 1, 70)
	if diff := cmp.Diff(want, set); diff != "" || err != nil {
		s.Errorf("set: %v (-want +got):\n%s", err, diff)
	}
	if _, err := s.Store.SetLimit(s.Context(), request.Principal{}, s.tenant, made.ID, 1, 80); !errors.Is(err, budget.ErrVersion) {
		s.Errorf("of an old version: got %v", err)
	}
	read, err := s.Store.Limit(s.Context(), s.tenant, made.ID)
	if diff := cmp.Diff(want, read); diff != "" || err != nil {
		s.Errorf("read: %v (-want +got):\n%s", err, diff)
	}
	if err := s.Store.DeleteLimit(s.Context(), request.Principal{}, s.tenant, made.ID, 1); !errors.Is(err, budget.ErrVersion) {
		s.Errorf("delete of an old version: got %v", err)
	}
	if err := s.Store.DeleteLimit(s.Context(), request.Principal{}, s.tenant, made.ID, 2); err != nil {
		s.Error(err)
	}
	s.gone(made)
	s.answered(asked("a", 1), "refused no_limit")
	s.limit("p1", budget.Day, 5) // makes room for another
	s.stands("day 0/0/0 of 5")
}

// gone expects that a limit is not there for anybody.
func (s *stage) gone(l budget.Limit) {
	s.Helper()
	ctx := s.Context()
	_, read := s.Store.Limit(ctx, s.tenant, l.ID)
	_, set := s.Store.SetLimit(ctx, request.Principal{}, s.tenant, l.ID, 0, 5)
	removed := s.Store.DeleteLimit(ctx, request.Principal{}, s.tenant, l.ID, 0)
	for what, err := range map[string]error{"read": read, "set": set, "delete": removed} {
		if !errors.Is(err, budget.ErrUnknown) {
			s.Errorf("%s: got %v, want ErrUnknown", what, err)
		}
	}
	p, err := s.Store.Limits(ctx, s.tenant, "", 100)
	if err != nil || slices.ContainsFunc(p.Items, func(o budget.Limit) bool { return o.ID == l.ID }) {
		s.Errorf("listed: %+v, %v", p.Items, err)
	}
}

func countsFromCreation(s *stage) {
	s.limit("p1", budget.Day, 100)
	early := asked("a", 40)
	s.held(early)
	s.limit("", budget.Day, 100)
	s.stands("day 0/0/0 of 100", "day 0/40/0 of 100")
	s.settled(second(early, budget.Commit, 90), "done committed")
	s.stands("day 0/0/0 of 100", "day 90/0/0 of 100")
}

func deletedWaits(s *stage) {
	l := s.limit("p1", budget.Total, 100)
	a, b := asked("a", 40), asked("b", 50)
	s.held(a, b)
	s.remove(l)
	s.answered(asked("c", 1), "refused no_limit")
	s.stands()
	read, err := s.Store.Limit(s.Context(), s.tenant, l.ID)
	if err != nil || !read.ClosedAt.Equal(s.Clock.Now()) || read.Version != 2 {
		s.Errorf("with open holds: got %+v and %v, want it closed and there", read, err)
	}
	s.limit("p1", budget.Total, 10)
	s.settled(second(a, budget.Commit, 70), "done committed") // where it was held
	if _, err := s.Store.Limit(s.Context(), s.tenant, l.ID); err != nil {
		s.Errorf("with one open hold: %v", err)
	}
	s.settled(second(b, budget.Release, 0), "done released")
	s.gone(l)
	s.stands("total 0/0/0 of 10")
}

func refusedLimits(s *stage) {
	l := budget.Limit{Tenant: s.tenant, Project: "p1", Window: budget.Day, Zone: "Europe/Berlin", Tokens: 1}
	if _, err := s.Store.CreateLimit(s.Context(), request.Principal{}, l); err != nil {
		s.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*budget.Limit)
		want   error
	}{
		"twice":          {func(*budget.Limit) {}, budget.ErrExists},
		"in other zones": {func(l *budget.Limit) { l.Zone = "UTC" }, budget.ErrExists},
		"no window":      {func(l *budget.Limit) { l.Window = "year" }, budget.ErrWindow},
		"no zone":        {func(l *budget.Limit) { l.Zone = "" }, budget.ErrZone},
		"unknown zone":   {func(l *budget.Limit) { l.Zone = "Europe/Atlantis" }, budget.ErrZone},
		"local zone":     {func(l *budget.Limit) { l.Zone = "Local" }, budget.ErrZone},
		"posix zone":     {func(l *budget.Limit) { l.Zone = "EST+3" }, budget.ErrZone},
		"long zone":      {func(l *budget.Limit) { l.Zone = strings.Repeat("x", 100) }, budget.ErrZone},
		"negative":       {func(l *budget.Limit) { l.Tokens = -1 }, budget.ErrTokens},
		"too much":       {func(l *budget.Limit) { l.Tokens = budget.MaxLimit + 1 }, budget.ErrTokens},
		"all tenants":    {func(l *budget.Limit) { l.Tenant = "*" }, budget.ErrInvalid},
		"no project":     {func(l *budget.Limit) { l.Project = "a b" }, budget.ErrInvalid},
	} {
		bad := l
		tt.change(&bad)
		if _, err := s.Store.CreateLimit(s.Context(), request.Principal{}, bad); !errors.Is(err, tt.want) {
			s.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
	if _, err := s.Store.SetLimit(s.Context(), request.Principal{}, s.tenant, l.ID, 0, -1); !errors.Is(err, budget.ErrTokens) {
		s.Errorf("set to -1: got %v", err)
	}
	s.gone(budget.Limit{ID: "00000000-0000-4000-8000-000000000000"})
	s.gone(budget.Limit{ID: "no UUID"})
}

func limitPages(s *stage) {
	want := map[string]bool{}
	for _, project := range []string{"", "p1"} {
		for _, w := range budget.Windows() {
			want[s.limit(project, w, 1).ID] = true
		}
	}
	after, pages := "", 0
	for {
		p, err := s.Store.Limits(s.Context(), s.tenant, after, 4)
		if err != nil || len(p.Items) > 4 || pages > 3 {
			s.Fatalf("page %d: %d items and %v", pages, len(p.Items), err)
		}
		for _, l := range p.Items {
			if !want[l.ID] || l.ID <= after {
				s.Errorf("%s is out of place", l.ID)
			}
			delete(want, l.ID)
		}
		if pages++; p.Next == "" {
			break
		}
		after = p.Next
	}
	if len(want) != 0 || pages != 3 {
		s.Errorf("%d pages, and %d limits are missing", pages, len(want))
	}
	if _, err := s.Store.Limits(s.Context(), s.tenant, "x", 4); !errors.Is(err, budget.ErrPosition) {
		s.Errorf("no position: got %v", err)
	}
}

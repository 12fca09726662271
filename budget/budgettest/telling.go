package budgettest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/budget"
	"gatehouse/internal/request"
)

func telling() map[string]func(*stage) {
	return map[string]func(*stage){
		"the journal tells all": journalTells,
		"pages of the journal":  journalPages,
	}
}

func failing() map[string]func(*stage) {
	return map[string]func(*stage){
		"what can't be kept is refused": refusedItems,
		"whoever left wants nothing":    cancelled,
	}
}

// told is a line in short.
func told(l budget.Line) string {
	text := fmt.Sprintf("%s %s%s used%+d reserved%+d overrun%+d", l.Kind, l.Origin, l.Key.ID, l.Used, l.Delta.Reserved, l.Overrun)
	if l.Late {
		text += " late"
	}
	if l.Limit != 0 {
		text += fmt.Sprint(" limit=", l.Limit)
	}
	return text
}

func journalTells(s *stage) {
	l := s.limit("p1", budget.Total, 100)
	a, b, c := asked("a", 40), s.inline("b", 30), asked("c", 20)
	s.held(a, b, c)
	s.settle(second(b, budget.TopUp, 35))
	s.settle(second(a, budget.Commit, 50))
	s.settle(second(a, budget.Commit, 50)) // tells nothing
	s.settle(second(c, budget.Release, 0))
	s.Clock.Advance(time.Hour)
	s.expired(1)
	s.settle(second(b, budget.Commit, 95))
	s.cut(l, 90)
	s.remove(l)
	p, err := s.Store.Journal(s.Context(), s.tenant, budget.Query{Limit: 100})
	if err != nil || p.Next != "" {
		s.Fatalf("%v, next %q", err, p.Next)
	}
	var got []string
	for i, line := range p.Items {
		got = append(got, told(line))
		if line.LimitID != l.ID || line.Project != "p1" || !budget.IsID(line.Row) || line.At.After(s.Clock.Now()) || (i > 0 && line.ID >= p.Items[i-1].ID) {
			s.Errorf("line %d: %+v", i, line)
		}
	}
	want := []string{
		"close admin used+0 reserved+0 overrun+0 limit=90",
		"limit admin used+0 reserved+0 overrun+0 limit=90",
		"correct inlineb used+20 reserved+0 overrun+40 late",
		"expire inlineb used+35 reserved-35 overrun+0",
		"release apic used+0 reserved-20 overrun+0",
		"commit apia used+45 reserved-40 overrun+5",
		"top_up inlineb used+0 reserved+5 overrun+0",
		"reserve apic used+0 reserved+20 overrun+0",
		"reserve inlineb used+0 reserved+30 overrun+0",
		"reserve apia used+0 reserved+40 overrun+0",
		"limit admin used+0 reserved+0 overrun+0 limit=100",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.Errorf("(-want +got):\n%s", diff)
	}
}

func journalPages(s *stage) {
	s.limit("", budget.Total, 100)
	other := asked("x", 1)
	other.Project = "p2"
	s.held(asked("a", 1), other, asked("b", 1), asked("c", 1))
	ids := func(q budget.Query) (ids []string) {
		for range 10 {
			p, err := s.Store.Journal(s.Context(), s.tenant, q)
			if err != nil || len(p.Items) > q.Limit {
				s.Fatalf("%d lines and %v", len(p.Items), err)
			}
			for _, l := range p.Items {
				ids = append(ids, l.Key.ID)
			}
			if q.Before = p.Next; q.Before == "" {
				return ids
			}
		}
		s.Fatal("the pages don't end")
		return nil
	}
	for name, tt := range map[string]struct {
		q    budget.Query
		want []string
	}{
		"all":         {budget.Query{Limit: 2}, []string{"c", "b", "x", "a", ""}},
		"just a page": {budget.Query{Limit: 5}, []string{"c", "b", "x", "a", ""}},
		"a project":   {budget.Query{Limit: 2, Project: "p1"}, []string{"c", "b", "a"}},
		"a request":   {budget.Query{Limit: 1, Request: "x"}, []string{"x"}},
		"nothing":     {budget.Query{Limit: 1, Request: "y"}, nil},
	} {
		if diff := cmp.Diff(tt.want, ids(tt.q)); diff != "" {
			s.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for _, bad := range []string{"x", "0", "-1"} {
		if _, err := s.Store.Journal(s.Context(), s.tenant, budget.Query{Before: bad}); !errors.Is(err, budget.ErrPosition) {
			s.Errorf("before %q: got %v", bad, err)
		}
	}
}

// refusedItems: one that can't be kept fails its call before anything is done.
func refusedItems(s *stage) {
	s.limit("p1", budget.Total, 100)
	for name, change := range map[string]func(*budget.Hold){
		"no id":         func(h *budget.Hold) { h.ID = "" },
		"long id":       func(h *budget.Hold) { h.ID = strings.Repeat("ä", 256) },
		"NUL":           func(h *budget.Hold) { h.ID = "a\x00" },
		"no UTF-8":      func(h *budget.Hold) { h.Model = "\xff" },
		"no origin":     func(h *budget.Hold) { h.Origin = "admin" },
		"no attempt":    func(h *budget.Hold) { h.Attempt = 0 },
		"no tokens":     func(h *budget.Hold) { h.Tokens = 0 },
		"too many":      func(h *budget.Hold) { h.Tokens = budget.MaxTokens + 1 },
		"no life":       func(h *budget.Hold) { h.TTL = 0 },
		"for ever":      func(h *budget.Hold) { h.TTL = budget.MaxTTL + 1 },
		"no sidecar":    func(h *budget.Hold) { h.Origin = budget.Inline },
		"not a sidecar": func(h *budget.Hold) { h.Sidecar = s.Sidecars[0] },
		"no task":       func(h *budget.Hold) { h.Task = "x" },
	} {
		bad := asked("b", 1)
		change(&bad)
		if _, err := s.Store.Reserve(s.Context(), s.tenant, []budget.Hold{asked("a", 1), bad}); !errors.Is(err, budget.ErrInvalid) {
			s.Errorf("%s: got %v", name, err)
		}
	}
	longest := asked(strings.Repeat("ä", 255), 1)
	longest.Purpose = strings.Repeat("ä", 256)
	s.held(longest)
	for name, bad := range map[string]budget.Settlement{
		"no action":     second(asked("a", 1), "expire", 0),
		"negative":      second(asked("a", 1), budget.Commit, -1),
		"release of":    second(asked("a", 1), budget.Release, 1),
		"up to nothing": second(asked("a", 1), budget.TopUp, 0),
		"nobody's":      second(budget.Hold{Key: budget.Key{Origin: budget.Inline, ID: "a", Attempt: 1}}, budget.Commit, 1),
	} {
		if _, err := s.Store.Settle(s.Context(), s.tenant, []budget.Settlement{bad}); !errors.Is(err, budget.ErrInvalid) {
			s.Errorf("settlement, %s: got %v", name, err)
		}
	}
	if _, err := s.Store.Reserve(s.Context(), s.tenant, make([]budget.Hold, budget.MaxBatch+1)); !errors.Is(err, budget.ErrInvalid) {
		s.Errorf("too many at once: got %v", err)
	}
	if _, err := s.Store.Request(s.Context(), s.tenant, budget.Key{}); !errors.Is(err, budget.ErrInvalid) {
		s.Errorf("no key: got %v", err)
	}
	s.stands("total 0/1/0 of 100")
}

func cancelled(s *stage) {
	l := s.limit("p1", budget.Total, 100)
	s.held(asked("a", 10))
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	calls := map[string]func() error{
		"reserve": func() error { _, err := s.Store.Reserve(ctx, s.tenant, []budget.Hold{asked("b", 1)}); return err },
		"settle": func() error {
			_, err := s.Store.Settle(ctx, s.tenant, []budget.Settlement{second(asked("a", 1), budget.Commit, 1)})
			return err
		},
		"expire": func() error { _, err := s.Store.Expire(ctx); return err },
		"close":  func() error { _, err := s.Store.CloseSidecar(ctx, s.Sidecars[0], 9); return err },
		"create": func() error {
			_, err := s.Store.CreateLimit(ctx, request.Principal{}, budget.Limit{Tenant: s.tenant, Window: budget.Day, Zone: "UTC"})
			return err
		},
		"set":     func() error { _, err := s.Store.SetLimit(ctx, request.Principal{}, s.tenant, l.ID, 0, 5); return err },
		"delete":  func() error { return s.Store.DeleteLimit(ctx, request.Principal{}, s.tenant, l.ID, 0) },
		"limit":   func() error { _, err := s.Store.Limit(ctx, s.tenant, l.ID); return err },
		"limits":  func() error { _, err := s.Store.Limits(ctx, s.tenant, "", 5); return err },
		"usage":   func() error { _, err := s.Store.Usage(ctx, s.tenant, "p1"); return err },
		"request": func() error { _, err := s.Store.Request(ctx, s.tenant, asked("a", 1).Key); return err },
		"journal": func() error { _, err := s.Store.Journal(ctx, s.tenant, budget.Query{}); return err },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, budget.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			s.Errorf("%s: got %v, want ErrUnavailable, as the caller left", name, err)
		}
	}
	s.stands("total 0/10/0 of 100")
}

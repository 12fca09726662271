package budgettest

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gatehouse/budget"
)

// anyHistory does random things to the store and to the model, and compares
// every answer and all figures.
func anyHistory(t *testing.T, h Harness) {
	rapid.Check(t, func(rt *rapid.T) {
		s := &stage{T: t, Harness: h, tenant: h.Tenant(t)}
		w := &history{stage: s, rt: rt, m: &model{now: h.Clock.Now(), requests: map[budget.Key]*modelRequest{}}}
		acts := []func(){w.reserves, w.reserves, w.reserves, w.settles, w.settles, w.settles, w.waits, w.expires, w.closes, w.limits, w.limits, w.deletes}
		w.limits()
		for range h.Steps {
			acts[rapid.IntRange(0, len(acts)-1).Draw(rt, "act")]()
			w.compare()
		}
		h.Balanced(t)
	})
}

// history is one history of a tenant.
type history struct {
	*stage
	rt *rapid.T
	m  *model
}

// hold draws from so few that ids meet again.
func (w *history) hold() budget.Hold {
	h := asked(fmt.Sprint("r", rapid.IntRange(1, 8).Draw(w.rt, "id")), rapid.Int64Range(1, 60).Draw(w.rt, "tokens"))
	h.Project = rapid.SampledFrom([]string{"", "p1", "p2"}).Draw(w.rt, "project")
	h.TTL = rapid.SampledFrom([]time.Duration{time.Minute, time.Hour, 30 * time.Hour}).Draw(w.rt, "ttl")
	if rapid.Bool().Draw(w.rt, "inline") {
		h.Origin, h.Sidecar = budget.Inline, rapid.SampledFrom(w.Sidecars[:]).Draw(w.rt, "sidecar")
		h.Incarnation = rapid.Int64Range(1, 2).Draw(w.rt, "incarnation")
	}
	if r := w.m.requests[h.Key]; r != nil && rapid.Bool().Draw(w.rt, "again") {
		h = r.hold
		h.Key = budget.Key{Origin: h.Origin, ID: h.ID, Attempt: max(1, h.Attempt)}
	}
	if h.ID == "" { // of a tombstone: there is no hold to repeat
		return w.hold()
	}
	h.BodyHash = sha256.Sum256(fmt.Append(nil, h.Project, h.TTL, h.Tokens))
	return h
}

func (w *history) reserves() {
	holds := make([]budget.Hold, rapid.IntRange(1, 4).Draw(w.rt, "holds"))
	for i := range holds {
		holds[i] = w.hold()
	}
	for i, a := range w.reserve(holds...) {
		verdict, state := w.m.reserve(holds[i])
		if a.Verdict != verdict || a.State != state {
			w.rt.Fatalf("hold %+v: got %s %s, want %s %s", holds[i], a.Verdict, a.State, verdict, state)
		}
	}
}

func (w *history) settlement() budget.Settlement {
	h := w.hold()
	if r := w.m.requests[h.Key]; r != nil && rapid.IntRange(0, 9).Draw(w.rt, "stranger") > 0 {
		h.Sidecar = r.hold.Sidecar
	}
	a := rapid.SampledFrom([]budget.Action{budget.Commit, budget.Commit, budget.Release, budget.TopUp}).Draw(w.rt, "action")
	if a == budget.Release {
		return second(h, a, 0)
	}
	return second(h, a, rapid.Int64Range(1, 90).Draw(w.rt, "actual"))
}

func (w *history) settles() {
	all := make([]budget.Settlement, rapid.IntRange(1, 4).Draw(w.rt, "settlements"))
	for i := range all {
		all[i] = w.settlement()
	}
	results, err := w.Store.Settle(w.Context(), w.tenant, all)
	if err != nil {
		w.rt.Fatal(err)
	}
	for i, r := range results {
		if outcome, again := w.m.settle(all[i]); r.Outcome != outcome || r.Replayed != again {
			w.rt.Fatalf("%+v: got %s %v, want %s %v", all[i], r.Outcome, r.Replayed, outcome, again)
		}
	}
}

func (w *history) waits() {
	w.Clock.Advance(rapid.SampledFrom([]time.Duration{time.Second, 2 * time.Minute, 50 * time.Minute, 26 * time.Hour}).Draw(w.rt, "wait"))
	w.m.now = w.Clock.Now()
}

// expires also ends what histories before this one left.
func (w *history) expires() {
	if _, err := w.Store.Expire(w.Context()); err != nil {
		w.rt.Fatal(err)
	}
	w.m.expire(func(r *modelRequest) bool { return !r.until.After(w.m.now) })
}

func (w *history) closes() {
	sidecar, below := rapid.SampledFrom(w.Sidecars[:]).Draw(w.rt, "sidecar"), rapid.Int64Range(1, 3).Draw(w.rt, "below")
	if _, err := w.Store.CloseSidecar(w.Context(), sidecar, below); err != nil {
		w.rt.Fatal(err)
	}
	w.m.expire(func(r *modelRequest) bool { return r.hold.Sidecar == sidecar && r.hold.Incarnation < below })
}

// limits makes a limit, or changes the one that is there.
func (w *history) limits() {
	project := rapid.SampledFrom([]string{"", "p1", "p2"}).Draw(w.rt, "project")
	window := rapid.SampledFrom([]budget.Window{budget.Total, budget.Hour, budget.Day}).Draw(w.rt, "window")
	tokens := rapid.Int64Range(0, 200).Draw(w.rt, "limit")
	for _, l := range w.m.limits {
		if !l.closed && l.project == project && l.window == window {
			w.cut(budget.Limit{ID: l.id}, tokens)
			l.tokens = tokens
			l.row(w.m.now).limit = tokens
			return
		}
	}
	made := w.limit(project, window, tokens)
	p, err := budget.PeriodOf(window, "UTC", w.m.now)
	if err != nil {
		w.rt.Fatal(err)
	}
	w.m.limits = append(w.m.limits, &modelLimit{id: made.ID, project: project, window: window, tokens: tokens, rows: []*modelRow{{Period: p, limit: tokens}}})
}

func (w *history) deletes() {
	open := slices.DeleteFunc(slices.Clone(w.m.limits), func(l *modelLimit) bool { return l.closed })
	if len(open) < 2 {
		return
	}
	l := rapid.SampledFrom(open).Draw(w.rt, "delete")
	w.remove(budget.Limit{ID: l.id})
	l.closed = true
}

// compare compares where the limits stand.
func (w *history) compare() {
	for _, project := range []string{"p1", "p2"} {
		usage, err := w.Store.Usage(w.Context(), w.tenant, project)
		if err != nil {
			w.rt.Fatal(err)
		}
		got, want := map[string]budget.Row{}, map[string]budget.Row{}
		for _, u := range usage {
			got[u.ID] = budget.Row{Limit: u.Tokens, Ceiling: u.Ceiling, Used: u.Used, Reserved: u.Reserved, Overrun: u.Overrun}
		}
		for _, l := range w.m.limits {
			if !l.closed && (l.project == "" || l.project == project) {
				r := l.row(w.m.now)
				s := r.sum()
				want[l.id] = budget.Row{Limit: r.limit, Ceiling: max(r.limit, s.used+s.held), Used: s.used, Reserved: s.held, Overrun: s.over}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			w.rt.Fatalf("%s (-want +got):\n%s", project, diff)
		}
	}
}

package budgets

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/budget"
	"gatehouse/budget/memory"
	"gatehouse/internal/apierr"
	"gatehouse/internal/request"
)

// ledger is a service over a store in memory, whose clock stands.
type ledger struct {
	t     *testing.T
	now   time.Time
	store *memory.Store
	*Service
}

var began = time.Date(2026, 6, 17, 12, 30, 0, 0, time.UTC)

// newLedger has one limit, of 100 tokens a day, of project p1.
func newLedger(t *testing.T) *ledger {
	t.Helper()
	l := &ledger{t: t, now: began}
	l.store = memory.New(func() time.Time { return l.now })
	var err error
	if l.Service, err = New(Options{Ledger: l.store}); err != nil {
		t.Fatal(err)
	}
	_, err = l.CreateBudgetLimit(t.Context(), request.Principal{}, budget.Limit{Tenant: "org1", Project: "p1", Window: budget.Day, Zone: "UTC", Tokens: 100})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func hold(id string, tokens int64) budget.Hold {
	return budget.Hold{Key: budget.Key{ID: id}, Project: "p1", Tokens: tokens, TTL: 5 * time.Minute}
}

// did is what a caller is told: an outcome or the reason of an error, and
// whether it was told before.
type did struct {
	What   string
	Again  bool
	Tokens int64 // held, or charged
	Late   bool
}

// details are those of an error, as callers see them.
func details(t *testing.T, err error) map[string]any {
	t.Helper()
	var body struct{ Details map[string]any }
	if err := json.NewDecoder(bytes.NewReader(apierr.From(err).Body(""))).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return body.Details
}

// reason is the code of an error with its reason.
func reason(t *testing.T, err error) string {
	t.Helper()
	text := string(apierr.From(err).Code())
	if r, ok := details(t, err)["reason"].(string); ok {
		text += " " + r
	}
	return text
}

func (l *ledger) hold(h budget.Hold) did {
	l.t.Helper()
	a, err := l.HoldTokens(l.t.Context(), "org1", h)
	if err != nil {
		return did{What: reason(l.t, err), Again: a.Replayed}
	}
	return did{string(a.State), a.Replayed, a.Reserved, a.Late}
}

func (l *ledger) settle(s budget.Settlement) did {
	l.t.Helper()
	r, err := l.SettleTokens(l.t.Context(), "org1", s)
	if err != nil {
		return did{What: reason(l.t, err), Again: r.Replayed}
	}
	return did{string(r.State), r.Replayed, r.Actual, r.Late}
}

func commit(id string, tokens int64) budget.Settlement {
	return budget.Settlement{Key: budget.Key{ID: id}, Action: budget.Commit, Tokens: tokens}
}

func release(id string) budget.Settlement {
	return budget.Settlement{Key: budget.Key{ID: id}, Action: budget.Release}
}

// expire moves the clock behind the time of a hold and ends what is due.
func (l *ledger) expire() did {
	l.t.Helper()
	l.now = l.now.Add(6 * time.Minute)
	n, err := l.sweep(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return did{What: "swept", Tokens: int64(n)}
}

// TestIdempotency is the table of what follows what.
func TestIdempotency(t *testing.T) {
	t.Parallel()
	type step struct {
		do   func(l *ledger) did
		want did
	}
	asked := func(h budget.Hold) func(*ledger) did { return func(l *ledger) did { return l.hold(h) } }
	said := func(s budget.Settlement) func(*ledger) did { return func(l *ledger) did { return l.settle(s) } }
	held := step{asked(hold("a", 50)), did{What: "reserved", Tokens: 50}}
	swept := step{(*ledger).expire, did{What: "swept", Tokens: 1}}
	other := hold("a", 50)
	other.Project = "p2"
	foreign := commit("a", 30)
	foreign.Project = "p2"
	for name, steps := range map[string][]step{
		"held twice is held once": {held,
			{asked(hold("a", 50)), did{"reserved", true, 50, false}},
			{asked(hold("b", 50)), did{What: "reserved", Tokens: 50}},
		},
		"another body":    {held, {asked(hold("a", 51)), did{What: "state.conflict key_reused"}}},
		"another project": {held, {asked(other), did{What: "state.conflict key_reused"}}},
		"denied stays denied": {held,
			{asked(hold("b", 60)), did{What: "budget.insufficient exhausted"}},
			{said(release("a")), did{What: "released"}},
			{asked(hold("b", 60)), did{What: "budget.insufficient exhausted", Again: true}},
			{asked(hold("b", 61)), did{What: "state.conflict key_reused"}},
			{said(commit("b", 1)), did{What: "state.conflict invalid_transition"}},
			{said(release("b")), did{What: "state.conflict invalid_transition"}},
		},
		"committed": {held,
			{said(commit("a", 30)), did{What: "committed", Tokens: 30}},
			{said(commit("a", 30)), did{"committed", true, 30, false}},
			{said(commit("a", 31)), did{What: "state.conflict already_committed"}},
			{said(release("a")), did{What: "state.conflict already_committed"}},
			{asked(hold("a", 50)), did{"committed", true, 50, false}},
			{asked(hold("b", 70)), did{What: "reserved", Tokens: 70}},
		},
		"committed beyond the hold": {held, {said(commit("a", 130)), did{What: "committed", Tokens: 130}}},
		"released": {held,
			{said(release("a")), did{What: "released"}},
			{said(release("a")), did{What: "released", Again: true}},
			{said(commit("a", 30)), did{What: "state.conflict already_released"}},
			{asked(hold("a", 50)), did{"released", true, 50, false}},
			{asked(hold("b", 100)), did{What: "reserved", Tokens: 100}},
		},
		"expired": {held, swept,
			{said(release("a")), did{What: "state.conflict expired"}},
			{asked(hold("a", 50)), did{"expired", true, 50, false}},
			{said(commit("a", 30)), did{What: "committed", Tokens: 30, Late: true}},
			{said(commit("a", 30)), did{"committed", true, 30, true}},
			{said(release("a")), did{What: "state.conflict already_committed"}},
		},
		"over, and not swept yet": {held,
			{func(l *ledger) did { l.now = l.now.Add(time.Hour); return l.settle(commit("a", 30)) }, did{What: "committed", Tokens: 30}},
			{func(l *ledger) did { return l.expire() }, did{What: "swept"}},
		},
		"unknown": {
			{said(commit("a", 30)), did{What: "resource.not_found"}},
			{said(release("a")), did{What: "resource.not_found"}},
			held, // a release of what was never seen leaves nothing
		},
		"another project's": {held,
			{said(foreign), did{What: "resource.not_found"}},
			{said(commit("a", 30)), did{What: "committed", Tokens: 30}},
		},
		"no limit": {{asked(other), did{What: "budget.insufficient no_limit"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(t)
			for i, s := range steps {
				if diff := cmp.Diff(s.want, s.do(l)); diff != "" {
					t.Fatalf("step %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

// TestARunningStreamIsUnknown: what a sidecar holds can't be settled, nor seen,
// by who knows its id.
func TestARunningStreamIsUnknown(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	inline := hold("a", 50)
	inline.Origin, inline.Attempt, inline.Sidecar, inline.Incarnation = budget.Inline, 1, "00000000-0000-4000-8000-000000000001", 1
	if _, err := l.store.Reserve(t.Context(), "org1", []budget.Hold{inline}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []budget.Settlement{commit("a", 1), release("a")} {
		s.Origin = budget.Inline // of no use to a caller that could say so
		if got := l.settle(s); got.What != "resource.not_found" {
			t.Errorf("%s: %+v", s.Action, got)
		}
	}
	if diff := cmp.Diff(did{What: "reserved", Tokens: 50}, l.hold(hold("a", 50))); diff != "" {
		t.Errorf("a hold of the same id (-want +got):\n%s", diff)
	}
	r, err := l.store.Request(t.Context(), "org1", inline.Key)
	if err != nil || r.State != budget.Reserved {
		t.Errorf("the stream's hold is %+v, %v", r, err)
	}
}

func TestDetailsOfADenial(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	p, err := l.BudgetLimits(t.Context(), "org1", "", 10)
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.HoldTokens(t.Context(), "org1", hold("a", 101))
	want := map[string]any{
		"reason": "exhausted", "requested": 101.0, "available": 100.0, "limit": 100.0, "limit_id": p.Items[0].ID, "resets_at": "2026-06-18T00:00:00Z",
	}
	if diff := cmp.Diff(want, details(t, err)); diff != "" {
		t.Errorf("exhausted (-want +got):\n%s", diff)
	}
	_, err = l.HoldTokens(t.Context(), "org2", hold("a", 101))
	if diff := cmp.Diff(map[string]any{"reason": "no_limit", "requested": 101.0}, details(t, err)); diff != "" {
		t.Errorf("no limit (-want +got):\n%s", diff)
	}
}

// TestBodyHash: each member of a request tells it from others, and no two can
// pose as each other.
func TestBodyHash(t *testing.T) {
	t.Parallel()
	h := budget.Hold{Key: budget.Key{ID: "a"}, Project: "p", Tokens: 1, TTL: time.Second, Model: "m", Task: "t", Purpose: "x", Subject: "s"}
	of := func(change func(*budget.Hold)) [32]byte { o := h; change(&o); return bodyHash("org", o) }
	base := of(func(*budget.Hold) {})
	if of(func(o *budget.Hold) { o.Subject = "another" }) != base {
		t.Error("who asks makes it another request")
	}
	seen := map[[32]byte]string{base: "itself", bodyHash("org2", h): "tenant"}
	for name, change := range map[string]func(*budget.Hold){
		"project": func(o *budget.Hold) { o.Project = "q" }, "tokens": func(o *budget.Hold) { o.Tokens = 2 },
		"ttl": func(o *budget.Hold) { o.TTL = time.Minute }, "model": func(o *budget.Hold) { o.Model = "n" },
		"task": func(o *budget.Hold) { o.Task = "u" }, "purpose": func(o *budget.Hold) { o.Purpose = "y" },
		"border": func(o *budget.Hold) { o.Model, o.Task = "mt", "" }, "no model": func(o *budget.Hold) { o.Model = "" },
	} {
		if was, known := seen[of(change)]; known {
			t.Errorf("%s is as %s", name, was)
		}
		seen[of(change)] = name
	}
	if len(seen) != 10 {
		t.Errorf("%d hashes, want 10", len(seen))
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	ctx, by := t.Context(), request.Principal{}
	all, err := l.BudgetLimits(ctx, "org1", "", 10)
	if err != nil || len(all.Items) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	limit := all.Items[0]
	limit.Tokens = 70
	now, err := l.UpdateBudgetLimit(ctx, by, limit)
	if err != nil || now.Tokens != 70 || now.Version != 2 {
		t.Fatalf("%+v, %v", now, err)
	}
	if got, err := l.BudgetLimit(ctx, "org1", limit.ID); err != nil || got != now {
		t.Errorf("got %+v, %v, want %+v", got, err, now)
	}
	l.hold(hold("a", 20))
	usage, err := l.BudgetUsage(ctx, "org1", "p1")
	if err != nil || len(usage) != 1 || usage[0].Available != 50 || usage[0].Reserved != 20 {
		t.Errorf("usage %+v, %v", usage, err)
	}
	lines, err := l.BudgetLines(ctx, "org1", budget.Query{Request: "a", Limit: 10})
	if err != nil || len(lines.Items) != 1 || lines.Items[0].Kind != budget.KindReserve || lines.Items[0].Origin != budget.API {
		t.Errorf("lines %+v, %v", lines, err)
	}
	_, err = l.UpdateBudgetLimit(ctx, by, limit)
	wantCode(t, "an old version", err, apierr.StatePreconditionFailed)
	wantCode(t, "an old version", l.DeleteBudgetLimit(ctx, by, limit), apierr.StatePreconditionFailed)
	if err := l.DeleteBudgetLimit(ctx, by, now); err != nil {
		t.Error(err)
	}
	wantCode(t, "deleted before", l.DeleteBudgetLimit(ctx, by, now), apierr.ResourceNotFound)
	_, err = l.BudgetLimit(ctx, "org2", limit.ID)
	wantCode(t, "another tenant's", err, apierr.ResourceNotFound)
}

func TestLimitFaults(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	ctx, by := t.Context(), request.Principal{}
	limit := budget.Limit{Tenant: "org1", Project: "p1", Window: budget.Day, Zone: "UTC", Tokens: 1}
	_, err := l.CreateBudgetLimit(ctx, by, limit)
	if got := reason(t, err); got != "state.conflict already_exists" {
		t.Errorf("a second one: %s", got)
	}
	limit.Zone = "Mars/Olympus"
	_, err = l.CreateBudgetLimit(ctx, by, limit)
	wantPointer(t, err, "/time_zone")
	_, err = l.BudgetLimits(ctx, "org1", "x", 10)
	wantPointer(t, err, "/query/cursor")
	_, err = l.BudgetLines(ctx, "org1", budget.Query{Before: "x"})
	wantPointer(t, err, "/query/cursor")
	_, err = l.HoldTokens(ctx, "org1", hold("a", 0))
	wantPointer(t, err, "")
}

func wantCode(t *testing.T, what string, err error, want apierr.Code) {
	t.Helper()
	if got := apierr.From(err).Code(); err == nil || got != want {
		t.Errorf("%s: %v, want %s", what, err, want)
	}
}

func wantPointer(t *testing.T, err error, want string) {
	t.Helper()
	wantCode(t, want, err, apierr.ValidationInvalid)
	faults, _ := details(t, err)["errors"].([]any)
	if len(faults) != 1 || faults[0].(map[string]any)["pointer"] != want {
		t.Errorf("faults %v, want one at %q", faults, want)
	}
}

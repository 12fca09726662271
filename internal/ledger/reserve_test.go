package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/budget"
)

func TestOpenNeeds(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{
		{Incarnation: 1, Line: &fakeLine{}}, {Dir: "x", Line: &fakeLine{}}, {Dir: "x", Incarnation: 1},
	} {
		if c, err := Open(o); err == nil || c != nil {
			t.Errorf("%+v: %v, %v", o, c, err)
		}
	}
}

// TestReserveSays all that control is to know, and hears all that it says.
func TestReserveSays(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		st := b.connect()
		const task = "00000000-0000-4000-8000-000000000001"
		h := budget.Hold{
			Key: budget.Key{Origin: budget.Inline, ID: "a", Attempt: 1}, Project: "p1", Tokens: 10, Unlimited: true, TTL: time.Minute, BodyHash: [32]byte{1, 2},
			Model: "m", Task: task, Purpose: "x", Subject: "s", Decision: "d",
		}
		answers := make(chan budget.Answer, 1)
		go func() {
			a, err := b.Reserve(t.Context(), "org1", h)
			if err != nil {
				t.Error(err)
			}
			answers <- a
		}()
		m := st.next()
		want := &pb.LedgerUp{Message: &pb.LedgerUp_Reserve{Reserve: &pb.Reserve{
			Seq: seqOf(m), Tenant: "org1", RequestId: "a", Attempt: 1, Project: "p1", Tokens: 10, Unlimited: true, TtlMs: 60_000, BodyHash: h.BodyHash[:],
			Model: "m", Subject: "s", DecisionId: "d", TaskId: task, Purpose: "x",
		}}}
		if diff := cmp.Diff(want, m, protocmp.Transform()); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
		st.hear(&pb.LedgerDown{Message: &pb.LedgerDown_Reserved{Reserved: &pb.Reserved{
			Seq: seqOf(m), Verdict: "refused", Replayed: true,
			Denial: &pb.Denial{Reason: "exhausted", LimitId: "l", Window: "day", Limit: 3, Available: 2, Requested: 10, ResetsUnixMs: 1_800_000_000_123},
		}}})
		resets := time.UnixMilli(1_800_000_000_123).UTC()
		answer := budget.Answer{Verdict: budget.Refused, Replayed: true, Request: budget.Request{Key: h.Key, Project: "p1", State: budget.Denied, Denial: &budget.Denial{
			Reason: budget.ReasonExhausted, LimitID: "l", Window: budget.Day, Limit: 3, Available: 2, Requested: 10, ResetsAt: &resets,
		}}}
		if diff := cmp.Diff(answer, <-answers); diff != "" {
			t.Errorf("heard (-want +got):\n%s", diff)
		}
		st.nothing()
	})
}

// TestNobodyCanHoldThis: it is refused here. What is no text could not even be said,
// and would end the stream of all.
func TestNobodyCanHoldThis(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		st := b.connect()
		st.nothing()
		for name, change := range map[string]func(*budget.Hold){
			"no id":      func(h *budget.Hold) { h.ID = "" },
			"of the API": func(h *budget.Hold) { h.Origin = budget.API },
			"no tokens":  func(h *budget.Hold) { h.Tokens = 0 },
			"no time":    func(h *budget.Hold) { h.TTL = time.Microsecond },
			"no UTF-8":   func(h *budget.Hold) { h.Model = "\xff" },
			"no task":    func(h *budget.Hold) { h.Task = "x" },
		} {
			h := hold("a")
			change(&h)
			if a, err := b.Reserve(t.Context(), "org1", h); !errors.Is(err, budget.ErrInvalid) {
				t.Errorf("%s: %+v, %v", name, a, err)
			}
		}
		for _, tenant := range []string{"", "\xff", "a\x00", strings.Repeat("t", budget.MaxTenantName+1)} {
			if a, err := b.Reserve(t.Context(), tenant, hold("a")); !errors.Is(err, budget.ErrInvalid) {
				t.Errorf("of %.5q: %+v, %v", tenant, a, err)
			}
			if err := b.TopUp(t.Context(), tenant, hold("a").Key, 5); !errors.Is(err, budget.ErrInvalid) {
				t.Errorf("a top-up of %.5q: %v", tenant, err)
			}
		}
		st.nothing()
	})
}

// TestVerdicts: what each word of control comes to, and whether a release follows.
func TestVerdicts(t *testing.T) {
	for _, tt := range []struct {
		verdicts []string // of each sending
		want     budget.Verdict
		err      error
		release  bool
	}{
		{[]string{"held"}, budget.Held, nil, false},
		{[]string{"refused"}, budget.Refused, nil, false},
		{[]string{"settled"}, budget.Settled, nil, false},
		{[]string{"key_reused"}, budget.KeyReused, nil, false},
		{[]string{"forbidden"}, "", ErrForbidden, false},
		{[]string{"invalid"}, "", budget.ErrInvalid, false},
		{[]string{"unknown"}, "", budget.ErrUnknown, false},
		{[]string{"busy"}, "", budget.ErrUnavailable, false},
		{[]string{"unavailable", "held"}, budget.Held, nil, false},
		{[]string{"unavailable", "refused"}, budget.Refused, nil, false},
		{[]string{"unavailable", "busy"}, "", budget.ErrUnavailable, true},
		{[]string{"unavailable", "forbidden"}, "", ErrForbidden, true},
		{[]string{"unavailable", "unavailable"}, "", budget.ErrUnavailable, true},
		{[]string{"new word", ""}, "", budget.ErrUnavailable, true},
	} {
		t.Run(fmt.Sprint(tt.verdicts), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				st := b.connect()
				a := b.reserve("a")
				for _, v := range tt.verdicts {
					st.verdict(st.wants("reserve a"), v)
				}
				got, err := a.got()
				if got.Verdict != tt.want || !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
					t.Errorf("%+v, %v", got, err)
				}
				if tt.release {
					st.outcome(st.wants("release a"), "done", true)
				}
				st.nothing()
			})
		})
	}
}

// TestNoLineNoHold: at once, and nothing is left of it.
func TestNoLineNoHold(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		start := time.Now()
		b.reserve("a").fails(budget.ErrUnavailable)
		b.topUp("a", 5).fails(budget.ErrUnavailable)
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %s", took)
		}
		st := b.connect()
		st.nothing()
	})
}

// TestLineLost: the same hold is asked for once more on the next stream.
func TestLineLost(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		st := b.connect()
		one, two := b.reserve("a"), b.reserve("b")
		first := st.wants("reserve a")
		st.wants("reserve b")
		st.end()
		b.reserve("c").fails(budget.ErrUnavailable) // there is no line now
		b.after(500 * time.Millisecond)
		st = b.connect()
		st.verdict(first, "refused") // of the stream before: nobody's
		st.verdict(st.wants("reserve a"), "held")
		st.verdict(st.wants("reserve b"), "held")
		for _, a := range []*asked{one, two} {
			if got, err := a.got(); err != nil || got.Verdict != budget.Held || got.State != budget.Reserved || got.Reserved != 10 {
				t.Errorf("got %+v and %v", got, err)
			}
		}
		st.nothing()
	})
}

// TestLineLostTwice: then it is given up, and released on the third.
func TestLineLostTwice(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		st := b.connect()
		a := b.reserve("a")
		st.wants("reserve a")
		st.end()
		st = b.connect()
		st.wants("reserve a")
		st.end()
		a.fails(budget.ErrUnavailable)
		st = b.connect()
		st.outcome(st.wants("release a"), "done", true)
		st.nothing()
	})
}

// TestLineStaysAway: the deadline counts from the call.
func TestLineStaysAway(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		st := b.connect()
		start := time.Now()
		a := b.reserve("a")
		st.wants("reserve a")
		st.end()
		a.fails(budget.ErrUnavailable)
		if took := time.Since(start); took != askWithin {
			t.Errorf("given up after %s, want %s", took, askWithin)
		}
		st = b.connect()
		st.outcome(st.wants("release a"), "done", true)
		st.nothing()
	})
}

// TestSilentControl: the hold is released behind itself on the same stream, and an
// answer that comes late changes nothing.
func TestSilentControl(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		st := b.connect()
		a := b.reserve("a")
		seq := st.wants("reserve a")
		a.fails(budget.ErrUnavailable)
		release := st.wants("release a")
		st.verdict(seq, "held")
		st.outcome(release, "done", true)
		st.nothing()
		b.wantStatus("after all", Status{Connected: true, HandedOver: true})
	})
}

// TestAskerLeaves: also between control's answer and his hearing of it.
func TestAskerLeaves(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		st := b.connect()
		a := b.reserve("a")
		st.wants("reserve a")
		a.leave()
		a.fails(budget.ErrUnavailable)
		st.outcome(st.wants("release a"), "done", true)

		st.deafen(b)
		unsent := b.reserve("b") // goes nowhere before its asker leaves
		unsent.leave()
		unsent.fails(budget.ErrUnavailable)
		st = b.connect()
		st.nothing()
	})
}

// deafen ends a stream and lets none be sent on the next one, which it keeps open:
// what is asked waits.
func (s *stream) deafen(b *bed) {
	s.end()
	b.mu.Lock()
	b.inFlight = window // as in the moment before the end is noticed
	b.mu.Unlock()
}

// TestAnswerAtTheLastMoment: whoever left may have got a hold.
func TestAnswerAtTheLastMoment(t *testing.T) {
	t.Parallel()
	s := newAsks()
	a := &ask{tenant: "t", done: make(chan reply, 1)}
	if !s.add(a) || s.leave(a) {
		t.Error("one that was never sent may have been done")
	}
	if !s.add(a) || s.next(1, 1) != a || s.next(2, 2) != nil {
		t.Fatal("not sent")
	}
	s.answered(1, nil, true)
	if !s.leave(a) || s.count != 0 || len(s.tenants) != 0 {
		t.Errorf("one that was answered may have been done; %+v", s)
	}
}

// TestTooManyAsk: at once, or for one tenant.
func TestTooManyAsk(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		st := b.connect()
		var all []*asked
		for i := range maxTenantAsks {
			all = append(all, b.reserve(fmt.Sprint(i)))
		}
		b.reserve("more").fails(budget.ErrUnavailable)
		if n := len(st.up); n != window-window/2+1 { // Replayed is not counted by control
			t.Errorf("%d are under way", n)
		}
		other := b.asking(func(ctx context.Context) (budget.Answer, error) { return b.Reserve(ctx, "org2", hold("b")) })
		b.after(time.Millisecond)
		if !other.waiting() {
			t.Error("another tenant is refused")
		}
		for _, a := range append(all, other) {
			a.leave()
			a.fails(budget.ErrUnavailable)
		}
		st.end()
		if b.Status().Asking != 0 {
			t.Errorf("%d ask still", b.Status().Asking)
		}
	})
}

func TestTopUp(t *testing.T) {
	for _, tt := range []struct {
		outcome string
		final   bool
		want    error
	}{
		{"done", true, nil},
		{"no_room", true, ErrNoRoom},
		{"already_committed", true, ErrOver},
		{"already_released", true, ErrOver},
		{"expired", true, ErrOver},
		{"denied", true, ErrOver},
		{"not_found", true, ErrOver},
		{"forbidden", true, ErrForbidden},
		{"busy", false, budget.ErrUnavailable},
		{"new word", true, budget.ErrUnavailable},
	} {
		t.Run(tt.outcome, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				st := b.connect()
				a := b.topUp("a", 50)
				m := st.next()
				if got := m.GetSettle(); idOf(m) != "top_up a" || got.GetTokens() != 50 || got.GetTenant() != "org1" {
					t.Fatalf("said %v", m)
				}
				st.outcome(seqOf(m), tt.outcome, tt.final)
				_, err := a.got()
				if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				st.nothing()
			})
		})
	}
}

// TestTopUpAgain: like a hold it is said twice, but nothing is released.
func TestTopUpAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		st := b.connect()
		a := b.topUp("a", 50)
		st.outcome(st.wants("top_up a"), "unavailable", false)
		st.wants("top_up a")
		st.end()
		a.fails(budget.ErrUnavailable)
		st = b.connect()
		st.nothing()
		b.topUp("a", 0).fails(budget.ErrInvalid)
	})
}

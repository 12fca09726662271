package sync

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/budget"
	"gatehouse/internal/mesh"
)

// TestTextsThatAreNoTenant reach nothing: not the ledger, no dead letter, no log.
func TestTextsThatAreNoTenant(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{false, true} {
		var log noted
		b := &book{answer: budget.Answer{Verdict: budget.Held}, result: budget.Result{Outcome: budget.Done}}
		r := serve(t, newWorld(t), func(o *Options) { o.Ledger, o.Log = b, slog.New(slog.NewTextHandler(&log, nil)) })
		lender(r.world, func(s *mesh.Sidecar) { s.Shared = shared })
		stream := r.ledger(t, secretOf("ada"))
		greet(t, stream)
		for _, tenant := range []string{strings.Repeat("x", 1<<20), strings.Repeat("x", budget.MaxTenantName+1), "org1\x00"} {
			reserve, settle := reserveOf(1, "a"), settleOf(2, "a", "commit", 1)
			reserve.Tenant, settle.Tenant = tenant, tenant
			say(t, stream, upReserve(reserve))
			if got := text(hear(t, stream)); got != "invalid" {
				t.Errorf("a hold of %.8q: %s", tenant, got)
			}
			say(t, stream, upSettle(settle))
			if got := text(hear(t, stream)); got != "invalid final" {
				t.Errorf("a settlement of %.8q: %s", tenant, got)
			}
		}
		b.change(func(b *book) {
			if len(b.asked) != 0 || len(b.buried) != 0 {
				t.Errorf("asked %.60q, buried %.60q", b.asked, b.buried)
			}
		})
		if n := log.size(); n > 10_000 {
			t.Errorf("the log has %d bytes", n)
		}
	}
}

// noted is a log that tests may read.
type noted struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (n *noted) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.Write(p)
}

func (n *noted) size() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.Len()
}

func (n *noted) count(text string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Count(n.b.String(), text)
}

// TestNonsenseIsToldSometimes: who sends it must not fill the log.
func TestNonsenseIsToldSometimes(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		var log noted
		b.server.opts.Log = slog.New(slog.NewTextHandler(&log, nil))
		w := b.openLedger(&book{})
		w.up <- ledgerHello(7)
		<-w.down
		const every = 3
		for i := range every {
			for range 100 {
				w.up <- upSettle(settleOf(1, "", "commit", 1))
				<-w.down
			}
			if got := log.count("can't be kept"); got != i+1 {
				t.Errorf("after %d rounds it is told %d times", i+1, got)
			}
			b.after(nonsenseEvery)
		}
		for range 2 {
			w.up <- upSettle(settleOf(1, "", "commit", 1))
			<-w.down
		}
		if got := log.count("passed_over=99"); got != every {
			t.Errorf("what was not told is counted %d times:\n%s", got, &log.b)
		}
	})
}

// TestForgedIncarnation: none is above all others, since what it held could never be
// ended as that of an earlier process.
func TestForgedIncarnation(t *testing.T) {
	t.Parallel()
	r := serve(t, newWorld(t), func(o *Options) { o.Ledger = &book{} })
	lender(r.world, nil)
	for incarnation, good := range map[int64]bool{math.MinInt64: false, -1: false, 0: false, 1: true, math.MaxInt64 - 1: true, math.MaxInt64: false} {
		stream := r.ledger(t, secretOf("ada"))
		say(t, stream, ledgerHello(incarnation))
		if good {
			hear(t, stream)
			continue
		}
		ledgerEnds(t, "a forged incarnation", stream, codes.InvalidArgument)
	}
}

// TestUnconfirmedLedgerStream ends at last: whoever can keep the registry from
// answering must not outlive its revocation by that.
func TestUnconfirmedLedgerStream(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		w := b.openLedger(&book{})
		w.up <- ledgerHello(7)
		<-w.down
		b.after(time.Minute)
		b.do(func() { b.away["Authenticate"] = true })
		b.after(trustedFor - 2*ledgerReview)
		if len(w.ended) != 0 {
			t.Error("ended before its time")
		}
		b.after(2*recentFor + 3*ledgerReview)
		b.wantLedgerEnd(w, codes.Unavailable)
	})
}

// TestPanicOfReplayed: it is answered, and can be said again.
func TestPanicOfReplayed(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		l := &failing{panics: true}
		w := b.openLedger(l)
		w.up <- ledgerHello(7)
		<-w.down
		replayed := &pb.LedgerUp{Message: &pb.LedgerUp_Replayed{Replayed: &pb.Replayed{}}}
		for _, want := range []string{"closed false", "closed true"} {
			w.up <- replayed
			synctest.Wait()
			select {
			case m := <-w.down:
				if got := text(m); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			default:
				t.Errorf("no answer, want %s", want)
			}
			l.panics = false
		}
	})
}

// failing is a book whose Replayed panics.
type failing struct {
	book
	panics bool
}

func (f *failing) Replayed(context.Context, string, int64) error {
	if f.panics {
		panic("a defect")
	}
	return nil
}

// TestThreeTakeTurns: the third waits for the second, which the first has let go.
func TestThreeTakeTurns(t *testing.T) {
	t.Parallel()
	var all turns
	k := itemKey{"org1", "a", 1}
	first, _ := all.take(k)
	second, _ := all.take(k)
	all.done(k, first)
	third, _ := all.take(k)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	select {
	case <-second.before:
	default:
		t.Error("the second waits though the first is done")
	}
	if third.before == nil || third.wait(ctx) {
		t.Error("the third does not wait for the second")
	}
	all.done(k, second)
	if !third.wait(t.Context()) {
		t.Error("the third waits for nobody")
	}
	all.done(k, third)
	if len(all.last) != 0 || all.count != 0 {
		t.Errorf("%d are left", all.count)
	}
}

// TestCredentialOfAnother: a stream does not become another sidecar's.
func TestCredentialOfAnother(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		w := b.openLedger(&book{})
		w.up <- ledgerHello(7)
		<-w.down
		lender(b.world, func(s *mesh.Sidecar) { s.ID = "00000000-0000-4000-8000-00000000000b" })
		b.after(2*recentFor + ledgerReview)
		b.wantLedgerEnd(w, codes.Unauthenticated)
	})
}

// TestReplayedOnceAtATime: however often it is said.
func TestReplayedOnceAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		l := &slow{gate: make(chan struct{})}
		w := b.openLedger(l)
		w.up <- ledgerHello(7)
		<-w.down
		for range 3 {
			w.up <- &pb.LedgerUp{Message: &pb.LedgerUp_Replayed{Replayed: &pb.Replayed{}}}
		}
		synctest.Wait()
		if n := l.calls.Load(); n != 1 {
			t.Errorf("%d are under way", n)
		}
		close(l.gate)
		if got := text(<-w.down); got != "closed true" {
			t.Errorf("got %s", got)
		}
	})
}

// slow is a book whose Replayed waits.
type slow struct {
	book
	gate  chan struct{}
	calls atomic.Int32
}

func (s *slow) Replayed(context.Context, string, int64) error {
	s.calls.Add(1)
	<-s.gate
	return nil
}

package sync

import (
	"context"
	"fmt"
	"sync"
	"testing"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/budget"
	"gatehouse/internal/mesh"
)

// book is a Ledger that answers as it is told, and notes what it was asked.
type book struct {
	mu       sync.Mutex // guards all below
	answer   budget.Answer
	result   budget.Result
	err      error
	unburied error                    // of Bury
	wait     map[string]chan struct{} // what calls of a tenant wait for
	panics   bool
	asked    []string
	holds    []budget.Hold
	buried   []string
	replayed []int64
}

func (b *book) do(ctx context.Context, what, tenant, id string) error {
	b.mu.Lock()
	wait := b.wait[tenant]
	panics := b.panics
	b.mu.Unlock()
	if panics {
		panic("a defect")
	}
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", budget.ErrNotSent, ctx.Err())
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, what+" "+tenant+"/"+id)
	return b.err
}

func (b *book) Reserve(ctx context.Context, tenant string, h budget.Hold) (budget.Answer, error) {
	if err := b.do(ctx, "reserve", tenant, h.ID); err != nil {
		return budget.Answer{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holds = append(b.holds, h)
	return b.answer, nil
}

func (b *book) Settle(ctx context.Context, tenant string, s budget.Settlement) (budget.Result, error) {
	if err := b.do(ctx, string(s.Action)+" of "+s.Sidecar, tenant, s.ID); err != nil {
		return budget.Result{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.result, nil
}

func (b *book) Bury(ctx context.Context, home, tenant string, s budget.Settlement, why string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buried = append(b.buried, home+": "+why+" "+tenant+"/"+s.ID)
	return b.unburied
}

func (b *book) Replayed(ctx context.Context, _ string, incarnation int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replayed = append(b.replayed, incarnation)
	return b.err
}

func (b *book) change(f func(*book)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b)
}

// adaID is the id under which ada holds.
const adaID = "00000000-0000-4000-8000-00000000000a"

// lender is ada, whose id the ledger takes.
func lender(w *world, change func(*mesh.Sidecar)) {
	s := ada("p")
	s.ID, s.Version = adaID, 1
	if change != nil {
		change(&s)
	}
	w.change(ChangedSidecars, func() { w.sidecars[secretOf("ada")] = s })
}

// lending is a server with a book, and ada's stream to it, greeted.
func lending(t *testing.T, b *book, change func(*mesh.Sidecar)) (*running, pb.Sidecars_LedgerClient) {
	t.Helper()
	r := serve(t, newWorld(t), func(o *Options) { o.Ledger = b })
	lender(r.world, change)
	stream := r.ledger(t, secretOf("ada"))
	greet(t, stream)
	return r, stream
}

// ledger opens a ledger stream and says nothing yet.
func (r *running) ledger(t testing.TB, secret string) pb.Sidecars_LedgerClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	stream, err := r.dial(t).Ledger(as(ctx, secret))
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func greet(t testing.TB, stream pb.Sidecars_LedgerClient) {
	t.Helper()
	say(t, stream, ledgerHello(7))
	if m := hear(t, stream); m.GetReady().GetInFlight() != maxItems {
		t.Fatalf("greeted with %v", m)
	}
}

func ledgerHello(incarnation int64) *pb.LedgerUp {
	return &pb.LedgerUp{Message: &pb.LedgerUp_Hello{Hello: &pb.LedgerHello{Incarnation: incarnation}}}
}

func say(t testing.TB, stream pb.Sidecars_LedgerClient, m *pb.LedgerUp) {
	t.Helper()
	if err := stream.Send(m); err != nil {
		t.Fatal(err)
	}
}

func hear(t testing.TB, stream pb.Sidecars_LedgerClient) *pb.LedgerDown {
	t.Helper()
	m, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func reserveOf(seq uint64, id string) *pb.Reserve {
	return &pb.Reserve{Seq: seq, Tenant: "org1", RequestId: id, Attempt: 1, Project: "p1", Tokens: 10, TtlMs: 60_000, BodyHash: make([]byte, 32)}
}

func upReserve(r *pb.Reserve) *pb.LedgerUp {
	return &pb.LedgerUp{Message: &pb.LedgerUp_Reserve{Reserve: r}}
}

func settleOf(seq uint64, id, action string, tokens int64) *pb.Settle {
	return &pb.Settle{Seq: seq, Tenant: "org1", RequestId: id, Attempt: 1, Action: action, Tokens: tokens}
}

func upSettle(s *pb.Settle) *pb.LedgerUp {
	return &pb.LedgerUp{Message: &pb.LedgerUp_Settle{Settle: s}}
}

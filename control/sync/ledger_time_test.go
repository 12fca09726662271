package sync

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/budget"
	"gatehouse/internal/mesh"
)

// ledgerWire is a ledger stream in memory.
type ledgerWire struct {
	grpc.ServerStream
	ctx   context.Context
	up    chan *pb.LedgerUp
	down  chan *pb.LedgerDown
	ended chan error
}

func (w *ledgerWire) Context() context.Context { return w.ctx }

func (w *ledgerWire) Recv() (*pb.LedgerUp, error) {
	select {
	case up := <-w.up:
		return up, nil
	case <-w.ctx.Done():
		return nil, w.ctx.Err()
	}
}

func (w *ledgerWire) Send(*pb.LedgerDown) error { return errors.New("messages go by SendMsg") }

func (w *ledgerWire) SendMsg(m any) error {
	select {
	case w.down <- m.(*pb.LedgerDown):
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

// openLedger begins a stream whose answers nobody takes unless asked to.
func (b *bubble) openLedger(l Ledger) *ledgerWire {
	b.server.opts.Ledger = l
	lender(b.world, nil)
	c := caller{credential{secret: secretOf("ada"), hash: hash{'a'}}, b.sidecars[secretOf("ada")]}
	ctx, cancel := context.WithCancel(withCaller(context.Background(), c))
	w := &ledgerWire{ctx: ctx, up: make(chan *pb.LedgerUp), down: make(chan *pb.LedgerDown), ended: make(chan error, 1)}
	go func() {
		err := b.server.ledger(w)
		cancel() // as grpc does
		w.ended <- err
	}()
	return w
}

func (b *bubble) wantLedgerEnd(w *ledgerWire, want codes.Code) {
	b.t.Helper()
	synctest.Wait()
	select {
	case err := <-w.ended:
		if status.Code(err) != want {
			b.t.Errorf("the stream ended with %v, want %v", err, want)
		}
	default:
		b.t.Errorf("the stream goes on, want it to end with %v", want)
	}
}

func TestLedgerHelloInTime(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		w := b.openLedger(&book{})
		b.after(ledgerReview)
		b.wantLedgerEnd(w, codes.InvalidArgument)
	})
}

func TestSlowReaderOfTheLedger(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		w := b.openLedger(&book{})
		w.up <- ledgerHello(7)
		b.after(sendWithin - ledgerReview)
		synctest.Wait()
		if len(w.ended) != 0 {
			t.Error("ended before its time")
		}
		b.after(3 * ledgerReview)
		b.wantLedgerEnd(w, codes.DeadlineExceeded)
	})
}

// TestRegistrationOfALedgerStream: a change counts within seconds, and so does the
// end; nobody is sent away because the database is.
func TestRegistrationOfALedgerStream(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		l := &book{answer: budget.Answer{Verdict: budget.Held}}
		w := b.openLedger(l)
		w.up <- ledgerHello(7)
		<-w.down
		foreign := reserveOf(1, "a")
		foreign.Tenant = "org2"
		ask := func(want string) {
			t.Helper()
			w.up <- upReserve(foreign)
			if got := text(<-w.down); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		ask("forbidden")
		lender(b.world, func(s *mesh.Sidecar) { s.Version, s.Shared = 2, true })
		b.after(2*recentFor + ledgerReview)
		ask("held")
		b.do(func() { b.away["Authenticate"] = true })
		b.after(time.Minute)
		ask("held")
		b.do(func() { b.away["Authenticate"] = false })
		lender(b.world, func(s *mesh.Sidecar) { s.Revoked = true })
		b.after(recentFor + 2*ledgerReview)
		b.wantLedgerEnd(w, codes.Unauthenticated)
	})
}

package sync

import (
	"context"
	"errors"
	"io"
	"math"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/budget"
	"gatehouse/internal/mesh"
)

// Bounds of ledger streams.
const (
	maxItems       = 2048    // unanswered of one stream; more are answered busy
	maxLedgerItems = 1 << 16 // of all streams of the process
	maxLedgers     = 4       // streams of one credential; a further one ends the oldest
	ledgerReview   = 5 * time.Second
	// trustedFor is how long a stream goes on whose credential can't be confirmed.
	trustedFor    = 5 * time.Minute
	nonsenseEvery = time.Minute // that a stream's is told
)

// Answers to ledger streams that can't go on.
var (
	errNoLedger      = status.Error(codes.Unavailable, "no ledger is kept here")
	errLedgerReplace = status.Error(codes.Aborted, "later ledger streams of this sidecar took over")
	errNoLedgerHello = status.Error(codes.InvalidArgument, "a ledger stream begins with LedgerHello, which has an incarnation and comes once")
)

// ledgerStream is one sidecar process's line to the ledger. One goroutine
// receives, one sends, one watches (run), and each item that is under way has one
// of its own; items of one request take turns.
type ledgerStream struct {
	server  *Server
	wire    grpc.BidiStreamingServer[pb.LedgerUp, pb.LedgerDown]
	caller  caller
	sidecar atomic.Pointer[mesh.Sidecar] // as it is registered now

	replaced chan struct{} // closed when another stream took over
	greeted  chan struct{} // closed after LedgerHello
	ended    chan error    // has room for the receiver's and the sender's
	answers  chan *pb.LedgerDown
	sending  atomic.Int64 // since when a message is being sent, Unix nanoseconds; 0 for none

	incarnation int64 // of the receiver's goroutine, and then of those that it starts
	nonsense    rarely
	confirmed   time.Time // when the credential was last; of run's goroutine
	closing     atomic.Bool
	turns       turns
}

// ledger serves a ledger stream.
func (s *Server) ledger(wire grpc.BidiStreamingServer[pb.LedgerUp, pb.LedgerDown]) error {
	if s.opts.Ledger == nil {
		return errNoLedger
	}
	select {
	case s.ledgerPlaces <- struct{}{}:
		defer func() { <-s.ledgerPlaces }()
	default:
		return errFull
	}
	l := &ledgerStream{
		server: s, wire: wire, caller: callerOf(wire.Context()), replaced: make(chan struct{}), greeted: make(chan struct{}),
		ended: make(chan error, 2), answers: make(chan *pb.LedgerDown, maxItems), confirmed: time.Now(),
	}
	l.sidecar.Store(&l.caller.sidecar)
	s.ledgers.enter(l)
	defer s.ledgers.leave(l)
	ctx, cancel := context.WithCancel(wire.Context())
	// What these begin, and they, end after the return, when the stream's own context
	// ends; Stop awaits them.
	defer cancel()
	s.wg.Go(func() { l.ended <- l.receive(ctx) })
	s.wg.Go(func() { l.ended <- l.send(ctx) })
	return l.run(ctx)
}

// run watches over a stream until it ends, and returns why; nil if the sidecar
// ended it.
func (l *ledgerStream) run(ctx context.Context) error {
	tick := time.NewTicker(ledgerReview)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-l.server.stopping:
			return errStopping
		case <-l.replaced:
			return errLedgerReplace
		case err := <-l.ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case now := <-tick.C:
			if err := l.review(ctx, now); err != nil {
				return err
			}
		}
	}
}

// review looks whether the stream may go on, every ledgerReview.
func (l *ledgerStream) review(ctx context.Context, now time.Time) error {
	select {
	case <-l.greeted:
	default:
		return errHelloLate
	}
	if since := l.sending.Load(); since > 0 && now.Sub(time.Unix(0, since)) > sendWithin {
		return errSlow
	}
	who, err := l.server.identify(ctx, l.caller.credential)
	if status.Code(err) == codes.Unauthenticated || err == nil && who.sidecar.ID != l.caller.sidecar.ID {
		return errUnknown
	}
	if err == nil {
		l.sidecar.Store(&who.sidecar)
		l.confirmed = now
	} else if now.Sub(l.confirmed) > trustedFor { // until then nobody knows; the ledger does not either
		return errUnasked
	}
	return nil
}

// receive takes in what the sidecar says.
func (l *ledgerStream) receive(ctx context.Context) error {
	for {
		up, err := l.wire.Recv()
		if err != nil {
			return err
		}
		if err := l.take(ctx, up); err != nil {
			return err
		}
	}
}

// send sends answers until ctx ends.
func (l *ledgerStream) send(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-l.answers:
			l.sending.Store(time.Now().UnixNano())
			if err := l.wire.SendMsg(m); err != nil {
				return err
			}
			l.sending.Store(0)
		}
	}
}

// take takes one message. An error ends the stream.
func (l *ledgerStream) take(ctx context.Context, up *pb.LedgerUp) error {
	hello, isHello := up.GetMessage().(*pb.LedgerUp_Hello)
	if isHello != (l.incarnation == 0) {
		return errNoLedgerHello
	}
	switch m := up.GetMessage().(type) {
	case *pb.LedgerUp_Hello:
		// INVARIANT: there is always one above it, so that what it holds can be ended.
		if l.incarnation = hello.Hello.GetIncarnation(); l.incarnation < 1 || l.incarnation == math.MaxInt64 {
			return errNoLedgerHello
		}
		close(l.greeted)
		l.answer(ctx, &pb.LedgerDown{Message: &pb.LedgerDown_Ready{Ready: &pb.Ready{InFlight: maxItems}}})
	case *pb.LedgerUp_Reserve:
		l.reserve(ctx, m.Reserve)
	case *pb.LedgerUp_Settle:
		l.settle(ctx, m.Settle)
	case *pb.LedgerUp_Replayed:
		l.replayed(ctx)
	}
	return nil // what is of a later build is passed over
}

// answer hands a message to the sender, when it takes one.
func (l *ledgerStream) answer(ctx context.Context, m *pb.LedgerDown) {
	select {
	case l.answers <- m:
	case <-ctx.Done():
	}
}

// item does one item in a goroutine of its own, behind those of the same request,
// and answers what it comes to; or at once that there is no room.
func (l *ledgerStream) item(ctx context.Context, key itemKey, busy *pb.LedgerDown, do func() *pb.LedgerDown) {
	select {
	case l.server.ledgerItems <- struct{}{}:
	default:
		l.answer(ctx, busy)
		return
	}
	turn, ok := l.turns.take(key)
	if !ok {
		<-l.server.ledgerItems
		l.answer(ctx, busy)
		return
	}
	l.server.wg.Go(func() {
		defer func() { <-l.server.ledgerItems }()
		defer l.turns.done(key, turn)
		if !turn.wait(ctx) {
			return
		}
		l.answer(ctx, l.guarded(busy, do))
	})
}

// guarded keeps a panic of one item from the others: nobody knows what was done.
func (l *ledgerStream) guarded(busy *pb.LedgerDown, do func() *pb.LedgerDown) (out *pb.LedgerDown) {
	var err error
	defer func() {
		if err != nil {
			out = unknownOutcome(busy)
		}
	}()
	defer l.server.recovered(&err)
	return do()
}

// unknownOutcome makes an answer of busy that says less: it may have been done.
func unknownOutcome(busy *pb.LedgerDown) *pb.LedgerDown {
	if r := busy.GetReserved(); r != nil {
		return reserved(r.GetSeq(), pb.Unavailable)
	}
	return settled(busy.GetSettled().GetSeq(), pb.Unavailable, false)
}

func (l *ledgerStream) reserve(ctx context.Context, r *pb.Reserve) {
	seq, tenant, sidecar := r.GetSeq(), r.GetTenant(), l.sidecar.Load()
	h, err := holdOf(r, sidecar.ID, l.incarnation)
	switch {
	case err != nil:
		l.answer(ctx, reserved(seq, pb.Invalid))
	case !serves(sidecar, tenant):
		l.answer(ctx, reserved(seq, pb.Forbidden))
	default:
		l.item(ctx, itemKey{tenant, h.ID, h.Attempt}, reserved(seq, pb.Busy), func() *pb.LedgerDown {
			a, err := l.server.opts.Ledger.Reserve(ctx, tenant, h)
			return answered(seq, a, err)
		})
	}
}

func (l *ledgerStream) settle(ctx context.Context, r *pb.Settle) {
	seq, tenant, sidecar := r.GetSeq(), r.GetTenant(), l.sidecar.Load()
	s, err := settlementOf(r, sidecar.ID)
	if err != nil {
		if passed, due := l.nonsense.due(time.Now()); due {
			l.server.opts.Log.Warn("sync: a settlement that can't be kept", "sidecar", sidecar.ID, "error", err, "passed_over", passed)
		}
		l.answer(ctx, settled(seq, pb.Invalid, true))
		return
	}
	l.item(ctx, itemKey{tenant, s.ID, s.Attempt}, settled(seq, pb.Busy, false), func() *pb.LedgerDown {
		if !serves(sidecar, tenant) {
			return l.bury(ctx, sidecar, r, s, pb.Forbidden)
		}
		result, err := l.server.opts.Ledger.Settle(ctx, tenant, s)
		switch w := word(err); w {
		case "":
			return settled(seq, string(result.Outcome), true)
		case pb.Unknown:
			return l.bury(ctx, sidecar, r, s, w)
		default:
			return settled(seq, w, w == pb.Invalid)
		}
	})
}

// bury answers a settlement that may not even be tried: for good, once it is a
// dead letter of the sidecar's own tenant.
func (l *ledgerStream) bury(ctx context.Context, sidecar *mesh.Sidecar, r *pb.Settle, s budget.Settlement, why string) *pb.LedgerDown {
	if s.Action == budget.TopUp {
		return settled(r.GetSeq(), why, true) // its sender acts on the answer
	}
	if err := l.server.opts.Ledger.Bury(ctx, sidecar.Tenant, r.GetTenant(), s, why); err != nil {
		return settled(r.GetSeq(), pb.Unavailable, false)
	}
	return settled(r.GetSeq(), why, true)
}

// replayed ends what earlier processes hold, once at a time.
func (l *ledgerStream) replayed(ctx context.Context) {
	if l.closing.Swap(true) {
		return // the one under way answers
	}
	id, incarnation := l.sidecar.Load().ID, l.incarnation
	l.server.wg.Go(func() {
		err := func() (err error) {
			defer l.server.recovered(&err)
			return l.server.opts.Ledger.Replayed(ctx, id, incarnation)
		}()
		if err != nil && ctx.Err() == nil {
			l.server.opts.Log.Warn("sync: what an earlier process holds can't be ended yet", "sidecar", id, "error", err)
		}
		l.closing.Store(false)
		l.answer(ctx, &pb.LedgerDown{Message: &pb.LedgerDown_Closed{Closed: &pb.Closed{Done: err == nil}}})
	})
}

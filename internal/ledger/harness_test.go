package ledger

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/budget"
	"gatehouse/internal/link"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// window is how many messages the control of these tests lets be unanswered.
const window = 64

// fakeLine is a Line whose streams a test opens.
type fakeLine struct{ streams chan *stream }

// stream is one stream, as control has it.
type stream struct {
	t    *testing.T
	h    link.LedgerHandler
	up   chan *pb.LedgerUp // has room for all that a test lets lie
	cut  context.CancelFunc
	over chan struct{}
}

func (l *fakeLine) RunLedger(ctx context.Context, h link.LedgerHandler) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-l.streams:
			s.serve(ctx, h)
		}
	}
}

func (s *stream) serve(ctx context.Context, h link.LedgerHandler) {
	ctx, s.cut = context.WithCancel(ctx)
	defer s.cut()
	s.h = h
	_ = h.Speak(ctx, window, func(m *pb.LedgerUp) error {
		s.up <- m
		return nil
	})
	close(s.over)
}

// bed is a client, its folder, and its line.
type bed struct {
	t    *testing.T
	dir  string
	line *fakeLine
	log  logged
	*Client
	cancel context.CancelFunc
	ran    sync.WaitGroup
}

// inBubble runs a test over a client that runs, in a bubble.
func inBubble(t *testing.T, test func(t *testing.T, b *bed)) {
	t.Helper()
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, dir, 7, nil)
		test(t, b)
		b.stop()
	})
}

// begin opens a client of an incarnation and runs it, changed before where asked.
func begin(t *testing.T, dir string, incarnation int64, change func(*Client)) *bed {
	t.Helper()
	b := &bed{t: t, dir: dir, line: &fakeLine{make(chan *stream)}}
	var err error
	b.Client, err = Open(Options{Dir: dir, Incarnation: incarnation, Line: b.line, Log: b.log.logger()})
	check(t, err)
	if change != nil {
		change(b.Client)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	b.ran.Go(func() { b.Run(ctx) })
	synctest.Wait() // it has its spool
	return b
}

// stop ends a client as a process does that is told to; again does nothing.
func (b *bed) stop() {
	if b.cancel == nil {
		return
	}
	b.cancel()
	b.ran.Wait()
	b.Close()
	b.cancel = nil
}

// kill ends a client as kill -9 does: nothing of its memory is left.
func (b *bed) kill() {
	b.cancel()
	b.mu.Lock()
	b.queue = newQueue()
	b.mu.Unlock()
	b.ran.Wait()
	b.spools.release()
	b.cancel = nil
}

// release drops the locks as the end of a process does.
func (s *spools) release() {
	for _, f := range append(s.others, s.own) {
		if f != nil {
			_ = f.f.Close()
		}
	}
}

// connect opens a stream.
func (b *bed) connect() *stream {
	s := &stream{t: b.t, up: make(chan *pb.LedgerUp, 1<<16), over: make(chan struct{})}
	b.line.streams <- s
	synctest.Wait()
	return s
}

// end ends a stream, as a network does.
func (s *stream) end() {
	s.cut()
	<-s.over
	synctest.Wait()
}

// next is what the client says next but for Replayed; nil where that is nothing.
func (s *stream) next() *pb.LedgerUp {
	for {
		synctest.Wait()
		select {
		case m := <-s.up:
			if m.GetReplayed() != nil {
				s.hear(&pb.LedgerDown{Message: &pb.LedgerDown_Closed{Closed: &pb.Closed{Done: true}}})
				continue
			}
			return m
		default:
			return nil
		}
	}
}

// wants is the next message, which must be a hold or a settlement of this id.
func (s *stream) wants(id string) (seq uint64) {
	s.t.Helper()
	m := s.next()
	if got := idOf(m); got != id {
		s.t.Fatalf("the client says %v, want something of %s", m, id)
	}
	return seqOf(m)
}

func idOf(m *pb.LedgerUp) string {
	if r := m.GetReserve(); r != nil {
		return "reserve " + r.GetRequestId()
	}
	if m.GetSettle() == nil {
		return ""
	}
	return m.GetSettle().GetAction() + " " + m.GetSettle().GetRequestId()
}

func seqOf(m *pb.LedgerUp) uint64 { return m.GetReserve().GetSeq() + m.GetSettle().GetSeq() }

func (s *stream) nothing() {
	s.t.Helper()
	if m := s.next(); m != nil {
		s.t.Fatalf("the client says %v", m)
	}
}

func (s *stream) hear(m *pb.LedgerDown) {
	s.h.Hear(m)
	synctest.Wait()
}

func (s *stream) verdict(seq uint64, verdict string) {
	s.hear(&pb.LedgerDown{Message: &pb.LedgerDown_Reserved{Reserved: &pb.Reserved{Seq: seq, Verdict: verdict, Tokens: 10}}})
}

func (s *stream) outcome(seq uint64, outcome string, final bool) {
	s.hear(&pb.LedgerDown{Message: &pb.LedgerDown_Settled{Settled: &pb.Settled{Seq: seq, Outcome: outcome, Final: final}}})
}

// settles decides all that comes, and returns what it was.
func (s *stream) settles() (ids []string) {
	for m := s.next(); m != nil; m = s.next() {
		ids = append(ids, idOf(m))
		s.outcome(seqOf(m), "done", true)
	}
	return ids
}

// asked is a call of Reserve or TopUp under way.
type asked struct {
	t      *testing.T
	leave  context.CancelFunc
	answer budget.Answer
	err    error
	over   chan struct{}
}

func hold(id string) budget.Hold {
	return budget.Hold{Key: budget.Key{Origin: budget.Inline, ID: id, Attempt: 1}, Project: "p1", Tokens: 10, TTL: time.Hour}
}

func (b *bed) reserve(id string) *asked {
	return b.asking(func(ctx context.Context) (budget.Answer, error) { return b.Reserve(ctx, "org1", hold(id)) })
}

func (b *bed) topUp(id string, total int64) *asked {
	return b.asking(func(ctx context.Context) (budget.Answer, error) {
		return budget.Answer{}, b.TopUp(ctx, "org1", hold(id).Key, total)
	})
}

func (b *bed) asking(call func(context.Context) (budget.Answer, error)) *asked {
	ctx, cancel := context.WithCancel(context.Background())
	a := &asked{t: b.t, leave: cancel, over: make(chan struct{})}
	go func() {
		defer close(a.over)
		a.answer, a.err = call(ctx)
	}()
	synctest.Wait()
	return a
}

// got waits for the answer.
func (a *asked) got() (budget.Answer, error) {
	<-a.over
	a.leave()
	return a.answer, a.err
}

// fails waits for the answer, which must be this error.
func (a *asked) fails(want error) {
	a.t.Helper()
	if answer, err := a.got(); !errors.Is(err, want) {
		a.t.Errorf("got %+v and %v, want %v", answer, err, want)
	}
}

// waiting reports whether there is no answer yet.
func (a *asked) waiting() bool {
	synctest.Wait()
	select {
	case <-a.over:
		return false
	default:
		return true
	}
}

func (b *bed) settle(s ...budget.Settlement) {
	for _, s := range s {
		b.Settle("org1", s)
	}
	synctest.Wait()
}

// after lets time pass, and all that happens in it.
func (b *bed) after(d time.Duration) {
	time.Sleep(d) // in the bubble
	synctest.Wait()
}

func (b *bed) wantStatus(what string, want Status) {
	b.t.Helper()
	synctest.Wait()
	got := b.Status()
	got.SpoolBytes = 0
	if (got.Alarm == nil) != (want.Alarm == nil) || !errors.Is(got.Alarm, want.Alarm) {
		b.t.Errorf("%s: alarm %v, want %v", what, got.Alarm, want.Alarm)
	}
	if got.Alarm, want.Alarm = nil, nil; got != want {
		b.t.Errorf("%s: %+v, want %+v", what, got, want)
	}
}

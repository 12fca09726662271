package link

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/link/linktest"
)

// talker is a LedgerHandler that says what a test wants.
type talker struct {
	say      chan *sidecarpb.LedgerUp
	heard    chan *sidecarpb.LedgerDown
	give     chan error // what Speak returns
	speaking atomic.Int32
	inFlight atomic.Int32
}

func newTalker() *talker {
	return &talker{say: make(chan *sidecarpb.LedgerUp), heard: make(chan *sidecarpb.LedgerDown, 100), give: make(chan error)}
}

func (k *talker) Speak(ctx context.Context, inFlight int, send func(*sidecarpb.LedgerUp) error) error {
	k.inFlight.Store(int32(inFlight))
	k.speaking.Add(1)
	defer k.speaking.Add(-1)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-k.give:
			return err
		case m := <-k.say:
			if err := send(m); err != nil {
				return err
			}
		}
	}
}

func (k *talker) Hear(m *sidecarpb.LedgerDown) { k.heard <- m }

func readyFor(n int32) *sidecarpb.LedgerDown {
	return &sidecarpb.LedgerDown{Message: &sidecarpb.LedgerDown_Ready{Ready: &sidecarpb.Ready{InFlight: n}}}
}

// greeted begins a stream as control does, and returns the incarnation.
func greeted(st linktest.LedgerStream) (int64, error) {
	m, err := st.Recv()
	if err != nil {
		return 0, err
	}
	return m.GetHello().GetIncarnation(), st.Send(readyFor(9))
}

// talk runs a line to the ledger until the test ends.
func (b *bed) talk(k *talker) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { b.line.RunLedger(ctx, k) })
	b.t.Cleanup(func() { cancel(); wg.Wait() })
}

func TestLedgerStream(t *testing.T) {
	t.Parallel()
	b := onLoopback(t)
	hello := make(chan int64, 10)
	b.server.OnLedger(func(st linktest.LedgerStream) error {
		n, err := greeted(st)
		hello <- n
		for err == nil {
			var m *sidecarpb.LedgerUp
			if m, err = st.Recv(); err == nil {
				err = st.Send(&sidecarpb.LedgerDown{Message: &sidecarpb.LedgerDown_Reserved{Reserved: &sidecarpb.Reserved{Seq: m.GetReserve().GetSeq()}}})
			}
		}
		return err
	})
	k := newTalker()
	b.talk(k)
	if n := <-hello; n != 7 {
		t.Errorf("greeted as incarnation %d, want 7", n)
	}
	for i := range uint64(3) {
		k.say <- &sidecarpb.LedgerUp{Message: &sidecarpb.LedgerUp_Reserve{Reserve: &sidecarpb.Reserve{Seq: i}}}
		if got := (<-k.heard).GetReserved().GetSeq(); got != i {
			t.Errorf("heard %d, want %d", got, i)
		}
	}
	if k.inFlight.Load() != 9 {
		t.Errorf("%d may be in flight, want 9", k.inFlight.Load())
	}
	k.give <- errors.New("enough") // ends the stream; another one follows
	<-hello
	k.say <- &sidecarpb.LedgerUp{Message: &sidecarpb.LedgerUp_Reserve{Reserve: &sidecarpb.Reserve{Seq: 8}}}
	if got := (<-k.heard).GetReserved().GetSeq(); got != 8 {
		t.Errorf("heard %d, want 8", got)
	}
}

// TestLedgerComesBack: as the other stream does, and nothing is said before control
// is ready.
func TestLedgerComesBack(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bed) {
		begin, end := make(chan bool), make(chan error)
		var at []time.Time
		b.server.OnLedger(func(st linktest.LedgerStream) error {
			at = append(at, time.Now())
			if ready := <-begin; ready {
				if _, err := greeted(st); err != nil {
					return err
				}
			}
			select {
			case err := <-end:
				return err
			case <-st.Context().Done():
				return st.Context().Err()
			}
		})
		k := newTalker()
		b.talk(k)
		speaks := func(want int32) {
			b.t.Helper()
			synctest.Wait()
			if got := k.speaking.Load(); got != want {
				b.t.Errorf("%d speak, want %d", got, want)
			}
		}
		speaks(0)
		begin <- true
		speaks(1)
		end <- status.Error(codes.Unavailable, "going away")
		speaks(0)
		begin <- false // never ready
		began := time.Now()
		speaks(0)
		begin <- true
		if took := time.Since(began); took < greetTimeout || took > greetTimeout+longestPause {
			b.t.Errorf("a control that is not ready is left after %s", took)
		}
		speaks(1)
		end <- nil
		begin <- true
		speaks(1)
		if n := b.log.lines("no line to the ledger"); n != 3 {
			b.t.Errorf("said %d times; the log says:\n%s", n, b.log)
		}
	})
}

// TestLedgerRefused: each kind of refusal is told once.
func TestLedgerRefused(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bed) {
		b.server.OnLedger(func(st linktest.LedgerStream) error {
			if _, err := st.Recv(); err != nil {
				return err
			}
			return st.Send(readyFor(0))
		})
		k := newTalker()
		b.talk(k)
		time.Sleep(time.Minute) // in the bubble
		if n := b.log.lines(errNotReady.Error()); n != 1 || k.speaking.Load() != 0 {
			b.t.Errorf("said %d times; the log says:\n%s", n, b.log)
		}
		b.server.OnLedger(nil)
		time.Sleep(time.Minute) // in the bubble
		if n := b.log.lines("no ledger is kept here"); n != 1 {
			b.t.Errorf("said %d times; the log says:\n%s", n, b.log)
		}
	})
}

// TestDeafLedgerIsGivenUp: a control that takes nothing.
func TestDeafLedgerIsGivenUp(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bed) {
		streams := make(chan linktest.LedgerStream, 10)
		b.server.OnLedger(func(st linktest.LedgerStream) error {
			if _, err := greeted(st); err != nil {
				return err
			}
			streams <- st
			<-st.Context().Done()
			return st.Context().Err()
		})
		k := newTalker()
		b.talk(k)
		st, start := <-streams, time.Now()
		large := &sidecarpb.LedgerUp{Message: &sidecarpb.LedgerUp_Reserve{Reserve: &sidecarpb.Reserve{Model: string(make([]byte, 200<<10))}}}
		for range 3 { // gRPC's own buffers take the first ones
			select {
			case k.say <- large:
			case <-st.Context().Done():
			}
		}
		<-st.Context().Done()
		if took := time.Since(start); took < sendTimeout || took > sendTimeout+time.Second {
			b.t.Errorf("given up after %s", took)
		}
		<-streams
	})
}

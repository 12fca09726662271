package link

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"gatehouse/api/v1/sidecarpb"
)

func connectParams() grpc.ConnectParams {
	return grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: firstPause, Multiplier: 2, Jitter: 0.5, MaxDelay: longestPause},
		MinConnectTimeout: dialTimeout,
	}
}

// session is one stream. One goroutine listens, one speaks.
type session struct {
	line    *Line
	stream  grpc.BidiStreamingClient[sidecarpb.Up, sidecarpb.Down]
	welcome chan struct{} // closed at the first Welcome
	stored  chan int64    // of capacity 1: a batch of ours is stored
	cancel  context.CancelCauseFunc
}

func (s *session) welcomed() bool {
	select {
	case <-s.welcome:
		return true
	default:
		return false
	}
}

// listen hands on what control says until the stream ends.
func (s *session) listen() error {
	for {
		m, err := s.stream.Recv()
		if errors.Is(err, io.EOF) {
			err = errors.New("control ended the stream")
		}
		if err != nil {
			s.cancel(err)
			return err
		}
		s.hear(m)
	}
}

// hear takes one message. One of a later build that this one does not know is
// passed over.
func (s *session) hear(m *sidecarpb.Down) {
	h := s.line.opts.Handler
	switch m := m.GetMessage().(type) {
	case *sidecarpb.Down_Welcome:
		h.Welcome(m.Welcome)
		if !s.welcomed() {
			close(s.welcome)
			s.line.up.Store(true)
		}
	case *sidecarpb.Down_Live:
		h.Live(m.Live)
	case *sidecarpb.Down_Revision:
		h.Revision(m.Revision)
	case *sidecarpb.Down_Beat:
		h.Beat(m.Beat)
		s.line.Changed() // answered, so that control knows our clock and that we live
	case *sidecarpb.Down_Breakers:
		h.Breakers(m.Breakers)
	case *sidecarpb.Down_Stored:
		select {
		case s.stored <- m.Stored.GetBatch():
		default: // two answers to one batch: a control that errs
		}
	}
}

// speak greets, and then sends whatever there is to tell until ctx ends.
func (s *session) speak(ctx context.Context, greeted func() bool) error {
	hello := &sidecarpb.Hello{Incarnation: s.line.opts.Incarnation, Build: s.line.opts.Build, Status: s.line.opts.Handler.Status()}
	if err := s.send(&sidecarpb.Up{Message: &sidecarpb.Up_Hello{Hello: hello}}); err != nil {
		return err
	}
	select {
	case <-s.welcome:
		greeted()
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.converse(ctx)
}

func (s *session) converse(ctx context.Context) error {
	out := s.line.out
	if err := s.sendBatch(out.again()); err != nil {
		return err
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.line.news:
			err = s.send(&sidecarpb.Up{Message: &sidecarpb.Up_Status{Status: s.line.opts.Handler.Status()}})
		case n := <-s.stored:
			out.done(n)
			err = s.sendBatch(out.next())
		case <-out.ready:
			err = s.sendBatch(out.next())
		}
		if err != nil {
			return err
		}
	}
}

func (s *session) sendBatch(b *batch) error {
	if b == nil {
		return nil
	}
	return s.send(&sidecarpb.Up{Message: &sidecarpb.Up_Records{Records: &sidecarpb.Records{Batch: b.number, Records: b.records}}})
}

// send gives a control that takes nothing up.
func (s *session) send(m *sidecarpb.Up) error {
	timer := time.AfterFunc(sendTimeout, func() { s.cancel(errSilent) })
	defer timer.Stop()
	return s.stream.Send(m)
}

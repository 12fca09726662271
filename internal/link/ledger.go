package link

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	"gatehouse/api/v1/sidecarpb"
)

// LedgerHandler is the sidecar's end of streams to the ledger. There is one stream
// at a time; on each, Speak runs once and Hear is called message by message, both
// at once.
type LedgerHandler interface {
	// Speak says what there is to say with send, until ctx ends, when it returns; or
	// it returns an error, which ends the stream. Of inFlight messages that were sent
	// control may leave unanswered at once; it is 1 at least. send is not safe for
	// concurrent use, and its error is to be returned.
	Speak(ctx context.Context, inFlight int, send func(*sidecarpb.LedgerUp) error) error
	// Hear takes one message.
	Hear(*sidecarpb.LedgerDown)
}

// RunLedger keeps a stream to the ledger until ctx ends. It may run once at a time.
func (l *Line) RunLedger(ctx context.Context, h LedgerHandler) {
	l.keep(ctx, "no line to the ledger; no new holds, and settlements wait", func(ctx context.Context) (bool, error) {
		return l.ledger(ctx, h)
	})
}

// ledger opens one stream to the ledger and stays on it until it ends. It reports
// whether control is ready for it.
func (l *Line) ledger(ctx context.Context, h LedgerHandler) (ready bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := l.client.Ledger(ctx)
	if err != nil {
		return false, cause(ctx, err)
	}
	s := &ledgerSession{stream: stream, cancel: cancel}
	inFlight, err := s.greet(l.opts.Incarnation)
	if err != nil {
		return false, cause(ctx, err)
	}
	heard := make(chan error, 1)
	go func() { heard <- s.listen(h) }()
	err = h.Speak(ctx, inFlight, s.send)
	if !errors.Is(err, io.EOF) {
		cancel(err)
	}
	// As on the other stream: why it has ended, the listener learns.
	if e := <-heard; errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) || err == nil {
		err = e
	}
	return true, cause(ctx, err)
}

// ledgerSession is one stream to the ledger.
type ledgerSession struct {
	stream grpc.BidiStreamingClient[sidecarpb.LedgerUp, sidecarpb.LedgerDown]
	cancel context.CancelCauseFunc
}

var errNotReady = errors.New("control began a ledger stream without Ready")

// greet says who this is, and waits until control is ready.
func (s *ledgerSession) greet(incarnation int64) (inFlight int, err error) {
	late := time.AfterFunc(greetTimeout, func() { s.cancel(errSilent) })
	defer late.Stop()
	hello := &sidecarpb.LedgerUp{Message: &sidecarpb.LedgerUp_Hello{Hello: &sidecarpb.LedgerHello{Incarnation: incarnation}}}
	// Where the stream has ended already, Recv says why.
	if err := s.stream.Send(hello); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	m, err := s.stream.Recv()
	if err != nil {
		return 0, err
	}
	if m.GetReady().GetInFlight() < 1 {
		return 0, errNotReady
	}
	return int(m.GetReady().GetInFlight()), nil
}

// listen hands on what control says until the stream ends.
func (s *ledgerSession) listen(h LedgerHandler) error {
	for {
		m, err := s.stream.Recv()
		if errors.Is(err, io.EOF) {
			err = errors.New("control ended the stream")
		}
		if err != nil {
			s.cancel(err)
			return err
		}
		h.Hear(m)
	}
}

// send gives a control up that takes nothing.
func (s *ledgerSession) send(m *sidecarpb.LedgerUp) error {
	timer := time.AfterFunc(sendTimeout, func() { s.cancel(errSilent) })
	defer timer.Stop()
	return s.stream.Send(m)
}

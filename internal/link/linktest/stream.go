package linktest

import (
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse/api/v1/sidecarpb"
)

// Stream is one stream of a sidecar that has greeted.
type Stream struct {
	Hello *sidecarpb.Hello

	t      testing.TB
	stream grpc.BidiStreamingServer[sidecarpb.Up, sidecarpb.Down]
	end    chan error
	sendMu sync.Mutex // one sender at a time

	mu     sync.Mutex // guards all below
	heard  int
	status *sidecarpb.Status
}

// Say sends a message: what may stand in a Down, or a Down as it is.
func (s *Stream) Say(message any) {
	s.t.Helper()
	if err := s.send(message); err != nil {
		s.t.Fatalf("saying %T: %v", message, err)
	}
}

func (s *Stream) send(message any) error {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	return s.stream.Send(down(message))
}

func down(message any) *sidecarpb.Down {
	switch m := message.(type) {
	case *sidecarpb.Welcome:
		return &sidecarpb.Down{Message: &sidecarpb.Down_Welcome{Welcome: m}}
	case *sidecarpb.Live:
		return &sidecarpb.Down{Message: &sidecarpb.Down_Live{Live: m}}
	case *sidecarpb.Revision:
		return &sidecarpb.Down{Message: &sidecarpb.Down_Revision{Revision: m}}
	case *sidecarpb.Beat:
		return &sidecarpb.Down{Message: &sidecarpb.Down_Beat{Beat: m}}
	case *sidecarpb.Stored:
		return &sidecarpb.Down{Message: &sidecarpb.Down_Stored{Stored: m}}
	}
	return message.(*sidecarpb.Down)
}

// Hear waits for the next message. It is not for streams that are followed.
func (s *Stream) Hear() *sidecarpb.Up {
	s.t.Helper()
	m, err := s.stream.Recv()
	if err != nil {
		s.t.Fatalf("waiting for a message: %v", err)
	}
	return m
}

// Done is closed when the stream has ended.
func (s *Stream) Done() <-chan struct{} { return s.stream.Context().Done() }

// End ends the stream with an error, nil for a plain end.
func (s *Stream) End(err error) { s.end <- err }

// Unavailable is what a control that goes away says.
func Unavailable() error { return status.Error(codes.Unavailable, "control is going away") }

// Follow reads what comes from now on, until the stream ends. It confirms
// batches of records where stored takes them.
func (s *Stream) Follow(stored func(*sidecarpb.Records) bool) {
	go func() {
		for {
			m, err := s.stream.Recv()
			if err != nil {
				return
			}
			s.note(m)
			if r := m.GetRecords(); r != nil && stored != nil && stored(r) {
				err = s.send(&sidecarpb.Stored{Batch: r.GetBatch()})
			}
			if err != nil {
				return
			}
		}
	}()
}

func (s *Stream) note(m *sidecarpb.Up) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard++
	if st := m.GetStatus(); st != nil {
		s.status = st
	}
}

// Heard counts the messages of a followed stream.
func (s *Stream) Heard() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard
}

// Status is the newest that came on a followed stream, at first that of Hello.
func (s *Stream) Status() *sidecarpb.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status == nil {
		return s.Hello.GetStatus()
	}
	return s.status
}

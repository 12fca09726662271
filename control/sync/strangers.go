package sync

import (
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxStrange is how many streams of one credential may be without a Hello: one
// that is beginning, and one or two that a broken network has left behind. One
// credential must not take the places of all sidecars.
const maxStrange = 4

var errStrangers = status.Error(codes.ResourceExhausted, "too many streams of this credential have not said Hello")

// strangers counts the streams that have not said Hello, by credential. It is
// safe for concurrent use; the zero value is ready.
type strangers struct {
	mu   sync.Mutex // guards open
	open map[hash]int
}

// enter counts one more, or reports that there are too many.
func (s *strangers) enter(h hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[h] >= maxStrange {
		return false
	}
	if s.open == nil {
		s.open = map[hash]int{}
	}
	s.open[h]++
	return true
}

// leave is for one that has said Hello, or has ended without.
func (s *strangers) leave(h hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[h]--; s.open[h] <= 0 {
		delete(s.open, h)
	}
}

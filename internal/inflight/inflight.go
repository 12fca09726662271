// Package inflight owns which idempotency keys have a request under way at this
// process, so that a second request with one is refused while the first lasts.
//
// It remembers no answers: a key is free again when its request has ended, or
// when its time is over. It refuses to grow: where there is no room, a key is
// taken for one that is in flight, because nobody can say that it is not.
//
// A Set is safe for concurrent use. It has no goroutine.
package inflight

import (
	"sync"
	"time"
)

// Bounds of a Set.
const (
	maxKeys  = 1 << 16
	lookedAt = 64 // entries that are looked at to make room
)

// Options are what New needs; the zero value will do.
type Options struct {
	Now func() time.Time // with monotonic readings; nil means time.Now
}

// Set is the keys in flight. Make it with New.
type Set struct {
	now func() time.Time
	max int // keys; maxKeys but in tests

	mu    sync.Mutex        // guards all below
	keys  map[string]holder // by scope
	calls map[string]string // scopes, by call; of each holder, and no others
}

// holder is the request that has a key.
type holder struct {
	call  string
	until time.Time
}

// New returns a Set.
func New(o Options) *Set {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Set{now: o.Now, max: maxKeys, keys: map[string]holder{}, calls: map[string]string{}}
}

// Enter takes a key for a request, until Leave or for ttl at most, and reports
// whether it was free. scope is that of Scope. A call holds one key; one that comes
// again with another gives the first back, and with the same it has it already.
func (s *Set) Enter(scope, call string, ttl time.Duration) bool {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, held := s.keys[scope]; held && h.call != call && now.Before(h.until) {
		return false
	}
	s.leaveLocked(call)
	s.dropLocked(scope)
	if len(s.keys) >= s.max {
		s.sweepLocked(now)
	}
	if len(s.keys) >= s.max {
		return false
	}
	s.keys[scope], s.calls[call] = holder{call, now.Add(ttl)}, scope
	return true
}

// Leave gives back the key that a call has, if it has one.
func (s *Set) Leave(call string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked(call)
}

func (s *Set) leaveLocked(call string) {
	if scope, ok := s.calls[call]; ok {
		s.dropLocked(scope)
	}
}

// dropLocked takes a key out, whoever has it.
func (s *Set) dropLocked(scope string) {
	if h, ok := s.keys[scope]; ok {
		delete(s.keys, scope)
		delete(s.calls, h.call)
	}
}

// sweepLocked drops those of some keys whose time is over.
func (s *Set) sweepLocked(now time.Time) {
	looked := 0
	for scope, h := range s.keys {
		if !now.Before(h.until) {
			s.dropLocked(scope)
		}
		if looked++; looked >= lookedAt {
			return
		}
	}
}

// Len is how many keys are held, some of whose time may be over.
func (s *Set) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.keys)
}

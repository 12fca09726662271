package sync

import (
	"context"
	"sync"
)

// itemKey names the request that an item is about.
type itemKey struct {
	tenant, id string
	attempt    int32
}

// turns puts the items of one request in the order in which they came: a release
// must not overtake the hold that it gives back. It is safe for concurrent use;
// the zero value is ready.
type turns struct {
	mu    sync.Mutex // guards all below
	last  map[itemKey]*turn
	count int // taken and not done
}

// turn is an item's place.
type turn struct {
	before <-chan struct{} // closed when the one before is done; nil where none is
	over   chan struct{}
}

// take takes the next turn of a request, or reports that maxItems are taken.
func (t *turns) take(key itemKey) (*turn, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count >= maxItems {
		return nil, false
	}
	if t.last == nil {
		t.last = map[itemKey]*turn{}
	}
	next := &turn{over: make(chan struct{})}
	if before := t.last[key]; before != nil {
		next.before = before.over
	}
	t.last[key] = next
	t.count++
	return next, true
}

// wait returns when it is the item's turn, or false when ctx ends first.
func (t *turn) wait(ctx context.Context) bool {
	if t.before == nil {
		return ctx.Err() == nil
	}
	select {
	case <-t.before:
		return true
	case <-ctx.Done():
		return false
	}
}

// done ends a turn. It is called once for each that was taken.
func (t *turns) done(key itemKey, of *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(of.over)
	if t.last[key] == of {
		delete(t.last, key)
	}
	t.count--
}

// ledgers are the ledger streams of this process, by credential. It is safe for
// concurrent use; the zero value is ready.
type ledgers struct {
	mu   sync.Mutex // guards open
	open map[hash][]*ledgerStream
}

// enter takes a stream in. Where there is no room for one more of its credential,
// the oldest ends: a broken network has left it behind.
func (s *ledgers) enter(l *ledgerStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[hash][]*ledgerStream{}
	}
	all := s.open[l.caller.hash]
	if len(all) == maxLedgers {
		close(all[0].replaced)
		all = all[1:]
	}
	s.open[l.caller.hash] = append(all[:len(all):len(all)], l)
}

// leave takes a stream out, if it is still in.
func (s *ledgers) leave(l *ledgerStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.open[l.caller.hash]
	for i := range all {
		if all[i] == l {
			s.open[l.caller.hash] = append(all[:i:i], all[i+1:]...)
			break
		}
	}
	if len(s.open[l.caller.hash]) == 0 {
		delete(s.open, l.caller.hash)
	}
}

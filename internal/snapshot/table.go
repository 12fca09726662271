package snapshot

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"gatehouse/internal/envoyconf"
)

// Table holds the revisions that a request can still have matched. Readers
// load one pointer; writers take turns.
type Table struct {
	mu    sync.Mutex // one writer at a time
	state atomic.Pointer[tableState]
}

// tableState is replaced as a whole, never changed.
type tableState struct {
	current    *Snapshot // the one whose routes are in force; nil at first
	newest     *Snapshot // the one added last; it may be on its way
	byRevision map[string]*Snapshot
}

// NewTable is a table without revisions: every lookup fails.
func NewTable() *Table {
	t := &Table{}
	t.state.Store(&tableState{byRevision: map[string]*Snapshot{}})
	return t
}

// Lookup finds the snapshot of the revision that a request matched.
// envoyconf.CurrentRevision, which only static renderings carry, is the newest
// loaded: an Envoy that is not served by us takes no part in a switch.
func (t *Table) Lookup(revision string) (*Snapshot, bool) {
	s := t.state.Load()
	if revision == envoyconf.CurrentRevision {
		return s.newest, s.newest != nil
	}
	found, ok := s.byRevision[revision]
	return found, ok
}

// Current is the revision in force, nil before the first.
func (t *Table) Current() *Snapshot { return t.state.Load().current }

// Len is the number of revisions held.
func (t *Table) Len() int { return len(t.state.Load().byRevision) }

// Add makes a revision known, before Envoy is told of it. The first one is
// current at once. Adding a revision that is there gives up the new copy.
func (t *Table) Add(s *Snapshot) {
	t.change(func(next *tableState) {
		if known := next.byRevision[s.Revision]; known != nil {
			s.close()
			next.newest = known
			return
		}
		next.byRevision[s.Revision], next.newest = s, s
		if next.current == nil {
			next.current = s
		}
	})
}

// SetCurrent says that a revision's routes are in force.
func (t *Table) SetCurrent(revision string) {
	t.change(func(next *tableState) {
		if s := next.byRevision[revision]; s != nil {
			next.current = s
		}
	})
}

// Withdraw says that a revision was refused: the newest is the one in force again.
func (t *Table) Withdraw(revision string) {
	t.change(func(next *tableState) {
		if next.newest != nil && next.newest.Revision == revision {
			next.newest = next.current
		}
	})
}

// Remove drops a revision that no request can match any more. The current one
// and the newest stay whatever is asked: never no policy.
func (t *Table) Remove(revision string) {
	t.change(func(next *tableState) {
		s := next.byRevision[revision]
		if s == nil || s == next.current || s == next.newest {
			return
		}
		delete(next.byRevision, revision)
		s.close()
	})
}

func (t *Table) change(edit func(*tableState)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.state.Load()
	next := &tableState{current: old.current, newest: old.newest, byRevision: maps.Clone(old.byRevision)}
	edit(next)
	t.state.Store(next)
}

// Revisions lists the revisions held, in no order.
func (t *Table) Revisions() []string {
	return slices.Collect(maps.Keys(t.state.Load().byRevision))
}

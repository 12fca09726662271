package ledger

import (
	"errors"
	"slices"

	pb "gatehouse/api/v1/sidecarpb"
)

// Bounds of what is asked: holds and top-ups.
const (
	maxAsks       = 1024 // at once
	maxTenantAsks = maxAsks / 2
	maxTries      = 2 // sendings of one
)

// errLost says that the streams on which an ask was sent have ended without an
// answer.
var errLost = errors.New("the line was lost")

// ask is a question that somebody waits for the answer to.
type ask struct {
	tenant  string
	message func(seq uint64) *pb.LedgerUp
	done    chan reply // has room for the one

	tries  int
	unsure bool // a try had no answer that says what was done
	seq    uint64
}

// reply is control's answer, or why there is none.
type reply struct {
	down *pb.LedgerDown
	err  error
}

// asks is all that is asked and not answered. It is plain data, and its owner's mutex
// is held for each call.
type asks struct {
	waiting []*ask // to be sent
	flight  map[uint64]*ask
	tenants map[string]int // of each, how many
	count   int
}

func newAsks() asks { return asks{flight: map[uint64]*ask{}, tenants: map[string]int{}} }

// add takes an ask, or reports that there is no room.
func (s *asks) add(a *ask) bool {
	if s.count >= maxAsks || s.tenants[a.tenant] >= maxTenantAsks {
		return false
	}
	s.count++
	s.tenants[a.tenant]++
	s.waiting = append(s.waiting, a)
	return true
}

// next puts the ask under way that is to be sent now, under seq; nil where there is
// none, or no window.
func (s *asks) next(seq uint64, window int) *ask {
	if len(s.waiting) == 0 || len(s.flight) >= window {
		return nil
	}
	a := s.waiting[0]
	s.waiting[0] = nil
	s.waiting = s.waiting[1:]
	a.tries++
	a.seq = seq
	s.flight[seq] = a
	return a
}

// answered takes control's answer. One that is not certain of what was done is none:
// the ask is sent once more.
func (s *asks) answered(seq uint64, down *pb.LedgerDown, certain bool) {
	a := s.flight[seq]
	if a == nil {
		return // it was given up; what it holds, its release gives back
	}
	delete(s.flight, seq)
	if certain {
		s.end(a, reply{down: down})
		return
	}
	s.again(a, reply{down: down})
}

// again has an ask sent once more, unless it has been; then the reply is its end.
func (s *asks) again(a *ask, r reply) {
	a.unsure, a.seq = true, 0
	if a.tries >= maxTries {
		s.end(a, r)
		return
	}
	s.waiting = append(s.waiting, a)
}

func (s *asks) end(a *ask, r reply) {
	s.forget(a)
	a.done <- r
}

func (s *asks) forget(a *ask) {
	s.count--
	if s.tenants[a.tenant]--; s.tenants[a.tenant] <= 0 {
		delete(s.tenants, a.tenant)
	}
}

// lost says that the stream has ended.
func (s *asks) lost() {
	under := make([]*ask, 0, len(s.flight))
	for _, a := range s.flight {
		under = append(under, a)
	}
	clear(s.flight)
	slices.SortFunc(under, func(a, b *ask) int { return int(int64(a.seq) - int64(b.seq)) })
	for _, a := range under {
		s.again(a, reply{err: errLost})
	}
}

// leave takes an ask back whose asker is gone. It reports whether it may have been
// done: an answer that came at the same moment is not looked at, since nobody may act
// on it.
func (s *asks) leave(a *ask) bool {
	if i := slices.Index(s.waiting, a); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		s.forget(a)
	} else if s.flight[a.seq] == a {
		delete(s.flight, a.seq)
		a.unsure = true
		s.forget(a)
	}
	return a.unsure || len(a.done) > 0
}

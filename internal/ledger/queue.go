package ledger

import (
	"cmp"
	"slices"
	"time"

	"gatehouse/budget"
)

// Bounds of settlements.
const (
	maxQueued  = 16384 // in memory alone
	maxReplay  = 1024  // read back from spools and not decided
	maxFlight  = 512   // sent and unanswered, of control's bound at most half
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second // until one is sent again that could not be done
	// downFor is how long the line may be down before what waits is spooled, and how
	// long an answer may take of what is spooled for another reason.
	downFor = time.Second
	// silentFor is how long a line that is up may leave one undecided before it is
	// spooled.
	silentFor = 5 * time.Second
)

// entry is a settlement that control has not decided.
type entry struct {
	tenant string
	budget.Settlement
	n     uint64        // its place among all
	since time.Time     // that it is here
	from  *pile         // the spool that it was read from; nil for what is in memory alone
	again time.Time     // not before
	pause time.Duration // before that
	sent  time.Time     // the last time
	seq   uint64        // under which it is in flight; 0 while it is not

	writing bool // being written to the spool
	done    bool // decided meanwhile
}

// pile is what was read of a spool and is not decided.
type pile struct {
	own bool
	out int // how many
}

// queue is all settlements of this process that are in memory. It is plain data,
// and its owner's mutex is held for each call.
//
//	add ──► fresh ──► flight ──► gone, when control has decided
//	          ▲  ▲      │ │
//	 unwrite  │  └──────┘ └──► later ──► flight, when it is time
//	          │    lost
//	        writing ──► gone, when the disk has it
type queue struct {
	fresh  []*entry // in memory alone, in order
	own    []*entry // of this process's spool, in order
	others []*entry // of earlier ones', in order
	later  []*entry // not done when they were sent, by when they are again
	flight map[uint64]*entry

	writing []*entry // of memory alone, being written to the spool

	// behind says that this process's spool holds more than was read of it: what came
	// later waits for that, as long as there is room to read it. Where there is none,
	// what was read can't be decided now, as when one tenant's ledger is away.
	behind bool

	count  int // in memory alone: fresh, writing, and those in flight and later
	replay int // read back and not decided
	last   uint64
}

func newQueue() queue { return queue{flight: map[uint64]*entry{}} }

// add takes a settlement, or reports that there is no room.
func (q *queue) add(now time.Time, tenant string, s budget.Settlement) bool {
	if q.count >= maxQueued {
		return false
	}
	q.count++
	q.put(&entry{tenant: tenant, Settlement: s, since: now})
	return true
}

// readBack takes what was read of a spool, at most room.
func (q *queue) readBack(tenant string, s budget.Settlement, from *pile) {
	from.out++
	q.replay++
	q.put(&entry{tenant: tenant, Settlement: s, from: from})
}

func (q *queue) put(e *entry) {
	q.last++
	e.n = q.last
	list := q.list(e)
	*list = append(*list, e)
}

// room is how much may be read back.
func (q *queue) room() int { return maxReplay - q.replay }

// list is where an entry waits to be sent.
func (q *queue) list(e *entry) *[]*entry {
	switch {
	case e.from == nil:
		return &q.fresh
	case e.from.own:
		return &q.own
	}
	return &q.others
}

// next puts the entry under way that is to be sent now, under seq. It is nil where
// there is none, and then says when to ask again; the zero time is never. What
// earlier processes left comes last: it concerns no request of this one.
func (q *queue) next(now time.Time, seq uint64, window int) (*entry, time.Time) {
	if len(q.flight) >= window {
		return nil, time.Time{}
	}
	var at time.Time
	for _, l := range []*[]*entry{&q.later, &q.own, &q.fresh, &q.others} {
		if len(*l) == 0 || (q.behind && l == &q.fresh && q.room() >= readBatch) {
			continue
		}
		e := (*l)[0]
		if e.again.After(now) {
			at = e.again // of later alone
			continue
		}
		(*l)[0] = nil
		*l = (*l)[1:]
		e.sent, e.seq = now, seq
		q.flight[seq] = e
		return e, time.Time{}
	}
	return nil, at
}

// answered takes control's answer: final, or not now. It returns the entry, nil
// where none is under way of that number.
func (q *queue) answered(now time.Time, seq uint64, final bool) *entry {
	e := q.flight[seq]
	if e == nil {
		return nil
	}
	delete(q.flight, seq)
	e.seq = 0
	if final {
		q.decided(e)
		return e
	}
	if e.writing {
		return e // written says where it goes on
	}
	// Each has a pause of its own: that others can be decided says nothing of it.
	e.pause = min(max(2*e.pause, firstPause), lastPause)
	e.again = now.Add(e.pause)
	i, _ := slices.BinarySearchFunc(q.later, e, func(o, e *entry) int { return cmp.Or(o.again.Compare(e.again), -1) })
	q.later = slices.Insert(q.later, i, e)
	return e
}

func (q *queue) decided(e *entry) {
	switch {
	case e.from != nil:
		e.from.out--
		q.replay--
	case e.writing:
		e.done = true // written counts it
	default:
		q.count--
	}
}

// lost says that the stream has ended: what was under way is to be sent again,
// before what came after it.
func (q *queue) lost() {
	back := make([]*entry, 0, len(q.flight))
	for _, e := range q.flight {
		if e.seq = 0; !e.writing {
			back = append(back, e)
		}
	}
	clear(q.flight)
	q.pushBack(back)
}

// pushBack puts entries back to where they wait, in order.
func (q *queue) pushBack(back []*entry) {
	for _, e := range back {
		list := q.list(e)
		*list = append(*list, e)
	}
	for _, list := range []*[]*entry{&q.fresh, &q.own, &q.others} {
		inOrder(*list)
	}
}

func inOrder(list []*entry) {
	slices.SortFunc(list, func(a, b *entry) int { return cmp.Compare(a.n, b.n) })
}

// overdue reports whether what is in memory alone is to be spooled now, and else
// when to ask again. down is since when the line is; zero while it is up.
func (q *queue) overdue(now, down time.Time) (bool, time.Time) {
	oldest := q.oldest()
	switch {
	case oldest.IsZero(), len(q.writing) > 0:
		return false, time.Time{}
	case q.count >= maxQueued/2:
		return true, time.Time{}
	}
	at := oldest.Add(silentFor)
	if !down.IsZero() && down.Add(downFor).Before(at) {
		at = down.Add(downFor)
	}
	return !now.Before(at), at
}

// oldest is when the oldest came that is in memory alone; zero where there is none.
func (q *queue) oldest() (t time.Time) {
	older := func(e *entry) {
		if e.from == nil && (t.IsZero() || e.since.Before(t)) {
			t = e.since
		}
	}
	if len(q.fresh) > 0 {
		older(q.fresh[0])
	}
	for _, e := range q.later {
		older(e)
	}
	for _, e := range q.flight {
		older(e)
	}
	return t
}

// write takes up to limit entries to be spooled, in order: those in memory alone
// that are not being answered just now, or with all each of them. It is followed by
// written.
func (q *queue) write(now time.Time, limit int, all bool) []*entry {
	var out []*entry
	out = append(out, q.fresh...)
	for _, e := range q.later {
		if e.from == nil {
			out = append(out, e)
		}
	}
	for _, e := range q.flight {
		if e.from == nil && (all || now.Sub(e.sent) >= downFor) {
			out = append(out, e)
		}
	}
	inOrder(out)
	out = out[:min(len(out), limit)]
	for _, e := range out {
		e.writing = true
	}
	q.writing = out
	taken := func(e *entry) bool { return e.writing }
	q.fresh = slices.DeleteFunc(q.fresh, taken)
	q.later = slices.DeleteFunc(q.later, taken)
	return out
}

// written says that the first n entries of write are on the disk, and the others are
// not. An answer to one that is will find nobody.
func (q *queue) written(n int) {
	var back []*entry
	for i, e := range q.writing {
		e.writing = false
		switch {
		case i < n || e.done:
			q.count--
			delete(q.flight, e.seq)
		case e.seq == 0:
			e.again = time.Time{} // it is not of later any more
			back = append(back, e)
		}
	}
	q.writing = nil
	q.pushBack(back)
}

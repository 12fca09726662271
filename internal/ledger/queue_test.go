package ledger

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatehouse/budget"
)

var began = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func commit(id string, tokens int64) budget.Settlement {
	return budget.Settlement{Key: budget.Key{Origin: budget.Inline, ID: id, Attempt: 1}, Action: budget.Commit, Tokens: tokens}
}

func release(id string) budget.Settlement {
	return budget.Settlement{Key: budget.Key{Origin: budget.Inline, ID: id, Attempt: 1}, Action: budget.Release}
}

// sends takes all that is to be sent now, and returns the ids.
func (q *queue) sends(now time.Time, seq *uint64, window int) (ids []string) {
	for {
		*seq++
		e, _ := q.next(now, *seq, window)
		if e == nil {
			return ids
		}
		ids = append(ids, e.ID)
	}
}

func wantIDs(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestOrderOfSettlements: this process's spool, then what came later, then what
// earlier processes left.
func TestOrderOfSettlements(t *testing.T) {
	t.Parallel()
	q, seq := newQueue(), uint64(0)
	own, other := &pile{own: true}, &pile{}
	q.add(began, "t", commit("c", 1))
	q.readBack("t", commit("e", 1), other)
	q.readBack("t", commit("a", 1), own)
	q.behind = true
	wantIDs(t, "while the spool has more", q.sends(began, &seq, 10), "a", "e")
	q.readBack("t", commit("b", 1), own)
	q.behind = false
	wantIDs(t, "then", q.sends(began, &seq, 10), "b", "c")
	q.lost()
	wantIDs(t, "on the next stream", q.sends(began, &seq, 10), "a", "b", "c", "e")
	wantIDs(t, "with all under way", q.sends(began, &seq, 10))
}

// TestLostKeepsTheOrder: what was under way goes again before what was not sent.
func TestLostKeepsTheOrder(t *testing.T) {
	t.Parallel()
	q, seq := newQueue(), uint64(0)
	for i := range 6 {
		q.add(began, "t", commit(fmt.Sprint(i), 1))
	}
	wantIDs(t, "window", q.sends(began, &seq, 4), "0", "1", "2", "3")
	if e := q.answered(began, 2, true); e == nil || e.ID != "1" {
		t.Fatalf("answered %+v", e)
	}
	if q.answered(began, 2, true) != nil || q.answered(began, 99, true) != nil {
		t.Error("answers to nothing are somebody's")
	}
	q.lost()
	wantIDs(t, "again", q.sends(began, &seq, 10), "0", "2", "3", "4", "5")
}

// TestNotNow: what could not be done is sent later, and holds up nobody.
func TestNotNow(t *testing.T) {
	t.Parallel()
	q, seq := newQueue(), uint64(0)
	q.add(began, "slow", commit("a", 1))
	q.sends(began, &seq, 1)
	q.add(began, "t", commit("b", 1))
	q.answered(began, 1, false)
	wantIDs(t, "at once", q.sends(began, &seq, 10), "b")
	_, at := q.next(began, 99, 10)
	if want := began.Add(firstPause); !at.Equal(want) {
		t.Errorf("again at %s, want %s", at, want)
	}
	pause := firstPause
	for range 10 {
		began := at
		wantIDs(t, "when it is time", q.sends(began, &seq, 10), "a")
		q.answered(began, seq-1, false)
		pause = min(2*pause, lastPause)
		if _, at = q.next(began, 99, 10); !at.Equal(began.Add(pause)) {
			t.Errorf("again after %s, want %s", at.Sub(began), pause)
		}
	}
	q.sends(at, &seq, 10)
	q.answered(at, seq-1, true)
	if q.count != 1 {
		t.Errorf("%d wait", q.count)
	}
}

// TestFreshWaitsForTheSpool: only while more of it can be read.
func TestFreshWaitsForTheSpool(t *testing.T) {
	t.Parallel()
	for read, want := range map[int]int{0: 0, maxReplay - readBatch: 0, maxReplay - readBatch + 1: 1, maxReplay: 1} {
		q, seq, own := newQueue(), uint64(0), &pile{own: true}
		for i := range read {
			q.readBack("stuck", commit(fmt.Sprint(i), 1), own)
		}
		q.sends(began, &seq, maxReplay)
		q.behind = true
		q.add(began, "t", commit("a", 1))
		if ids := q.sends(began, &seq, 2*maxReplay); len(ids) != want {
			t.Errorf("%d of the spool are under way: %v of what came later, want %d", read, ids, want)
		}
	}
}

// TestLaterIsInOrder: who has tried less often is not behind who has more.
func TestLaterIsInOrder(t *testing.T) {
	t.Parallel()
	q, seq := newQueue(), uint64(0)
	q.add(began, "t", commit("a", 1))
	q.sends(began, &seq, 1)
	q.answered(began, 1, false)
	now := began.Add(firstPause)
	for i := range 2 {
		q.add(now, "t", commit(fmt.Sprint(i), 1))
	}
	wantIDs(t, "first", q.sends(now, &seq, 10), "a", "0", "1")
	for n := seq - 3; n < seq; n++ {
		q.answered(now, n, false)
	}
	wantIDs(t, "then", q.sends(now.Add(firstPause), &seq, 10), "0", "1")
	wantIDs(t, "at last", q.sends(now.Add(2*firstPause), &seq, 10), "a")
}

// TestUnwrittenGoesOn: what the disk did not take is said again, whenever that was to
// be before.
func TestUnwrittenGoesOn(t *testing.T) {
	t.Parallel()
	q, seq := newQueue(), uint64(0)
	q.add(began, "t", commit("a", 1))
	q.sends(began, &seq, 1)
	q.answered(began, 1, false)
	q.add(began, "t", commit("b", 1))
	q.write(began, 10, false)
	q.written(0)
	wantIDs(t, "at once", q.sends(began, &seq, 10), "a", "b")
}

func TestOverdue(t *testing.T) {
	t.Parallel()
	q, seq := newQueue(), uint64(0)
	var up time.Time
	want := func(what string, now, down time.Time, want bool) {
		t.Helper()
		got, at := q.overdue(now, down)
		if got != want || !got && !at.IsZero() && !at.After(now) {
			t.Errorf("%s: %v, and again at %s; want %v", what, got, at, want)
		}
	}
	want("nothing", began.Add(time.Hour), began, false)
	q.add(began, "t", commit("a", 1))
	want("at once", began, up, false)
	want("down at once", began, began, false)
	want("down for long", began.Add(downFor), began, true)
	want("up for a while", began.Add(silentFor-1), up, false)
	q.sends(began, &seq, 10)
	want("sent, without an answer", began.Add(silentFor), up, true)
	q.answered(began, 1, false)
	want("not now", began.Add(silentFor), up, true)
	for i := range maxQueued/2 - 1 {
		q.add(began, "t", commit(fmt.Sprint(i), 1))
	}
	want("half full", began, up, true)
	q.write(began, 5, true)
	want("while it is being written", began.Add(time.Hour), up, false)
}

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	q := newQueue()
	for i := range maxQueued {
		if !q.add(began, "t", commit(fmt.Sprint(i), 1)) {
			t.Fatalf("%d is refused", i)
		}
	}
	if q.add(began, "t", commit("more", 1)) || q.count != maxQueued {
		t.Errorf("more than the bound is taken: %d", q.count)
	}
}

// TestQueueLosesNothing tries random histories. At each moment every settlement that
// was taken is in memory, on the disk or decided; none is in memory twice; and one
// that was sent and not decided is sent again.
func TestQueueLosesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := &history{q: newQueue(), decided: map[string]bool{}, now: began}
		t.Repeat(map[string]func(*rapid.T){
			"add":     func(*rapid.T) { h.add() },
			"send":    func(*rapid.T) { h.send() },
			"final":   func(t *rapid.T) { h.answer(t, true) },
			"not now": func(t *rapid.T) { h.answer(t, false) },
			"lost":    func(*rapid.T) { h.q.lost() },
			"write":   func(t *rapid.T) { h.write(rapid.IntRange(1, 5).Draw(t, "limit"), rapid.Bool().Draw(t, "all")) },
			"written": func(t *rapid.T) { h.written(t) },
			"read":    func(*rapid.T) { h.read() },
			"time":    func(*rapid.T) { h.now = h.now.Add(time.Second) },
			"":        h.check,
		})
		h.end(t)
	})
}

// history is a queue, what is on the disk, and what was decided.
type history struct {
	q       queue
	now     time.Time
	taken   []string
	disk    []string // not read back
	decided map[string]bool
	seq     uint64
	own     pile
}

func (h *history) add() {
	id := fmt.Sprint(len(h.taken))
	if h.q.add(h.now, "t", commit(id, 1)) {
		h.taken = append(h.taken, id)
	}
}

func (h *history) send() {
	h.seq++
	h.q.next(h.now, h.seq, 6)
}

func (h *history) answer(t *rapid.T, final bool) {
	if len(h.q.flight) == 0 {
		return
	}
	var seqs []uint64
	for seq := range h.q.flight {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	e := h.q.answered(h.now, rapid.SampledFrom(seqs).Draw(t, "seq"), final)
	h.decided[e.ID] = h.decided[e.ID] || final
}

func (h *history) write(limit int, all bool) {
	if len(h.q.writing) == 0 {
		h.q.write(h.now, limit, all)
	}
}

func (h *history) written(t *rapid.T) {
	if len(h.q.writing) == 0 {
		return
	}
	n := rapid.IntRange(0, len(h.q.writing)).Draw(t, "written")
	for _, e := range h.q.writing[:n] {
		h.disk = append(h.disk, e.ID)
	}
	h.q.written(n)
	h.q.behind = len(h.disk) > 0
}

func (h *history) read() {
	h.own.own = true
	if len(h.disk) == 0 {
		return
	}
	h.q.readBack("t", commit(h.disk[0], 1), &h.own)
	h.disk = h.disk[1:]
	h.q.behind = len(h.disk) > 0
}

// check counts where everything is.
func (h *history) check(t *rapid.T) {
	in := map[string]int{}
	memory, replayed := 0, 0
	note := func(e *entry) {
		in[e.ID]++
		if e.from == nil {
			memory++
		} else {
			replayed++
		}
	}
	for _, list := range [][]*entry{h.q.fresh, h.q.own, h.q.others, h.q.later, h.q.writing} {
		for _, e := range list {
			if e.seq != 0 && !e.writing {
				t.Fatalf("%s waits and is under way", e.ID)
			}
			note(e)
		}
	}
	for seq, e := range h.q.flight {
		if e.seq != seq {
			t.Fatalf("%s is under way as %d and %d", e.ID, seq, e.seq)
		}
		if !e.writing {
			note(e)
		}
	}
	for _, id := range h.disk {
		in[id]++
	}
	for _, id := range h.taken {
		if in[id] == 0 && !h.decided[id] || in[id] > 1 {
			t.Fatalf("%s is in %d places, decided: %v", id, in[id], h.decided[id])
		}
	}
	if memory != h.q.count || replayed != h.q.replay || replayed != h.own.out {
		t.Fatalf("counts %d, %d and %d; there are %d and %d", h.q.count, h.q.replay, h.own.out, memory, replayed)
	}
}

// end has control decide all: then nothing is left.
func (h *history) end(t *rapid.T) {
	h.q.written(len(h.q.writing))
	for _, id := range h.disk {
		h.q.readBack("t", commit(id, 1), &h.own)
	}
	h.q.lost()
	h.q.behind = false
	h.now = h.now.Add(time.Hour)
	for range len(h.taken) {
		h.send()
		if e := h.q.answered(h.now, h.seq, true); e != nil {
			h.decided[e.ID] = true
		}
	}
	if h.q.count != 0 || h.q.replay != 0 || len(h.q.flight) != 0 {
		t.Fatalf("%d and %d are left", h.q.count, h.q.replay)
	}
}

// BenchmarkQueue is a settlement from its coming to its decision.
func BenchmarkQueue(b *testing.B) {
	q, seq := newQueue(), uint64(0)
	s := commit("3f0d0c1e-8f57-4c89-b2a7-0d0b9a6f8f11", 100)
	b.ReportAllocs()
	for b.Loop() {
		q.add(began, "org1", s)
		seq++
		q.next(began, seq, maxFlight)
		if q.answered(began, seq, true) == nil {
			b.Fatal("not decided")
		}
	}
}

package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/budget"
)

// files are those of a folder.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	check(t, err)
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}

// handedOver is a client to which all is well.
func handedOver() Status { return Status{Connected: true, HandedOver: true} }

func TestSettleAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		st := b.connect()
		s := commit("a", 5)
		s.Flagged, s.Attempt = true, 2
		b.settle(s)
		m := st.next()
		want := &pb.LedgerUp{Message: &pb.LedgerUp_Settle{Settle: &pb.Settle{
			Seq: seqOf(m), Tenant: "org1", RequestId: "a", Attempt: 2, Action: "commit", Tokens: 5, Flagged: true,
		}}}
		if diff := cmp.Diff(want, m, protocmp.Transform()); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
		waits := handedOver()
		waits.Waiting = 1
		b.wantStatus("while it is not answered", waits)
		st.outcome(seqOf(m), "done", true)
		b.wantStatus("then", handedOver())
		st.nothing()
		b.stop()
		if left := files(t, b.dir); len(left) != 0 {
			t.Errorf("a process without anything to say leaves %v", left)
		}
	})
}

// TestWhatControlWouldNotTake is counted and told.
func TestWhatControlWouldNotTake(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		st := b.connect()
		want := handedOver()
		for _, tt := range []struct {
			s       budget.Settlement
			outcome string
			counts  bool
		}{
			{commit("a", 1), "already_committed", false},
			{release("a"), "already_released", false},
			{release("a"), "denied", false},
			{commit("a", 1), "denied", true},
			{commit("a", 1), "not_found", true},
			{release("a"), "forbidden", true},
			{commit("a", 1), "new word", true},
		} {
			b.settle(tt.s)
			st.outcome(seqOf(st.next()), tt.outcome, true)
			if tt.counts {
				want.Refused++
			}
			b.wantStatus(tt.outcome, want)
		}
		if n := b.log.count("refused a settlement"); int64(n) != want.Refused {
			t.Errorf("told %d times", n)
		}
	})
}

// TestNobodyCanSettleThis: it is counted as lost, and keeps nobody else's.
func TestNobodyCanSettleThis(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		st := b.connect()
		st.settles()
		api := commit("a", 1)
		api.Origin = budget.API
		topUp := commit("a", 1)
		topUp.Action = budget.TopUp
		b.settle(api, topUp, commit("", 1), commit("a", -1))
		b.Settle("\xff", commit("a", 1))
		want := handedOver()
		want.Lost = 5
		b.wantStatus("of five", want)
		st.nothing()
		if n := b.log.count("a settlement is lost"); n != 3 { // the 1st, 2nd and 4th
			t.Errorf("told %d times:\n%s", n, &b.log.b)
		}
	})
}

// TestLineDown: after a second the disk has what waits, and this process goes on from
// there when the line is back.
func TestLineDown(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		st := b.connect()
		st.settles()
		b.settle(commit("a", 1))
		st.wants("commit a")
		st.end()
		b.settle(commit("b", 1))
		b.after(downFor - time.Millisecond)
		if got := b.Status(); got.Waiting != 2 {
			t.Errorf("before its time: %+v", got)
		}
		b.after(2 * time.Millisecond)
		b.wantStatus("spooled", Status{HandedOver: true})
		b.settle(commit("c", 1))
		b.wantStatus("later, at once", Status{HandedOver: true})
		st = b.connect()
		wantIDs(t, "on the next stream", st.settles(), "commit a", "commit b", "commit c")
		b.wantStatus("after all", handedOver())
		if got := b.Status().SpoolBytes; got != int64(len(magic)) {
			t.Errorf("the spool has %d bytes", got)
		}
	})
}

// TestKilled: what the disk has is said by the next process, which says that it is
// done when it is; what was in memory alone is lost.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		first := begin(t, dir, 7, nil)
		first.settle(commit("a", 1), commit("b", 2))
		first.after(2 * downFor)
		first.settle(commit("c", 2))
		first.connect()
		first.settle(commit("lost", 3)) // is under way, in memory alone
		first.kill()

		second := begin(t, dir, 8, nil)
		second.settle(commit("own", 4))
		st := second.connect()
		var seqs []uint64
		for _, want := range []string{"commit own", "commit a", "commit b", "commit c"} {
			seqs = append(seqs, st.wants(want))
		}
		st.outcome(seqs[0], "done", true)
		st.outcome(seqs[1], "done", true)
		if second.handover.asked {
			t.Error("done before all was decided")
		}
		st.end()
		second.kill() // while it replays

		third := begin(t, dir, 9, nil)
		st = third.connect()
		st.outcome(st.wants("commit a"), "already_committed", true) // said twice, done once
		st.outcome(st.wants("commit b"), "done", true)
		st.outcome(st.wants("commit c"), "done", true)
		third.after(time.Millisecond)
		st.nothing() // takes Replayed
		third.wantStatus("then", handedOver())
		third.stop()
		if left := files(t, dir); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// TestEndOfAProcess: it waits a little for control, and spools the rest.
func TestEndOfAProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		first := begin(t, dir, 7, nil)
		st := first.connect()
		first.settle(commit("a", 1), commit("b", 2))
		a := st.wants("commit a")
		start := time.Now()
		first.cancel()
		synctest.Wait()
		st.outcome(a, "done", true)
		first.settle(commit("c", 3))
		first.ran.Wait()
		if took := time.Since(start); took != lingerFor {
			t.Errorf("waited for %s", took)
		}
		first.Close()
		first.Settle("org1", commit("late", 1))
		if got := first.Status(); got.Lost != 1 || got.Waiting != 0 {
			t.Errorf("after its end: %+v", got)
		}
		if _, err := first.Reserve(t.Context(), "org1", hold("x")); !errors.Is(err, budget.ErrUnavailable) {
			t.Errorf("a hold after the end: %v", err)
		}

		second := begin(t, dir, 8, nil)
		st = second.connect()
		wantIDs(t, "said by the next", st.settles(), "commit b", "commit c")
		start = time.Now()
		second.settle(commit("d", 1))
		d := st.wants("commit d")
		second.cancel()
		synctest.Wait()
		st.outcome(d, "done", true)
		second.ran.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("with nothing to wait for it took %s", took)
		}
		second.Close()
		if left := files(t, dir); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// TestSilentLine: what control leaves undecided is spooled though the line is up.
func TestSilentLine(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		st := b.connect()
		b.settle(commit("a", 1), commit("b", 1))
		a, second := st.wants("commit a"), st.wants("commit b")
		st.outcome(second, "unavailable", false)
		b.after(silentFor + retryEvery)
		if got := b.Status(); got.Waiting != 0 || got.SpoolBytes <= int64(len(magic)) {
			t.Errorf("%+v", got)
		}
		st.outcome(a, "done", true) // too late to be anybody's
		// The second was said again before it was spooled; that is nobody's either.
		wantIDs(t, "said", st.settles(), "commit b", "commit a", "commit b")
		b.after(time.Second)
		b.wantStatus("after all", handedOver())
		if got := b.Status().SpoolBytes; got != int64(len(magic)) {
			t.Errorf("the spool has %d bytes", got)
		}
	})
}

// TestHalfFull: what control can't take fast enough is spooled, and comes in order.
func TestHalfFull(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		st := b.connect()
		var want []string
		for i := range maxQueued/2 + 100 {
			id := fmt.Sprintf("%05d", i)
			want = append(want, "commit "+id)
			b.Settle("org1", commit(id, 1))
		}
		b.after(time.Millisecond)
		if got := b.Status(); got.Waiting >= maxQueued/2 || got.SpoolBytes < maxQueued {
			t.Errorf("%+v", got)
		}
		got := st.settles()
		b.after(time.Second)
		got = append(got, st.settles()...)
		if !slices.Equal(got, want) {
			t.Errorf("%d came, out of order or not all; want %d", len(got), len(want))
		}
		b.wantStatus("after all", handedOver())
	})
}

// TestUnwritableFolder: no holds, and settlements are told from memory as far as that
// goes; when the folder is there, all is well again.
func TestUnwritableFolder(t *testing.T) {
	t.Parallel()
	place := filepath.Join(t.TempDir(), "place")
	check(t, os.WriteFile(place, nil, 0o600))
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, place, 7, nil)
		defer b.stop()
		st := b.connect()
		alarmed := Status{Connected: true, Alarm: errUnwritable}
		b.reserve("a").fails(errUnwritable)
		b.reserve("a").fails(budget.ErrUnavailable)
		b.settle(commit("a", 1))
		wantIDs(t, "said", st.settles(), "commit a")
		b.after(time.Minute)
		b.wantStatus("after a while", alarmed) // and nothing was handed over: nobody knows what is there
		st.end()
		for i := range maxQueued + 3 {
			b.Settle("org1", commit(fmt.Sprint(i), 1))
		}
		b.after(time.Minute)
		b.wantStatus("without a line", Status{Alarm: errUnwritable, Waiting: maxQueued, Lost: 3})
		check(t, os.Remove(place))
		b.after(2 * retryEvery)
		b.wantStatus("with a folder", Status{Lost: 3})
		st = b.connect()
		if n := len(st.settles()); n != maxQueued {
			t.Errorf("%d said, want %d", n, maxQueued)
		}
		a := b.reserve("b")
		st.verdict(st.wants("reserve b"), "held")
		if _, err := a.got(); err != nil {
			t.Error(err)
		}
		if b.log.count("can't be spooled") != 1 || b.log.count("can be spooled again") != 1 {
			t.Errorf("the log says %s", &b.log.b)
		}
	})
}

// TestSpoolFull: no holds until there is room again.
func TestSpoolFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, dir, 7, func(c *Client) { c.spools.limit = maxPayload + 200 })
		defer b.stop()
		for i := range 1000 {
			b.Settle("org1", commit(fmt.Sprintf("%04d", i), 1))
		}
		b.after(2 * downFor)
		got := b.Status()
		if !errors.Is(got.Alarm, errFull) || got.Waiting == 0 || got.Waiting == 1000 || got.SpoolBytes > maxPayload+200 {
			t.Errorf("%+v", got)
		}
		st := b.connect()
		b.reserve("a").fails(errFull)
		if said := st.settles(); len(said) != 1000 || !slices.IsSorted(said) {
			t.Errorf("%d said", len(said))
		}
		b.after(2 * retryEvery)
		b.wantStatus("after all", handedOver())
		a := b.reserve("b")
		st.verdict(st.wants("reserve b"), "held")
		if _, err := a.got(); err != nil {
			t.Error(err)
		}
	})
}

// TestManyWaitNoHold: those that are open will want the room.
func TestManyWaitNoHold(t *testing.T) {
	t.Parallel()
	place := filepath.Join(t.TempDir(), "place")
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, place, 7, func(c *Client) { c.spools.limit = 1 << 40 })
		defer b.stop()
		st := b.connect()
		b.mu.Lock()
		for i := range holdsBelow {
			b.queue.add(time.Now(), "org1", commit(fmt.Sprint(i), 1))
		}
		b.mu.Unlock()
		b.reserve("a").fails(errBehind)
		poke(b.wake)
		st.settles()
	})
}

// TestReplayed is said when nothing is left of earlier processes, until control has
// done what follows from it.
func TestReplayed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		older := begin(t, dir, 6, nil)
		b := begin(t, dir, 7, nil)
		defer b.stop()
		st := b.connect()
		says := func(what string, want bool) {
			t.Helper()
			synctest.Wait()
			select {
			case m := <-st.up:
				if m.GetReplayed() == nil || !want {
					t.Errorf("%s: said %v", what, m)
				}
			default:
				if want {
					t.Errorf("%s: nothing is said", what)
				}
			}
		}
		b.after(time.Minute)
		says("while an older process lives", false)
		older.settle(commit("a", 1))
		older.stop()
		b.after(scanEvery)
		a := st.wants("commit a")
		says("before all is decided", false)
		st.outcome(a, "unavailable", false)
		b.after(time.Second)
		st.outcome(st.wants("commit a"), "done", true)
		says("then", true)
		b.after(time.Minute)
		says("while control does not answer", false)
		closed := func(done bool) {
			st.hear(&pb.LedgerDown{Message: &pb.LedgerDown_Closed{Closed: &pb.Closed{Done: done}}})
		}
		closed(false)
		b.after(replayAgain - time.Second)
		says("before it is time again", false)
		b.after(2 * time.Second)
		says("again", true)
		st.end()
		st = b.connect()
		says("on the next stream", true)
		closed(true)
		b.wantStatus("done", handedOver())
		st.end()
		st = b.connect()
		b.after(time.Minute)
		says("once it is done", false)
	})
}

// TestSpoolChangedUnderway: what can't be read back is kept aside, and the rest goes
// on.
func TestSpoolChangedUnderway(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.settle(commit("a", 1), commit("b", 1), commit("c", 1))
		b.after(2 * downFor)
		path := filepath.Join(b.dir, files(t, b.dir)[0])
		text, err := os.ReadFile(path)
		check(t, err)
		text[len(text)-1]++
		check(t, os.WriteFile(path, text, 0o600))
		st := b.connect()
		wantIDs(t, "said", st.settles(), "commit a", "commit b")
		b.after(scanEvery)
		b.settle(commit("d", 1))
		wantIDs(t, "then", st.settles(), "commit d")
		b.wantStatus("after all", handedOver())
		if kept := files(t, b.dir); len(kept) != 2 || b.log.count("kept aside") != 1 {
			t.Errorf("kept: %v; the log says %s", kept, &b.log.b)
		}
	})
}

// TestReconnectInTheMiddle: of a thousand settlements each is decided, however often
// the line is lost; none is said again that was decided.
func TestReconnectInTheMiddle(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		const all = 1000
		done := map[string]int{}
		st := b.connect()
		for i := range all {
			b.Settle("org1", commit(fmt.Sprint(i), 1))
			if i%37 == 0 {
				st.end()
				b.after(time.Duration(i%3) * downFor)
				st = b.connect()
			}
			for range i % 3 {
				if m := st.next(); m.GetSettle() != nil {
					done[idOf(m)]++
					st.outcome(seqOf(m), "done", true)
				}
			}
		}
		for range 10 {
			for _, id := range st.settles() {
				done[id]++
			}
			b.after(time.Second)
		}
		twice := 0
		for i := range all {
			switch done["commit "+fmt.Sprint(i)] {
			case 0:
				t.Errorf("%d is not decided", i)
			case 1:
			default:
				twice++
			}
		}
		if twice > 0 {
			t.Errorf("%d were said again after they were decided", twice)
		}
		b.wantStatus("after all", handedOver())
	})
}

package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gatehouse/budget"
)

// TestOneTenantsLedgerIsStuck: its settlements wait, in the spool too, and those of
// other tenants do not wait for them.
func TestOneTenantsLedgerIsStuck(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		for i := range maxReplay + readBatch {
			b.Settle("stuck", commit(fmt.Sprint("s", i), 1))
		}
		b.after(2 * downFor)
		st := b.connect()
		stick := func() (others []string) {
			for m := st.next(); m != nil; m = st.next() {
				if m.GetSettle().GetTenant() == "stuck" {
					st.outcome(seqOf(m), "unavailable", false)
					continue
				}
				others = append(others, idOf(m))
				st.outcome(seqOf(m), "done", true)
			}
			return others
		}
		stick()
		b.settle(commit("a", 1))
		wantIDs(t, "of another tenant", stick(), "commit a")
		b.after(silentFor)
		b.settle(commit("b", 1))
		wantIDs(t, "later", stick(), "commit b")
		seen := map[string]bool{}
		for range 10 {
			b.after(lastPause)
			for m := st.next(); m != nil; m = st.next() {
				seen[idOf(m)] = true
				st.outcome(seqOf(m), "done", true)
			}
		}
		if len(seen) != maxReplay+readBatch {
			t.Errorf("%d were said when it was possible again, want %d", len(seen), maxReplay+readBatch)
		}
		b.wantStatus("after all", handedOver())
	})
}

// TestStuckBesideOthers: that others are decided does not make one that can't be be
// said again and again.
func TestStuckBesideOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		st := b.connect()
		st.settles()
		b.Settle("stuck", commit("s", 1))
		said := 0
		for i := range 600 { // a minute
			b.settle(commit(fmt.Sprint(i), 1))
			for m := st.next(); m != nil; m = st.next() {
				if m.GetSettle().GetTenant() == "stuck" {
					said++
				}
				st.outcome(seqOf(m), "x", m.GetSettle().GetTenant() != "stuck")
			}
			b.after(100 * time.Millisecond)
		}
		if said < 10 || said > 25 {
			t.Errorf("said %d times in a minute", said)
		}
		st.end()
	})
}

// TestNextIsNotTheSame: what was kept aside of a process is not overwritten by what
// it keeps aside next.
func TestNextIsNotTheSame(t *testing.T) {
	t.Parallel()
	var log logged
	dir := t.TempDir()
	s := openSpools(dir, 7, log.logger())
	for range 2 {
		if n, err := s.write(entries("a")); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		_, err := s.own.f.WriteAt([]byte{0xff}, int64(len(magic)))
		check(t, err)
		s.own.next(9, func(string, budget.Settlement) { t.Error("a torn record is read back") })
		f := s.own
		s.setAside()
		s.finish(f)
	}
	bad, err := s.names(suffix + badSuffix)
	if err != nil || len(bad) != 2 {
		t.Errorf("%v are kept aside, %v", bad, err)
	}
}

// TestLaterThan: an incarnation is above those of the spools, whatever the clock says.
func TestLaterThan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := func(what string, clock, want int64) {
		t.Helper()
		if got := LaterThan(dir, clock); got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	want("an empty folder", 5, 5)
	for _, name := range []string{"00000000000000000070-0.spool", "00000000000000000080-3.spool.bad", "00000000000000000090-0.other", "x-0.spool", "9223372036854775807-0.spool", "9223372036854775806-0.spool", "99999999999999999999-0.spool"} {
		check(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	want("a clock set back", 5, 81)
	want("a clock that goes well", 500, 500)
	dir = filepath.Join(dir, "none")
	want("no folder", 5, 5)
}

// TestCutUnderway: records that were there and are not any more are not passed over in
// silence, wherever the file ends now.
func TestCutUnderway(t *testing.T) {
	t.Parallel()
	s := openSpools(t.TempDir(), 7, new(logged).logger())
	defer s.close()
	for _, id := range []string{"a", "b"} {
		if n, err := s.write(entries(id)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	middle := int64(len(magic)) + (s.own.size-int64(len(magic)))/2
	check(t, s.own.f.Truncate(middle))
	wantIDs(t, "read back", s.own.rest(), "a")
	if s.own.torn == nil || s.own.size != middle {
		t.Errorf("torn: %v, of %d bytes", s.own.torn, s.own.size)
	}
}

// TestGoneBeforeTheLock: a spool that another process has replayed and removed, since
// it was opened, is not replayed once more, nor is another of its name.
func TestGoneBeforeTheLock(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(path string) error{
		"removed":  os.Remove,
		"replaced": func(path string) error { return errors.Join(os.Remove(path), os.WriteFile(path, []byte(magic), 0o600)) },
	} {
		s := openSpools(t.TempDir(), 5, new(logged).logger())
		check(t, s.ready())
		path := s.own.f.Name()
		check(t, s.own.f.Close())
		opened, err := os.OpenFile(path, os.O_RDWR, 0)
		check(t, err)
		check(t, change(path))
		if err := (&file{f: opened, pile: &pile{}}).take(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
		check(t, opened.Close())
	}
}

// TestDiskThatForgets: what could be written and not be made to last is not there.
func TestDiskThatForgets(t *testing.T) {
	t.Parallel()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0) // takes all, and can't be synced
	check(t, err)
	s := openSpools(t.TempDir(), 7, new(logged).logger())
	defer s.close()
	check(t, s.ready())
	good := s.own.f
	s.own.f = null
	if n, err := s.write(entries("a")); n != 0 || !errors.Is(err, errUnwritable) || s.own.size != int64(len(magic)) {
		t.Errorf("%d are written, %v, of %d bytes", n, err, s.own.size)
	}
	if err := s.check(); !errors.Is(err, errUnwritable) {
		t.Errorf("check: %v", err)
	}
	s.own.f = good
	check(t, null.Close())
}

// TestUnwritableStays: that a spool could be emptied does not say that it can be
// written.
func TestUnwritableStays(t *testing.T) {
	t.Parallel()
	for _, alarm := range []error{errUnwritable, errFull} {
		c, err := Open(Options{Dir: t.TempDir(), Incarnation: 7, Line: &fakeLine{}})
		check(t, err)
		if n, err := c.spools.write(entries("a")); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		c.spools.own.rest()
		c.alarm = alarm
		c.finish()
		if errors.Is(alarm, errFull) != (c.alarm == nil) || c.spools.own.size != int64(len(magic)) {
			t.Errorf("%v becomes %v, of %d bytes", alarm, c.alarm, c.spools.own.size)
		}
		c.Close()
	}
}

// TestAllThatIsLostCounts: at the end of a process, too.
func TestAllThatIsLostCounts(t *testing.T) {
	t.Parallel()
	c, err := Open(Options{Dir: filepath.Join(t.TempDir(), "a\x00b"), Incarnation: 7, Line: &fakeLine{}})
	check(t, err)
	for i := range 3 {
		c.Settle("org1", commit(fmt.Sprint(i), 1))
	}
	c.Close()
	if got := c.Status(); got.Lost != 3 {
		t.Errorf("%d are lost, want 3", got.Lost)
	}
}

// TestDecidedWhileUnwritable: what control decided while the disk refused it is not
// said again.
func TestDecidedWhileUnwritable(t *testing.T) {
	t.Parallel()
	q, seq := newQueue(), uint64(0)
	q.add(began, "t", commit("a", 1))
	q.sends(began, &seq, 10)
	q.write(began.Add(downFor), 10, false)
	q.answered(began, 1, true)
	q.written(0)
	wantIDs(t, "again", q.sends(began, &seq, 10))
	if q.count != 0 {
		t.Errorf("%d wait", q.count)
	}
}

// TestEndWritesAll: the end of a process writes more than one fsync takes.
func TestEndWritesAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, err := Open(Options{Dir: dir, Incarnation: 7, Line: &fakeLine{}})
	check(t, err)
	for i := range maxWrite + 1 {
		c.Settle("org1", commit(fmt.Sprint(i), 1))
	}
	c.Close()
	later := openSpools(dir, 8, new(logged).logger())
	check(t, later.scan())
	defer later.close()
	if n := len(later.others[0].rest()); n != maxWrite+1 {
		t.Errorf("%d are on the disk", n)
	}
}

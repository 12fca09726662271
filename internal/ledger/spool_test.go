package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"gatehouse/budget"
)

// logged is a log that tests may read.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func entries(ids ...string) (out []*entry) {
	for _, id := range ids {
		out = append(out, &entry{tenant: "org1", Settlement: commit(id, int64(len(id)))})
	}
	return out
}

// spoolOf writes a spool as a process did that has gone, and returns its path.
func spoolOf(t testing.TB, dir string, incarnation int64, ids ...string) string {
	t.Helper()
	s := openSpools(dir, incarnation, slog.New(slog.DiscardHandler))
	if n, err := s.write(entries(ids...)); n != len(ids) || err != nil {
		t.Fatal(n, err)
	}
	defer s.close()
	return s.own.f.Name()
}

// rest reads back all of a spool.
func (s *file) rest() (ids []string) {
	for s.unread() {
		s.next(3, func(_ string, t budget.Settlement) { ids = append(ids, t.ID) })
	}
	return ids
}

func TestSpoolKeepsEverything(t *testing.T) {
	t.Parallel()
	path := spoolOf(t, t.TempDir(), 5)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty spool stays: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "a[b]*", "spool") // made when it is needed
	s := openSpools(dir, 7, slog.New(slog.DiscardHandler))
	want := []struct {
		tenant string
		budget.Settlement
	}{
		{"org1", commit("a", 9)},
		{"ü", budget.Settlement{Key: budget.Key{Origin: budget.Inline, ID: strings.Repeat("ü", 255), Attempt: 3}, Action: budget.Commit, Tokens: budget.MaxTokens, Flagged: true}},
		{strings.Repeat("t", budget.MaxTenantName), release("b")},
	}
	for _, w := range want {
		check(t, settleable(w.tenant, w.Settlement))
		if n, err := s.write([]*entry{{tenant: w.tenant, Settlement: w.Settlement}}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	s.close()
	for p, mode := range map[string]os.FileMode{dir: 0o700, s.own.f.Name(): 0o600} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want %04o", p, info, err, mode)
		}
	}
	later := openSpools(dir, 8, slog.New(slog.DiscardHandler))
	check(t, later.scan())
	defer later.close()
	if len(later.others) != 1 {
		t.Fatalf("%d spools", len(later.others))
	}
	i := 0
	for f := later.others[0]; f.unread(); {
		f.next(1, func(tenant string, got budget.Settlement) {
			if tenant != want[i].tenant || got != want[i].Settlement {
				t.Errorf("%d: %s %+v, want %+v", i, tenant, got, want[i])
			}
			i++
		})
	}
	if i != len(want) || later.others[0].torn != nil {
		t.Errorf("%d read back, %v", i, later.others[0].torn)
	}
}

// TestTornAnywhere: whatever is cut off, or changed, what is whole before it is read
// back, nothing else is, and the file is kept aside.
func TestTornAnywhere(t *testing.T) {
	t.Parallel()
	ids := []string{"a", "bb", "ccc"}
	source, err := os.ReadFile(spoolOf(t, t.TempDir(), 1, ids...))
	check(t, err)
	ends := []int{len(magic)}
	for _, e := range entries(ids...) {
		r, err := record(e.tenant, e.Settlement)
		check(t, err)
		ends = append(ends, ends[len(ends)-1]+frameBytes+len(r))
	}
	if ends[3] != len(source) {
		t.Fatalf("%d bytes, want %d", len(source), ends[3])
	}
	whole := func(n int) []string { // of the first n bytes
		k := 0
		for k < len(ids) && ends[k+1] <= n {
			k++
		}
		return ids[:k]
	}
	for n := range source {
		cut := source[:n]
		torn := !slices.Contains(ends, n)
		wantReadBack(t, fmt.Sprintf("cut to %d bytes", n), cut, whole(n), torn)
		wantReadBack(t, fmt.Sprintf("zeros from %d on", n), append(bytes.Clone(cut), make([]byte, 100)...), whole(n), true)
		for bit := range 8 {
			changed := bytes.Clone(source)
			changed[n] ^= 1 << bit
			want := whole(n)
			if n < len(magic) {
				want = nil
			}
			wantReadBack(t, fmt.Sprintf("bit %d of byte %d", bit, n), changed, want, true)
		}
	}
	wantReadBack(t, "as it is", source, ids, false)
}

func wantReadBack(t *testing.T, what string, text []byte, want []string, torn bool) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "1"+suffix)
	check(t, os.WriteFile(path, text, 0o600))
	var log logged
	s := openSpools(dir, 2, log.logger())
	check(t, s.scan())
	if len(s.others) != 1 {
		t.Fatalf("%s: %d spools", what, len(s.others))
	}
	f := s.others[0]
	if got := f.rest(); !slices.Equal(got, want) || (f.torn != nil) != torn {
		t.Fatalf("%s: %v, %v, want %v", what, got, f.torn, want)
	}
	s.finish(f)
	kept, err := os.ReadFile(path + badSuffix)
	if torn && !bytes.Equal(kept, text) || !torn && !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%s: kept aside %d bytes, %v", what, len(kept), err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) || log.count("kept aside") > 0 != torn {
		t.Fatalf("%s: %v, log %s", what, err, &log.b)
	}
}

// TestRecordsOfAnotherBuild that this one can't use are kept aside, though whole.
func TestRecordsOfAnotherBuild(t *testing.T) {
	t.Parallel()
	good, err := record("org1", commit("a", 1))
	check(t, err)
	for name, bad := range map[string][]byte{"no message": {0xff}, "no settlement": {0x10}} {
		text := appendFrame(appendFrame([]byte(magic), good), bad)
		wantReadBack(t, name, appendFrame(text, good), []string{"a"}, true)
	}
}

func TestFullSpool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := spoolOf(t, dir, 1, "left")
	s := openSpools(dir, 2, slog.New(slog.DiscardHandler))
	defer s.close()
	check(t, s.scan())
	check(t, s.check())
	r, err := record("org1", commit("a", 1))
	check(t, err)
	one := int64(frameBytes + len(r))
	s.limit = s.bytes() + 2*one + one/2
	if n, err := s.write(entries("a", "b", "c")); n != 2 || !errors.Is(err, errFull) {
		t.Errorf("%d, %v, want 2 and full", n, err)
	}
	if n, err := s.write(entries("c")); n != 0 || !errors.Is(err, errFull) {
		t.Errorf("%d, %v, want nothing and full", n, err)
	}
	if err := s.check(); !errors.Is(err, errFull) {
		t.Errorf("check: %v", err)
	}
	wantIDs(t, "left", s.others[0].rest(), "left")
	s.finish(s.others[0])
	if n, err := s.write(entries("c")); n != 1 || err != nil {
		t.Errorf("with the room of %s: %d, %v", other, n, err)
	}
	wantIDs(t, "read back", s.own.rest(), "a", "b", "c")
	check(t, s.own.restart())
	if s.own.size != int64(len(magic)) || s.own.unread() {
		t.Errorf("begun anew with %d bytes", s.own.size)
	}
}

// TestUnwritable: a folder that is none, and a file that takes nothing.
func TestUnwritable(t *testing.T) {
	t.Parallel()
	place := filepath.Join(t.TempDir(), "place")
	check(t, os.WriteFile(place, nil, 0o600))
	s := openSpools(place, 2, slog.New(slog.DiscardHandler))
	if n, err := s.write(entries("a")); n != 0 || !errors.Is(err, errUnwritable) {
		t.Errorf("%d, %v", n, err)
	}
	if err := s.check(); !errors.Is(err, errUnwritable) {
		t.Errorf("check: %v", err)
	}
	if s.scan() == nil {
		t.Error("a folder that can't be read holds nothing")
	}
	check(t, os.Remove(place))
	if n, err := s.write(entries("a")); n != 1 || err != nil {
		t.Errorf("later: %d, %v", n, err)
	}
	good := s.own.f
	s.own.f = readOnly(t, good.Name())
	if n, err := s.write(entries("b")); n != 0 || !errors.Is(err, errUnwritable) {
		t.Errorf("read-only: %d, %v", n, err)
	}
	if err := s.check(); !errors.Is(err, errUnwritable) {
		t.Errorf("read-only: check: %v", err)
	}
	check(t, s.own.f.Close())
	s.own.f = good
	if n, err := s.write(entries("c")); n != 1 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	wantIDs(t, "read back", s.own.rest(), "a", "c")
	s.close()
}

func readOnly(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	check(t, err)
	return f
}

// TestProbeLeavesNothing behind, and what a failed write left is overwritten.
func TestProbeLeavesNothing(t *testing.T) {
	t.Parallel()
	s := openSpools(t.TempDir(), 2, slog.New(slog.DiscardHandler))
	_, err := s.write(entries("a"))
	check(t, err)
	check(t, s.check())
	if info, err := s.own.f.Stat(); err != nil || info.Size() != s.own.size {
		t.Errorf("%v bytes, %v, want %d", info.Size(), err, s.own.size)
	}
	_, err = s.own.f.WriteAt([]byte("half a rec"), s.own.size)
	check(t, err)
	_, err = s.write(entries("a longer one"))
	check(t, err)
	s.close()
	f, err := adopt(s.own.f.Name())
	check(t, err)
	wantIDs(t, "read back", f.rest(), "a", "a longer one")
	if f.torn != nil {
		t.Error(f.torn)
	}
	check(t, f.remove())
}

// TestLivingProcessKeepsItsSpool: it is looked at again when that has gone.
func TestLivingProcessKeepsItsSpool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	alive := openSpools(dir, 1, slog.New(slog.DiscardHandler))
	_, err := alive.write(entries("a"))
	check(t, err)
	spoolOf(t, dir, 0, "older")
	check(t, os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("x"), 0o600))
	check(t, os.Mkdir(filepath.Join(dir, "x"+suffix), 0o700))
	var log logged
	s := openSpools(dir, 2, log.logger())
	check(t, s.ready())
	for range 2 {
		check(t, s.scan())
		if len(s.others) != 1 || s.alive != 1 {
			t.Fatalf("%d adopted, %d alive", len(s.others), s.alive)
		}
	}
	third := openSpools(dir, 3, log.logger())
	check(t, third.scan())
	if len(third.others) != 0 || third.alive != 3 {
		t.Errorf("a third one has %d, and sees %d", len(third.others), third.alive)
	}
	alive.close()
	check(t, s.scan())
	if len(s.others) != 2 || s.alive != 0 {
		t.Fatalf("%d adopted, %d alive", len(s.others), s.alive)
	}
	wantIDs(t, "first", s.unread().rest(), "older")
	wantIDs(t, "then", s.unread().rest(), "a")
	if s.unread() != nil {
		t.Error("there is more")
	}
	for _, f := range slices.Clone(s.others) {
		s.finish(f)
	}
	check(t, third.scan())
	if third.alive != 1 {
		t.Errorf("%d are left, want the living one", third.alive)
	}
	s.close()
	if n := log.count("WARN"); n != 0 {
		t.Errorf("the log says %s", &log.b)
	}
}

// TestFewAreKeptAside: the latest.
func TestFewAreKeptAside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range maxBad + 2 {
		check(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i, suffix)), []byte("?"), 0o600))
	}
	s := openSpools(dir, 2, slog.New(slog.DiscardHandler))
	check(t, s.scan())
	for _, f := range slices.Clone(s.others) {
		s.finish(f)
	}
	all, err := os.ReadDir(dir)
	check(t, err)
	if len(all) != maxBad || !strings.HasPrefix(all[0].Name(), "2") {
		t.Errorf("kept: %v", all)
	}
}

// TestManySpools are replayed a bounded number at once, the oldest first.
func TestManySpools(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range maxFiles + 3 {
		spoolOf(t, dir, int64(i+1), fmt.Sprint(i))
	}
	s := openSpools(dir, 1000, slog.New(slog.DiscardHandler))
	defer s.close()
	check(t, s.scan())
	if len(s.others) != maxFiles || s.alive != 3 {
		t.Fatalf("%d at once, %d more", len(s.others), s.alive)
	}
	var got []string
	for len(s.others) > 0 {
		got = append(got, s.others[0].rest()...)
		s.finish(s.others[0])
		check(t, s.scan())
	}
	for i, id := range got {
		if id != fmt.Sprint(i) {
			t.Fatalf("in the order %v", got)
		}
	}
	if len(got) != maxFiles+3 {
		t.Errorf("%d read back", len(got))
	}
}

// FuzzReadBack: no text makes it panic, or read what was not written as a frame.
func FuzzReadBack(f *testing.F) {
	good, err := record("org1", commit("a", 1))
	check(f, err)
	f.Add(appendFrame(nil, good))
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "f")
		check(t, os.WriteFile(path, append([]byte(magic), text...), 0o600))
		s, err := adopt(path)
		check(t, err)
		n := len(s.rest())
		if s.size > int64(len(magic)+len(text)) || s.read != s.size || n > len(text)/frameBytes {
			t.Errorf("read %d records up to %d of %d", n, s.size, len(text))
		}
		check(t, s.f.Close())
	})
}

package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Bounds of the spools of a folder.
const (
	maxSpoolBytes = 64 << 20 // of them all, those kept aside excepted
	maxFiles      = 64       // of earlier processes, that are replayed at once
	maxBad        = 4        // that are kept aside
	maxWrite      = 4096     // records of one fsync
)

// Reasons for an alarm.
var (
	errFull       = errors.New("the spool is full")
	errUnwritable = errors.New("the spool can't be written")
)

// spools is the folder of spools. It belongs to one goroutine.
type spools struct {
	dir         string
	incarnation int64
	limit       int64 // bytes
	log         *slog.Logger

	own    *file // nil while it can't be made
	others []*file
	alive  int // spools of other processes that live, or that wait for a place here
}

func openSpools(dir string, incarnation int64, log *slog.Logger) *spools {
	return &spools{dir: dir, incarnation: incarnation, limit: maxSpoolBytes, log: log}
}

// ready makes this process's own spool, if there is none.
func (s *spools) ready() error {
	if s.own != nil {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("%w: %w", errUnwritable, err)
	}
	own, err := create(s.dir, s.incarnation)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnwritable, err)
	}
	s.own = own
	return nil
}

// bytes is what all spools hold.
func (s *spools) bytes() (n int64) {
	if s.own != nil {
		n = s.own.size
	}
	for _, f := range s.others {
		n += f.size
	}
	return n
}

// write puts entries into the own spool, in order and in one go, and returns how many
// of them are there. It is errFull when not all of them have room.
func (s *spools) write(entries []*entry) (int, error) {
	if err := s.ready(); err != nil {
		return 0, err
	}
	var buf []byte
	room, n := s.limit-s.bytes(), 0
	for _, e := range entries {
		r, err := record(e.tenant, e.Settlement)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errUnwritable, err)
		}
		if int64(len(buf)+frameBytes+len(r)) > room {
			break
		}
		buf = appendFrame(buf, r)
		n++
	}
	if n > 0 {
		if err := s.own.append(buf); err != nil {
			return 0, fmt.Errorf("%w: %w", errUnwritable, err)
		}
	}
	if n < len(entries) {
		return n, errFull
	}
	return n, nil
}

// check returns why nothing more could be spooled; nil where something could.
func (s *spools) check() error {
	if err := s.ready(); err != nil {
		return err
	}
	if s.bytes() >= s.limit-maxPayload {
		return errFull
	}
	if err := s.own.probe(); err != nil {
		return fmt.Errorf("%w: %w", errUnwritable, err)
	}
	return nil
}

// scan looks for spools of other processes, and adopts those whose process has gone,
// the oldest first.
func (s *spools) scan() error {
	s.alive = 0
	names, err := s.names(suffix)
	if err != nil {
		return err
	}
	for _, path := range names {
		if s.has(path) {
			continue
		}
		if len(s.others) >= maxFiles {
			s.alive++
			continue
		}
		f, err := adopt(path)
		switch {
		case err == nil:
			s.others = append(s.others, f)
		case errors.Is(err, os.ErrNotExist):
		default:
			s.alive++
			if !errors.Is(err, errAlive) {
				s.log.Warn("a spool of settlements can't be opened", "file", path, "error", err)
			}
		}
	}
	slices.SortStableFunc(s.others, func(a, b *file) int { return cmp.Compare(a.f.Name(), b.f.Name()) })
	return nil
}

// names lists the files of the folder with an ending, the oldest process's first.
func (s *spools) names(ending string) (paths []string, err error) {
	all, err := os.ReadDir(s.dir) // sorted
	for _, e := range all {
		if strings.HasSuffix(e.Name(), ending) && e.Type().IsRegular() {
			paths = append(paths, filepath.Join(s.dir, e.Name()))
		}
	}
	return paths, err
}

func (s *spools) has(path string) bool {
	return s.own != nil && s.own.f.Name() == path || slices.ContainsFunc(s.others, func(f *file) bool { return f.f.Name() == path })
}

// finish is for the spool of an earlier process that was replayed.
func (s *spools) finish(f *file) {
	s.others = slices.DeleteFunc(s.others, func(o *file) bool { return o == f })
	if f.torn != nil {
		s.log.Error("a spool of settlements has a part that can't be read; it is kept aside, and what it said is charged in full",
			"file", f.f.Name()+badSuffix, "error", f.torn)
	}
	if err := f.finish(); err != nil {
		s.log.Warn("a spool of settlements that is done can't be removed; it will be replayed again", "file", f.f.Name(), "error", err)
	}
	s.forgetBad()
}

// setAside is for the own spool when it can't be read back: another one is begun.
func (s *spools) setAside() {
	s.own.pile.own = false
	s.others = append(s.others, s.own)
	s.own = nil
}

// forgetBad removes what was kept aside, but for the latest.
func (s *spools) forgetBad() {
	names, err := s.names(suffix + badSuffix)
	if err != nil || len(names) <= maxBad {
		return
	}
	for _, path := range names[:len(names)-maxBad] {
		s.log.Warn("a spool that was kept aside is removed to make room", "file", path, "error", os.Remove(path))
	}
}

// close lets go of all spools; the own one is removed where all of it is decided.
func (s *spools) close() {
	for _, f := range s.others {
		_ = f.f.Close() // nothing was written to it; the next process replays it again
	}
	if s.own == nil {
		return
	}
	err := s.own.f.Close()
	if s.own.decided() {
		err = errors.Join(err, os.Remove(s.own.f.Name()))
	}
	if err != nil {
		s.log.Warn("a spool of settlements can't be closed", "error", err)
	}
}

// unread is a spool that more is to be read of, this process's own first: what came
// later waits for that.
func (s *spools) unread() *file {
	if s.own != nil && s.own.unread() {
		return s.own
	}
	for _, f := range s.others {
		if f.unread() {
			return f
		}
	}
	return nil
}

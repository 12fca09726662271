package ledger

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gatehouse/budget"
)

const (
	suffix    = ".spool"
	badSuffix = ".bad"
	readAhead = 64 << 10 // bytes
)

// file is one spool. A process holds the lock of its own for as long as it lives,
// and of an earlier one's while it replays that.
type file struct {
	f    *os.File
	size int64 // of whole records, the magic included
	read int64 // up to where it was read back
	torn error // why what follows size can't be read; nil where nothing follows
	pile *pile
}

// create makes a new spool in a folder.
func create(dir string, incarnation int64) (*file, error) {
	for n := range maxFiles {
		path := filepath.Join(dir, fmt.Sprintf("%020d-%d%s", incarnation, n, suffix))
		if _, err := os.Lstat(path + badSuffix); err == nil {
			continue // finish would overwrite what was kept aside
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s := &file{f: f, size: int64(len(magic)), read: int64(len(magic)), pile: &pile{own: true}}
		if err := s.begin(dir); err != nil {
			_ = s.remove() // err says what matters
			return nil, err
		}
		return s, nil
	}
	return nil, errors.New("there are too many spools")
}

// LaterThan returns the incarnation of a process that begins now, by a clock of
// nanoseconds: above those that have left a spool in dir, since a clock may have been
// set back. A folder that can't be read has none.
func LaterThan(dir string, clock int64) int64 {
	const last = math.MaxInt64 - 2 // none can be above what follows
	names, _ := os.ReadDir(dir)
	for _, e := range names {
		number, _, _ := strings.Cut(e.Name(), "-")
		spool := strings.HasSuffix(e.Name(), suffix) || strings.HasSuffix(e.Name(), suffix+badSuffix)
		if n, err := strconv.ParseInt(number, 10, 64); err == nil && spool && n <= last {
			clock = max(clock, n+1)
		}
	}
	return clock
}

// begin locks a new spool and makes it outlive a power cut.
func (s *file) begin(dir string) error {
	if err := lock(s.f); err != nil {
		return err
	}
	if _, err := s.f.WriteAt([]byte(magic), 0); err != nil {
		return err
	}
	if err := s.f.Sync(); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// errAlive says that a spool is that of a process that lives.
var errAlive = errors.New("its process lives")

func lock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errAlive
	}
	return err
}

// adopt opens another process's spool, to be replayed; errAlive while that lives.
func adopt(path string) (*file, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	s := &file{f: f, pile: &pile{}}
	if err := s.take(path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

func (s *file) take(path string) error {
	if err := lock(s.f); err != nil {
		return err
	}
	info, err := s.f.Stat()
	if err != nil {
		return err
	}
	// Whoever had the lock before may have replayed and removed it.
	if there, err := os.Stat(path); err != nil || !os.SameFile(info, there) {
		return os.ErrNotExist
	}
	s.size, s.read = info.Size(), int64(len(magic))
	head := make([]byte, len(magic))
	if n, err := s.f.ReadAt(head, 0); string(head[:n]) != magic {
		s.size, s.torn = s.read, errors.Join(errTorn, err)
	}
	return nil
}

// append writes whole records behind the others and has the disk take them. After
// an error none of them is there.
func (s *file) append(records []byte) error {
	// What an earlier failure left behind the records is overwritten, or cut below.
	_, err := s.f.WriteAt(records, s.size)
	if err == nil {
		err = s.f.Sync()
	}
	if err != nil {
		// A kill here: the next process cuts at the first record that is not whole; what
		// is whole was said, and saying it twice does nothing.
		return errors.Join(err, s.f.Truncate(s.size))
	}
	s.size += int64(len(records))
	return nil
}

// probe tries whether the disk takes anything.
func (s *file) probe() error {
	_, err := s.f.WriteAt(make([]byte, frameBytes), s.size)
	return errors.Join(err, s.f.Sync(), s.f.Truncate(s.size))
}

// next reads back up to n settlements. What can't be read ends the spool there.
func (s *file) next(n int, each func(tenant string, t budget.Settlement)) (count int) {
	r := bufio.NewReaderSize(io.NewSectionReader(s.f, s.read, s.size-s.read), readAhead)
	for count < n && s.unread() {
		payload, err := readFrame(r)
		if errors.Is(err, io.EOF) { // what was there is not any more
			err = errTorn
		}
		tenant, t := "", budget.Settlement{}
		if err == nil {
			tenant, t, err = parseRecord(payload)
		}
		if err != nil {
			s.size, s.torn = s.read, err
			return count
		}
		s.read += int64(frameBytes + len(payload))
		each(tenant, t)
		count++
	}
	return count
}

// unread reports whether there is more to read back.
func (s *file) unread() bool { return s.read < s.size }

// decided reports whether all of it was read back, and decided: its pile's owner asks.
func (s *file) decided() bool { return !s.unread() && s.pile.out == 0 }

// restart forgets all records.
func (s *file) restart() error {
	// A kill before this is on the disk: the records are replayed once more.
	err := s.f.Truncate(int64(len(magic)))
	if err == nil {
		s.size, s.read = int64(len(magic)), int64(len(magic))
	}
	return err
}

// finish removes a spool that was replayed, or keeps it aside where some of it could
// not be.
func (s *file) finish() error {
	if s.torn != nil {
		return errors.Join(os.Rename(s.f.Name(), s.f.Name()+badSuffix), s.f.Close())
	}
	return s.remove()
}

func (s *file) remove() error { return errors.Join(os.Remove(s.f.Name()), s.f.Close()) }

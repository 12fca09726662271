package ledger

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDiskFullInTheMiddle: of records that the disk took in part nothing is left.
func TestDiskFullInTheMiddle(t *testing.T) {
	t.Parallel()
	page := os.Getpagesize()
	fd, err := unix.MemfdCreate("spool", unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC)
	check(t, err)
	f := os.NewFile(uintptr(fd), "spool")
	defer func() { check(t, f.Close()) }()
	check(t, f.Truncate(int64(page)))
	_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_GROW) // there is no room for more
	check(t, err)
	s := &file{f: f, size: int64(len(magic)), read: int64(len(magic)), pile: &pile{own: true}}
	if err := s.append(make([]byte, 2*page)); err == nil {
		t.Fatal("a full disk took everything")
	}
	if info, err := f.Stat(); err != nil || info.Size() != s.size || s.size != int64(len(magic)) {
		t.Errorf("%d bytes are left of %d, %v", info.Size(), s.size, err)
	}
}

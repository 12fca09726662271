// Package trusted opens the files that decide who may call: policies and key
// sets. Whoever can write one of them can let anyone in, so it opens only what
// belongs to root or to one given uid and is writable by its owner alone.
//
// It refuses everything but regular files and folders, without waiting for the
// other end of a pipe. Links are followed: what they lead to is what counts.
// It has no state.
package trusted

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// Open opens a regular file for reading. uid is the one besides root's that it
// may belong to. What is wrong with a file is said without its name; an error
// of the system's names it and matches fs.ErrNotExist and the like.
func Open(path string, uid int) (*os.File, error) {
	return open(path, uid, fs.FileMode.IsRegular, "is no regular file")
}

// OpenFolder is Open for a folder.
func OpenFolder(path string, uid int) (*os.File, error) {
	return open(path, uid, fs.FileMode.IsDir, "is no folder")
}

func open(path string, uid int, is func(fs.FileMode) bool, otherwise string) (*os.File, error) {
	info, err := os.Stat(path) // a device may do something when it is opened
	if err != nil {
		return nil, err
	}
	if !is(info.Mode()) {
		return nil, errors.New(otherwise)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	// INVARIANT: the open file is examined, not its name, so that what was
	// found trustworthy is what is read.
	if err := examine(f, uid, is, otherwise); err != nil {
		_ = f.Close() // nothing was read
		return nil, err
	}
	return f, nil
}

func examine(f *os.File, uid int, is func(fs.FileMode) bool, otherwise string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	switch {
	case !is(info.Mode()):
		return errors.New(otherwise)
	case owner != 0 && owner != uid:
		return fmt.Errorf("belongs to uid %d, neither to root nor to uid %d", owner, uid)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("is writable by others than its owner (mode %04o)", info.Mode().Perm())
	}
	return nil
}

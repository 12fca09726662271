package devstack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// The uids, and gids, of the children when we are root. They are nobody's by
// convention, and not the system's own nobody. Postgres has one of its own, too.
const (
	controlUID = 65530
	envoyUID   = 65531
	appUID     = 65532
)

// ownUID stands for "the uid of this process".
const ownUID = -1

// uids says which child runs under which uid.
type uids struct{ control, envoy, app int }

func pickUIDs() uids {
	if os.Geteuid() != 0 {
		return uids{control: ownUID, envoy: ownUID, app: ownUID}
	}
	return uids{control: controlUID, envoy: envoyUID, app: appUID}
}

// passable says which folder on the way down to dir keeps a uid without
// groups out, or nil. ACLs are not looked at.
func passable(dir string, uid int) error {
	if uid == ownUID {
		return nil
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	for {
		if err := executable(dir, uid); err != nil {
			return err
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

// executable says why a uid may not execute a file, or pass a folder, or nil.
func executable(path string, uid int) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.ErrUnsupported
	}
	bit := os.FileMode(0o001)
	switch {
	case int(st.Uid) == uid:
		bit = 0o100
	case int(st.Gid) == uid: // a child's gid has the uid's number
		bit = 0o010
	}
	if info.Mode().Perm()&bit == 0 {
		return fmt.Errorf("%s has mode %04o and belongs to uid %d", path, info.Mode().Perm(), st.Uid)
	}
	return nil
}

// reachable says why a uid can't execute a program by its path, or nil.
func reachable(program string, uid int) error {
	if uid == ownUID {
		return nil
	}
	return errors.Join(passable(filepath.Dir(program), uid), executable(program, uid))
}

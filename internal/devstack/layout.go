package devstack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"gatehouse/internal/revision"
)

// layout is a data folder, made and locked.
type layout struct {
	data     string // absolute
	policies string // absolute; within data, or the user's own
	fresh    bool   // made for this stack, and removed with it
	lock     *os.File
}

func (l *layout) path(parts ...string) string {
	return filepath.Join(append([]string{l.data}, parts...)...)
}

func (l *layout) log(child string) string {
	return l.path("logs", child+".log")
}

// openLayout makes the data folder, or a new one where data is "", and locks
// it. Of a folder that was used before, key and policy set stay as they are.
func openLayout(data, policies string, u uids) (*layout, error) {
	l := &layout{data: data}
	err := l.makeData()
	if err == nil {
		err = l.prepare(policies, u)
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *layout) makeData() (err error) {
	if l.data == "" {
		l.fresh = true
		if l.data, err = os.MkdirTemp("", "gatehouse-dev-"); err != nil {
			return err
		}
		// Others may pass, to what is theirs within; they can't list it.
		return os.Chmod(l.data, 0o711)
	}
	if l.data, err = filepath.Abs(l.data); err != nil {
		return err
	}
	return os.MkdirAll(l.data, 0o711)
}

func (l *layout) prepare(policies string, u uids) error {
	for _, uid := range []int{u.envoy, u.app} {
		if err := passable(l.data, uid); err != nil {
			return fmt.Errorf("uid %d can't pass to the data folder %s: %w; name another with --data, or set TMPDIR", uid, l.data, err)
		}
	}
	if err := l.takeLock(); err != nil {
		return err
	}
	for dir, mode := range map[string]os.FileMode{"keys": 0o700, "logs": 0o700, "policies": 0o755} {
		if err := os.MkdirAll(l.path(dir), mode); err != nil {
			return err
		}
	}
	// A socket of an earlier run would be taken for the sidecar's being up.
	sockets, err := filepath.Glob(l.path("run*", "gate.sock"))
	if err != nil {
		return err
	}
	for _, socket := range sockets {
		if err := os.Remove(socket); err != nil {
			return err
		}
	}
	l.policies = l.path("policies")
	if policies == "" {
		return nil
	}
	return l.usePolicies(policies)
}

func (l *layout) usePolicies(dir string) (err error) {
	if l.policies, err = filepath.Abs(dir); err != nil {
		return err
	}
	if info, err := os.Stat(l.policies); err != nil || !info.IsDir() {
		return fmt.Errorf("--policies %s: is no folder; a policy set is one with %s and *.rego", l.policies, revision.ConfigFile)
	}
	_ = os.Remove(l.path("policies")) // this stack's own; one that has a set in it stays for the next time
	return nil
}

// takeLock makes sure that no other stack uses the folder. The kernel drops
// the lock with its holder.
func (l *layout) takeLock() (err error) {
	if l.lock, err = os.OpenFile(l.path(".lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := unix.Flock(int(l.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("the data folder %s is in use by another gatehouse dev (%w); name another with --data", l.data, err)
	}
	return nil
}

// close gives the folder back, and removes one that was made for this stack.
func (l *layout) close() error {
	var errs []error
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	if l.fresh && l.data != "" {
		errs = append(errs, os.RemoveAll(l.data))
	}
	return errors.Join(errs...)
}

// key loads the folder's key, or makes it.
func (l *layout) key() (*Key, error) {
	k, err := LoadKey(l.data)
	if !errors.Is(err, os.ErrNotExist) {
		return k, err
	}
	if k, err = NewKey(""); err != nil {
		return nil, err
	}
	return k, saveKey(l.path("keys"), k)
}

// ownSet reports whether the policy set is the stack's to write: it is in the
// data folder, and not there yet.
func (l *layout) ownSet() bool {
	if l.policies != l.path("policies") {
		return false
	}
	_, err := os.Stat(filepath.Join(l.policies, revision.ConfigFile))
	return errors.Is(err, os.ErrNotExist)
}

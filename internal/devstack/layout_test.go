package devstack

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"gatehouse/internal/revision"
)

var shared = uids{control: ownUID, envoy: ownUID, app: ownUID}

func open(t *testing.T, data, policies string) *layout {
	t.Helper()
	l, err := openLayout(data, policies, shared)
	noError(t, err)
	t.Cleanup(func() { _ = l.close() })
	return l
}

func TestFreshFolderIsRemoved(t *testing.T) {
	t.Parallel()
	l := open(t, "", "")
	for name, want := range map[string]os.FileMode{"": 0o711, "keys": 0o700, "logs": 0o700, "policies": 0o755} {
		info, err := os.Stat(l.path(name))
		noError(t, err)
		if info.Mode().Perm() != want {
			t.Errorf("folder %q has mode %04o, want %04o", name, info.Mode().Perm(), want)
		}
	}
	noError(t, l.close())
	if _, err := os.Stat(l.data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of the stack is still there: %v", err)
	}
}

func TestFolderIsUsedOnceAtATime(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	first := open(t, data, "")
	_, err := openLayout(data, "", shared)
	wantError(t, err, "in use by another", "--data")
	noError(t, first.close())
	second := open(t, data, "")
	noError(t, second.close())
	if _, err := os.Stat(data); err != nil {
		t.Errorf("a folder that the user named was removed: %v", err)
	}
}

func TestKeyAndSetAreKept(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	l := open(t, data, "")
	first, err := l.key()
	noError(t, err)
	if !l.ownSet() {
		t.Error("a new folder's set is not the stack's to write")
	}
	touch(t, filepath.Join(l.policies, revision.ConfigFile), 0o644)
	touch(t, l.socket(unit{number: 1}), 0o600)
	noError(t, l.close())
	l = open(t, data, "")
	if l.ownSet() {
		t.Error("an edited set would be overwritten")
	}
	if _, err := os.Stat(l.socket(unit{number: 1})); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old socket is still there: %v", err)
	}
	if again, err := l.key(); err != nil || again.KeyID() != first.KeyID() {
		t.Errorf("the key changed: %v", err)
	}
}

func TestBrokenKeyIsNotReplaced(t *testing.T) {
	t.Parallel()
	l := open(t, t.TempDir(), "")
	touch(t, l.path("keys", keyFile), 0o600)
	_, err := l.key()
	wantError(t, err, keyFile)
}

func TestOtherPolicySet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, t.TempDir(), dir)
	if l.policies != dir || l.ownSet() {
		t.Errorf("policies are %s, the stack's own %v; want %s as it is", l.policies, l.ownSet(), dir)
	}
	_, err := openLayout(t.TempDir(), filepath.Join(dir, "none"), shared)
	wantError(t, err, "none", "is no folder", revision.ConfigFile)
}

func TestFolderThatChildrenCantPass(t *testing.T) {
	t.Parallel()
	closed := filepath.Join(t.TempDir(), "closed")
	noError(t, os.Mkdir(closed, 0o700))
	_, err := openLayout(filepath.Join(closed, "data"), "", uids{envoy: envoyUID, app: appUID})
	wantError(t, err, "uid 65531 can't pass", "0700", "--data")
}

func TestFolderThatCantBeMade(t *testing.T) {
	t.Parallel()
	file := touch(t, filepath.Join(t.TempDir(), "file"), 0o644)
	_, err := openLayout(filepath.Join(file, "data"), "", shared)
	wantError(t, err, "not a directory")
}

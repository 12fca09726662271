package devstack

import (
	"os"
	"path/filepath"
	"testing"
)

func TestExecutable(t *testing.T) {
	t.Parallel()
	own := os.Geteuid()
	tests := []struct {
		mode os.FileMode
		uid  int
		ok   bool
	}{
		{0o755, own, true}, {0o700, own, true}, {0o655, own, false},
		{0o755, own + 1, true}, {0o710, own + 1, false}, {0o744, own + 1, false},
	}
	for _, tt := range tests {
		path := touch(t, filepath.Join(t.TempDir(), "f"), tt.mode)
		if err := executable(path, tt.uid); (err == nil) != tt.ok {
			t.Errorf("mode %04o for uid %d (owner %d): %v, want ok %v", tt.mode, tt.uid, own, err, tt.ok)
		}
	}
	if executable(filepath.Join(t.TempDir(), "none"), own) == nil {
		t.Error("a missing file is executable")
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := touch(t, filepath.Join(dir, "closed", "program"), 0o755)
	noError(t, os.Chmod(filepath.Dir(program), 0o700))
	wantError(t, reachable(program, envoyUID), "closed", "0700")
	noError(t, reachable(program, ownUID))
	if reachable(filepath.Join(dir, "none", "program"), envoyUID) == nil {
		t.Error("a program in a missing folder is reachable")
	}
}

func TestPublicFolderIsPassable(t *testing.T) {
	t.Parallel()
	dir := publicDir(t)
	noError(t, passable(dir, envoyUID))
	noError(t, reachable(touch(t, filepath.Join(dir, "program"), 0o755), envoyUID))
	if passable(filepath.Join(dir, "none"), envoyUID) == nil {
		t.Error("a missing folder is passable")
	}
}

// A link must not hide what lies behind it.
func TestPassableFollowsLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closed := filepath.Join(dir, "closed")
	noError(t, os.MkdirAll(filepath.Join(closed, "data"), 0o755))
	noError(t, os.Chmod(closed, 0o700))
	noError(t, os.Symlink(filepath.Join(closed, "data"), filepath.Join(dir, "link")))
	wantError(t, passable(filepath.Join(dir, "link"), envoyUID), "closed")
}

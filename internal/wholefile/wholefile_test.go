package wholefile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestReplace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	for i, mode := range []os.FileMode{0o600, 0o644, 0o600} {
		text := string(rune('a' + i))
		if err := Replace(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		info, statErr := os.Stat(path)
		if err := errors.Join(err, statErr); err != nil {
			t.Fatal(err)
		}
		if string(got) != text || info.Mode().Perm() != mode {
			t.Errorf("%q with mode %04o, want %q with %04o", got, info.Mode().Perm(), text, mode)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{filepath.Join(dir, "b"), filepath.Join(dir, "none", "c"), filepath.Join(path, "x")} {
		if err := Replace(bad, nil, 0o600); err == nil {
			t.Errorf("%s was written", bad)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%d files, want a and b alone: %v, %v", len(entries), entries, err)
	}
}

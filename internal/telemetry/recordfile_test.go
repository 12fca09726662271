package telemetry

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func openTestFile(t *testing.T, path string, max int64) *recordFileWriter {
	t.Helper()
	w, err := openRecordFile(path, max)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if w.file != nil {
			_ = w.close()
		}
	})
	return w
}

func writeLine(t *testing.T, w *recordFileWriter, line string) {
	t.Helper()
	if err := w.write([]byte(line + "\n")); err != nil {
		t.Fatalf("write %q: %v", line, err)
	}
}

func TestRotationKeepsOneOldFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "d")
	w := openTestFile(t, path, 12)
	for _, line := range []string{"aaaa", "bbbb", "cccc", "dddd", "eeee"} {
		writeLine(t, w, line)
	}
	if got := readFile(t, path); got != "eeee\n" {
		t.Errorf("file %q, want the last line", got)
	}
	if got := readFile(t, path+".1"); got != "cccc\ndddd\n" {
		t.Errorf("older file %q, want the two lines before", got)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 2 {
		t.Errorf("%d files (%v), want 2", len(entries), err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v (%v), want 0600", e.Name(), info.Mode(), err)
		}
	}
}

func TestRecordsRotate(t *testing.T) {
	t.Parallel()
	const most = 256 << 10
	r, m, path := startRecords(t, most)
	for range 2000 {
		r.Decision(sampleDecision())
	}
	stopRecords(t, r)
	if n := counted(t, m, ResultWritten); n != 2000 {
		t.Errorf("%v written, want 2000", n)
	}
	for _, p := range []string{path, path + ".1"} {
		body := readFile(t, p)
		lines := len(body) / len(decisionLine)
		if len(body) > most || lines == 0 || body != strings.Repeat(decisionLine, lines) {
			t.Errorf("%s: %d bytes, want whole lines within %d bytes", p, len(body), most)
		}
	}
}

func TestAppendsToWhatIsThere(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ before, want string }{
		"whole lines": {"old\n", "old\nnew\n"},
		"torn line":   {"old\nto", "old\nto\nnew\n"},
		"empty":       {"", "new\n"},
	} {
		path := filepath.Join(t.TempDir(), "d")
		if err := os.WriteFile(path, []byte(tc.before), 0o644); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		writeLine(t, openTestFile(t, path, 100), "new")
		if got := readFile(t, path); got != tc.want {
			t.Errorf("%s: file %q, want %q", name, got, tc.want)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v (%v), want 0600", name, info.Mode(), err)
		}
	}
}

func TestOnlyRegularFiles(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(path string) error{
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"pipe":      func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"link out":  func(p string) error { return os.Symlink(os.DevNull, p) },
		"link in":   func(p string) error { return os.Symlink("target", p) },
	} {
		path := filepath.Join(t.TempDir(), "d")
		if err := make(path); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := openRecordFile(path, 100); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestFailedRotationHoldsTheCapAndRecovers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "d")
	w := openTestFile(t, path, 10)
	writeLine(t, w, "aaaaaaaa")
	block := filepath.Join(path+".1", "x") // a directory that is not empty can't be renamed over
	if err := os.MkdirAll(block, 0o700); err != nil {
		t.Fatalf("mkdir: %v", err)
	}
	if err := w.write([]byte("bbbb\n")); err == nil {
		t.Error("written beyond the cap")
	}
	if err := os.RemoveAll(path + ".1"); err != nil {
		t.Fatalf("remove: %v", err)
	}
	writeLine(t, w, "cccc")
	if got := readFile(t, path) + readFile(t, path+".1"); got != "cccc\naaaaaaaa\n" {
		t.Errorf("files %q, want the first and the third line", got)
	}
}

func TestRotationThatCannotOpenRecovers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "d")
	w := openTestFile(t, path, 10)
	writeLine(t, w, "aaaaaaaa")
	if err := w.file.Close(); err != nil { // closing again fails after the rename
		t.Fatalf("close: %v", err)
	}
	if err := w.write([]byte("bbbb\n")); err == nil {
		t.Error("no error from a file that can't be closed")
	}
	writeLine(t, w, "cccc")
	if got := readFile(t, path) + readFile(t, path+".1"); got != "cccc\naaaaaaaa\n" {
		t.Errorf("files %q, want the first and the third line", got)
	}
}

func TestFileTakenAway(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "d")
	w := openTestFile(t, path, 10)
	writeLine(t, w, "aaaaaaaa")
	if err := os.Remove(path); err != nil {
		t.Fatalf("remove: %v", err)
	}
	writeLine(t, w, "bbbb")
	if got := readFile(t, path); got != "bbbb\n" {
		t.Errorf("file %q, want the second line", got)
	}
}

func TestTornWriteStartsANewLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "d")
	w := openTestFile(t, path, 100)
	writeLine(t, w, "aaaa")
	good := w.file
	readOnly, err := os.Open(path)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer readOnly.Close()
	w.file = readOnly
	if err := w.write([]byte("bbbb\n")); err == nil || !w.torn {
		t.Errorf("error %v, torn %v, want both", err, w.torn)
	}
	if err := w.write([]byte("bbbb\n")); err == nil || !w.torn {
		t.Errorf("again: error %v, torn %v, want both", err, w.torn)
	}
	w.file = good
	writeLine(t, w, "cccc")
	writeLine(t, w, "dddd")
	if got := readFile(t, path); got != "aaaa\n\ncccc\ndddd\n" {
		t.Errorf("file %q, want the line after the torn one on a line of its own", got)
	}
}

package pgserver

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// programs makes a folder with a postgres that says a version.
func programs(t *testing.T, says string) string {
	t.Helper()
	dir := t.TempDir()
	writeProgram(t, filepath.Join(dir, "postgres"), "#!/bin/sh\necho '"+says+"'\n")
	writeProgram(t, filepath.Join(dir, "initdb"), "")
	return dir
}

// writeProgram writes a file that is to be executed. No child may be started
// meanwhile: it would hold the file open for writing, and Linux refuses to
// execute what is.
func writeProgram(t *testing.T, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	noError(t, os.WriteFile(path, []byte(text), 0o755))
}

func TestFindNamed(t *testing.T) {
	t.Parallel()
	for _, says := range []string{"postgres (PostgreSQL) 14.0", "postgres (PostgreSQL) 18beta1", "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"} {
		dir := programs(t, says)
		if got, err := Find(dir); got != dir || err != nil {
			t.Errorf("%s: got %q, %v", says, got, err)
		}
	}
	for says, want := range map[string]string{
		"postgres (PostgreSQL) 13.22":    "has PostgreSQL 13, older than 14",
		"postgres (PostgreSQL) 9.6.1":    "has PostgreSQL 9, older than 14",
		"something else 15":              "names no version",
		"":                               "names no version",
		"older postgres (PostgreSQL) 15": "names no version",
	} {
		_, err := Find(programs(t, says))
		wantError(t, err, "POSTGRES_BIN", want)
	}
	_, err := Find("/nowhere")
	wantError(t, err, "POSTGRES_BIN", "/nowhere/initdb")
	client := programs(t, "postgres (PostgreSQL) 15.1")
	noError(t, os.Remove(filepath.Join(client, "postgres")))
	_, err = Find(client)
	wantError(t, err, "POSTGRES_BIN", "postgres --version")
}

func TestFindOnPath(t *testing.T) {
	dir := programs(t, "postgres (PostgreSQL) 16.1")
	link := t.TempDir()
	noError(t, os.Symlink(filepath.Join(dir, "postgres"), filepath.Join(link, "postgres")))
	t.Setenv("PATH", link+":/bin:/usr/bin")
	if got, err := Find(""); got != dir || err != nil {
		t.Errorf("got %q, %v, want the folder that the link leads to", got, err)
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int{"/usr/lib/postgresql/15/bin": 15, "9": 9, "": 0, "99999999999999999999": 0} {
		if got := number(s); got != want {
			t.Errorf("number(%q): got %d, want %d", s, got, want)
		}
	}
}

func TestCopyTreeTakesNoLinks(t *testing.T) {
	t.Parallel()
	from := t.TempDir()
	noError(t, os.Symlink("/etc/passwd", filepath.Join(from, "link")))
	wantError(t, copyTree(from, filepath.Join(t.TempDir(), "to"), ownUID), "link is neither a folder nor a file")
}

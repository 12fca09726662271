package trusted_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gatehouse/internal/trusted"
)

// place makes what a test opens and returns its path.
type place func(t *testing.T, dir string) string

func file(mode fs.FileMode) place {
	return func(t *testing.T, dir string) string {
		t.Helper()
		path := filepath.Join(dir, "file")
		must(t, errors.Join(os.WriteFile(path, []byte("text"), 0o600), os.Chmod(path, mode)))
		return path
	}
}

func folder(mode fs.FileMode) place {
	return func(t *testing.T, dir string) string {
		t.Helper()
		path := filepath.Join(dir, "folder")
		must(t, errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, mode)))
		return path
	}
}

// linked is a link to what another place makes.
func linked(to place) place {
	return func(t *testing.T, dir string) string {
		t.Helper()
		path := filepath.Join(dir, "link")
		must(t, os.Symlink(to(t, dir), path))
		return path
	}
}

func pipe(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "pipe")
	must(t, syscall.Mkfifo(path, 0o600))
	return path
}

// somebodys is what a place makes, given to another uid than root's or ours.
func somebodys(of place) place {
	return func(t *testing.T, dir string) string {
		t.Helper()
		if os.Geteuid() != 0 {
			t.Skip("only root can give files away")
		}
		path := of(t, dir)
		must(t, os.Chown(path, stranger, -1))
		return path
	}
}

const stranger = 12345

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	nowhere := func(_ *testing.T, dir string) string { return filepath.Join(dir, "nowhere") }
	for name, c := range map[string]struct {
		make       place
		uid        int
		asFile     string // what is wrong with it as a file, "" nothing
		asFolder   string
		isNotExist bool
	}{
		"a file":                 {make: file(0o644), uid: os.Geteuid(), asFolder: "is no folder"},
		"a file behind a link":   {make: linked(file(0o400)), uid: os.Geteuid(), asFolder: "is no folder"},
		"writable by group":      {make: file(0o664), uid: os.Geteuid(), asFile: "writable by others than its owner (mode 0664)", asFolder: "is no folder"},
		"writable by all":        {make: file(0o606), uid: os.Geteuid(), asFile: "writable by others than its owner (mode 0606)", asFolder: "is no folder"},
		"the uid's":              {make: somebodys(file(0o600)), uid: stranger, asFolder: "is no folder"},
		"somebody else's":        {make: somebodys(file(0o600)), uid: 0, asFile: "belongs to uid 12345, neither to root nor to uid 0", asFolder: "is no folder"},
		"somebody else's linked": {make: linked(somebodys(file(0o600))), uid: 0, asFile: "belongs to uid 12345", asFolder: "is no folder"},
		"a folder":               {make: folder(0o755), uid: os.Geteuid(), asFile: "is no regular file"},
		"an open folder":         {make: folder(0o777), uid: os.Geteuid(), asFile: "is no regular file", asFolder: "writable by others than its owner (mode 0777)"},
		"somebody's folder":      {make: somebodys(folder(0o755)), uid: 0, asFile: "is no regular file", asFolder: "belongs to uid 12345"},
		"a pipe":                 {make: pipe, uid: os.Geteuid(), asFile: "is no regular file", asFolder: "is no folder"},
		"a pipe behind a link":   {make: linked(pipe), uid: os.Geteuid(), asFile: "is no regular file", asFolder: "is no folder"},
		"nothing":                {make: nowhere, uid: os.Geteuid(), asFile: "no such file", asFolder: "no such file", isNotExist: true},
		"a link to nowhere":      {make: linked(nowhere), uid: os.Geteuid(), asFile: "no such file", asFolder: "no such file", isNotExist: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := c.make(t, t.TempDir())
			f, err := trusted.Open(path, c.uid)
			wantFault(t, f, err, c.asFile)
			if c.asFile == "" {
				if text, err := io.ReadAll(f); string(text) != "text" || err != nil {
					t.Errorf("read %q, %v", text, err)
				}
			}
			f, err = trusted.OpenFolder(path, c.uid)
			wantFault(t, f, err, c.asFolder)
			if errors.Is(err, fs.ErrNotExist) != c.isNotExist {
				t.Errorf("got %v, not existing: want %v", err, c.isNotExist)
			}
		})
	}
}

func wantFault(t *testing.T, f *os.File, err error, want string) {
	t.Helper()
	if f != nil {
		t.Cleanup(func() { f.Close() })
	}
	if (f == nil) != (err != nil) || (err == nil) != (want == "") {
		t.Fatalf("got %v, %v, want %q", f, err, want)
	}
	if err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

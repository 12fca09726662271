package snapshot

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/revision"
)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadTakesWhatIsPartOfASet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"gatehouse.yaml": "a", "authz.rego": "b", "lib/x.rego": "c", "lib/data.json": "{}",
		"README.md": "no", ".authz.rego.swp": "no", ".git/x.rego": "no", "lib/gatehouse.yaml": "no", "authz.rego~": "no",
	})
	got, err := Read(dir, os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"authz.rego", "gatehouse.yaml", "lib/data.json", "lib/x.rego"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// A ConfigMap is mounted as links into a hidden folder.
func TestReadFollowsLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"..2026/gatehouse.yaml": "a"})
	for link, target := range map[string]string{"..data": "..2026", "gatehouse.yaml": "..data/gatehouse.yaml", "gone.txt": "nowhere", "gone": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Read(dir, os.Geteuid())
	if err != nil || len(got) != 1 || string(got["gatehouse.yaml"]) != "a" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	chmod := func(name string, mode os.FileMode) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	cases := map[string]struct {
		spoil func(*testing.T, string)
		uid   int
		want  string
	}{
		"file writable by group":   {chmod("authz.rego", 0o664), os.Geteuid(), "authz.rego: is writable by others"},
		"file writable by all":     {chmod("gatehouse.yaml", 0o646), os.Geteuid(), "gatehouse.yaml: is writable by others"},
		"folder writable by group": {chmod("lib", 0o775), os.Geteuid(), "lib: is writable by others"},
		"the set writable by all":  {chmod(".", 0o777), os.Geteuid(), "is writable by others"},
		"no gatehouse.yaml":        {func(t *testing.T, d string) { os.Remove(filepath.Join(d, revision.ConfigFile)) }, os.Geteuid(), "there is no gatehouse.yaml"},
		"too deep":                 {func(t *testing.T, d string) { write(t, d, map[string]string{strings.Repeat("d/", 10) + "x.rego": ""}) }, os.Geteuid(), "folders deep"},
		"a file too large": {func(t *testing.T, d string) {
			write(t, d, map[string]string{"big.rego": strings.Repeat("#", revision.MaxFileBytes+1)})
		}, os.Geteuid(), "big.rego: a file may have"},
		"a pipe":                     {func(t *testing.T, d string) { pipe(t, filepath.Join(d, "x.rego")) }, os.Geteuid(), "x.rego: is no regular file"},
		"a link to a pipe":           {func(t *testing.T, d string) { pipe(t, filepath.Join(d, "p")); link(t, "p", filepath.Join(d, "x.rego")) }, os.Geteuid(), "x.rego: is no regular file"},
		"a link to nowhere":          {func(t *testing.T, d string) { link(t, "nowhere", filepath.Join(d, "lib/deny.rego")) }, os.Geteuid(), "lib/deny.rego: stat"},
		"a link to itself":           {func(t *testing.T, d string) { link(t, "loop", filepath.Join(d, "loop")) }, os.Geteuid(), "too many levels"},
		"a folder that is not there": {func(t *testing.T, d string) { os.RemoveAll(d) }, os.Geteuid(), "no such file"},
	}
	if os.Geteuid() == 0 {
		cases["a file of somebody else"] = struct {
			spoil func(*testing.T, string)
			uid   int
			want  string
		}{func(t *testing.T, d string) { os.Chown(filepath.Join(d, "authz.rego"), 12345, -1) }, 0, "belongs to uid 12345"}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "set")
			write(t, dir, map[string]string{"gatehouse.yaml": "a", "authz.rego": "b", "lib/x.rego": "c"})
			c.spoil(t, dir)
			if _, err := Read(dir, c.uid); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func pipe(t *testing.T, path string) {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

// What two readings in a row agree on counts, whatever came before.
func TestReadingsMustAgree(t *testing.T) {
	t.Parallel()
	old, mixed, fresh := revision.Files{"a": []byte("1"), "b": []byte("1")}, revision.Files{"a": []byte("1"), "b": []byte("2")}, revision.Files{"a": []byte("2"), "b": []byte("2")}
	gone, bad := errors.New("gone"), errors.New("bad")
	type reading struct {
		files revision.Files
		err   error
	}
	ever := func(i int) reading { return reading{files: revision.Files{"a": []byte{byte(i)}}} }
	for name, c := range map[string]struct {
		readings []reading
		want     revision.Files
		fault    error
	}{
		"at rest":             {[]reading{{files: old}, {files: old}}, old, nil},
		"swapped meanwhile":   {[]reading{{files: mixed}, {files: fresh}, {files: fresh}}, fresh, nil},
		"a file comes":        {[]reading{{files: revision.Files{}}, {files: old}, {files: old}}, old, nil},
		"gone for a moment":   {[]reading{{err: gone}, {files: fresh}, {files: fresh}}, fresh, nil},
		"another fault first": {[]reading{{err: gone}, {err: bad}, {err: bad}}, nil, bad},
		"not at rest between": {[]reading{{files: old}, {err: gone}, {files: old}, {files: old}}, old, nil},
		"never at rest":       {[]reading{ever(0), ever(1), ever(2), ever(3), ever(4), ever(5), ever(6), ever(7), ever(8), ever(9)}, nil, ErrChanging},
		"bad at the end":      {[]reading{ever(0), ever(1), ever(2), ever(3), ever(4), ever(5), ever(6), ever(7), ever(8), {err: bad}}, nil, bad},
	} {
		n := 0
		got, err := agreed(func() (revision.Files, error) { n++; return c.readings[n-1].files, c.readings[n-1].err })
		if diff := cmp.Diff(c.want, got); diff != "" || !errors.Is(err, c.fault) || n != len(c.readings) {
			t.Errorf("%s: after %d readings %v (-want +got):\n%s", name, n, err, diff)
		}
	}
}

// A mounted ConfigMap is replaced by turning one link. Each version has the
// same text in all its files, so that a mix of two shows.
func TestReadNeverMixesVersions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mount(t, dir, 0)
	link(t, "..data/gatehouse.yaml", filepath.Join(dir, "gatehouse.yaml"))
	link(t, "..data/authz.rego", filepath.Join(dir, "authz.rego"))
	stop, last := make(chan struct{}), make(chan string)
	go func() {
		version := 1
		for ; ; version++ {
			select {
			case <-stop:
				last <- fmt.Sprint(version - 1)
				return
			default:
				mount(t, dir, version)
			}
		}
	}()
	for range 500 {
		if got, err := Read(dir, os.Geteuid()); err == nil && string(got["gatehouse.yaml"]) != string(got["authz.rego"]) {
			t.Errorf("read a mix: %q", got)
		}
	}
	close(stop)
	want := <-last
	if got, err := Read(dir, os.Geteuid()); err != nil || string(got["authz.rego"]) != want {
		t.Errorf("at rest: got %q, %v, want %s", got, err, want)
	}
}

// mount puts a version in place of the one before, as kubelet does.
func mount(t *testing.T, dir string, version int) {
	folder := fmt.Sprintf("..v%d", version)
	fresh, data := filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")
	err := os.Mkdir(filepath.Join(dir, folder), 0o755)
	for _, name := range []string{"gatehouse.yaml", "authz.rego"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, folder, name), fmt.Append(nil, version), 0o644))
	}
	err = errors.Join(err, os.Symlink(folder, fresh), os.Rename(fresh, data), os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..v%d", version-1))))
	if err != nil {
		t.Error(err)
	}
}

// Moving a byte from one name or file to the next gives another revision.
func TestRevisionIsByContent(t *testing.T) {
	t.Parallel()
	base := revision.Files{"a": []byte("bc"), "d": []byte("e")}
	same := revision.Files{"d": []byte("e"), "a": []byte("bc")}
	if revision.ID(base) != revision.ID(same) {
		t.Error("the order must not matter")
	}
	for _, other := range []revision.Files{
		{"ab": []byte("c"), "d": []byte("e")}, {"a": []byte("bcd"), "": []byte("e")}, {"a": []byte("bc")},
		{"a": []byte("bc"), "d": []byte("e"), "f": nil}, {"a": []byte("bcde"), "d": nil},
	} {
		if revision.ID(base) == revision.ID(other) {
			t.Errorf("%q has the same revision", other)
		}
	}
}

package snapshot

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
	for link, target := range map[string]string{"..data": "..2026", "gatehouse.yaml": "..data/gatehouse.yaml", "gone.rego": "nowhere"} {
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
		"no gatehouse.yaml":        {func(t *testing.T, d string) { os.Remove(filepath.Join(d, ConfigFile)) }, os.Geteuid(), "there is no gatehouse.yaml"},
		"too deep":                 {func(t *testing.T, d string) { write(t, d, map[string]string{strings.Repeat("d/", 10) + "x.rego": ""}) }, os.Geteuid(), "folders deep"},
		"a file too large": {func(t *testing.T, d string) {
			write(t, d, map[string]string{"big.rego": strings.Repeat("#", maxFileBytes+1)})
		}, os.Geteuid(), "big.rego: a file may have"},
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

// Moving a byte from one name or file to the next gives another revision.
func TestRevisionIsByContent(t *testing.T) {
	t.Parallel()
	base := Files{"a": []byte("bc"), "d": []byte("e")}
	same := Files{"d": []byte("e"), "a": []byte("bc")}
	if Revision(base) != Revision(same) {
		t.Error("the order must not matter")
	}
	for _, other := range []Files{
		{"ab": []byte("c"), "d": []byte("e")}, {"a": []byte("bcd"), "": []byte("e")}, {"a": []byte("bc")},
		{"a": []byte("bc"), "d": []byte("e"), "f": nil}, {"a": []byte("bcde"), "d": nil},
	} {
		if Revision(base) == Revision(other) {
			t.Errorf("%q has the same revision", other)
		}
	}
}

func TestStoreKeepsTheLastTwo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Unix(1_700_000_000, 0).UTC()
	set := func(n string) Files { return Files{"gatehouse.yaml": []byte(n)} }
	s, err := NewStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	if saved, err := s.Load(); saved != nil || err != nil {
		t.Fatalf("a new store holds %v, %v", saved, err)
	}
	for i, n := range []string{"1", "2", "2", "3"} {
		if err := s.Accept(set(n), now.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Load()
	want := &Saved{Current: set("3"), Previous: set("2"), ReplacedAt: now.Add(3 * time.Second)}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	entries, _ := os.ReadDir(filepath.Join(dir, "sets"))
	if len(entries) != 3 {
		t.Errorf("%d files, want two sets and the index", len(entries))
	}
	for _, e := range entries {
		if info, _ := e.Info(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
}

func TestStoreRefusesWhatIsTorn(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(string) error{
		"other content": func(p string) error { return os.WriteFile(p, []byte(`{"gatehouse.yaml":"eA=="}`), 0o600) },
		"cut":           func(p string) error { return os.Truncate(p, 5) },
		"gone":          os.Remove,
	} {
		s, err := NewStore(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		files := Files{"gatehouse.yaml": []byte("1")}
		if err := errors.Join(s.Accept(files, time.Now()), spoil(filepath.Join(s.dir, Revision(files)+".json"))); err != nil {
			t.Fatal(err)
		}
		if saved, err := s.Load(); err == nil {
			t.Errorf("%s: got %v", name, saved)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	table := NewTable()
	closed := map[string]int{}
	snap := func(rev string) *Snapshot {
		return &Snapshot{Revision: rev, release: []func(){func() { closed[rev]++ }}}
	}
	if _, ok := table.Lookup("current"); ok {
		t.Error("an empty table has no current revision")
	}
	table.Add(snap("a"))
	table.Add(snap("b"))
	table.Add(snap("b"))
	if closed["b"] != 1 {
		t.Error("a second copy must be given up")
	}
	if s, _ := table.Lookup("current"); s.Revision != "a" {
		t.Errorf("current is %s before b is in force", s.Revision)
	}
	table.SetCurrent("b")
	table.SetCurrent("ghost")
	table.Remove("b")
	table.Remove("ghost")
	if s, ok := table.Lookup("b"); !ok || table.Current() != s {
		t.Error("the current revision was removed")
	}
	table.Remove("a")
	if _, ok := table.Lookup("a"); ok || closed["a"] != 1 || table.Len() != 1 {
		t.Error("a is still there, or was not closed")
	}
}

package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/revision"
)

func TestStoreKeepsTheLastTwo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Unix(1_700_000_000, 0).UTC()
	set := func(n string) revision.Files { return revision.Files{"gatehouse.yaml": []byte(n)} }
	s, err := NewStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	if saved, err := s.Load(); saved != nil || err != nil {
		t.Fatalf("a new store holds %v, %v", saved, err)
	}
	for i, n := range []string{"1", "2", "2", "3"} {
		if err := s.Accept(Accepted{Files: set(n)}, now.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Load()
	want := &Saved{Current: Accepted{Files: set("3")}, Previous: Accepted{Files: set("2")}, ReplacedAt: now.Add(3 * time.Second)}
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
		files := revision.Files{"gatehouse.yaml": []byte("1")}
		if err := errors.Join(s.Accept(Accepted{Files: files}, time.Now()), spoil(filepath.Join(s.dir, revision.ID(files)+".json"))); err != nil {
			t.Fatal(err)
		}
		if saved, err := s.Load(); err == nil || saved != nil {
			t.Errorf("%s: got %v, %v", name, saved, err)
		}
		if err := s.Accept(Accepted{Files: files}, time.Now()); err != nil {
			t.Errorf("%s: the set is not accepted again: %v", name, err)
		}
		if saved, err := s.Load(); err != nil || revision.ID(saved.Current.Files) != revision.ID(files) {
			t.Errorf("%s: accepted again: %v, %v", name, saved, err)
		}
	}
}

// A torn index is told of once and does not keep the store from saving.
func TestStoreSurvivesATornIndex(t *testing.T) {
	t.Parallel()
	s, err := NewStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	one, two := revision.Files{"gatehouse.yaml": []byte("1")}, revision.Files{"gatehouse.yaml": []byte("2")}
	if err := errors.Join(s.Accept(Accepted{Files: one}, time.Now()), os.Truncate(filepath.Join(s.dir, indexFile), 1)); err != nil {
		t.Fatal(err)
	}
	if saved, err := s.Load(); saved != nil || err == nil {
		t.Errorf("a torn index: %v, %v", saved, err)
	}
	now := time.Unix(1_700_000_000, 0).UTC()
	if err := s.Accept(Accepted{Files: two}, now); err != nil {
		t.Fatal(err)
	}
	got, err := s.Load()
	if diff := cmp.Diff(&Saved{Current: Accepted{Files: two}, ReplacedAt: now}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// A lost older set is said, and costs neither the current one nor its place
// when the current one is accepted again.
func TestStoreWithoutItsPreviousSet(t *testing.T) {
	t.Parallel()
	s, err := NewStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	one, two := revision.Files{"gatehouse.yaml": []byte("1")}, revision.Files{"gatehouse.yaml": []byte("2")}
	now := time.Unix(1_700_000_000, 0).UTC()
	previous := filepath.Join(s.dir, revision.ID(one)+".json")
	if err := errors.Join(s.Accept(Accepted{Files: one}, now), s.Accept(Accepted{Files: two}, now), os.Rename(previous, previous+"x")); err != nil {
		t.Fatal(err)
	}
	got, err := s.Load()
	if err != nil || got.Lost == nil || got.Previous.Files != nil || revision.ID(got.Current.Files) != revision.ID(two) {
		t.Fatalf("got %+v, %v", got, err)
	}
	current := filepath.Join(s.dir, revision.ID(two)+".json")
	if err := errors.Join(os.Rename(previous+"x", previous), os.Remove(current), s.Accept(Accepted{Files: two}, now.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	got, err = s.Load()
	if diff := cmp.Diff(&Saved{Current: Accepted{Files: two}, Previous: Accepted{Files: one}, ReplacedAt: now}, got); diff != "" || err != nil {
		t.Errorf("the current one came back: %v (-want +got):\n%s", err, diff)
	}
}

// The activation is kept beside its set, also when only the activation is new.
func TestStoreKeepsWhatSigned(t *testing.T) {
	t.Parallel()
	s, err := NewStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	accepted := func(text string, generation int64) Accepted {
		return Accepted{
			Files:  revision.Files{"gatehouse.yaml": []byte(text)},
			Signed: &revision.Signed{Activation: revision.Activation{PolicySet: "p", Generation: generation}, Signature: []byte("s")},
		}
	}
	now := time.Unix(1_700_000_000, 0).UTC()
	if err := errors.Join(s.Accept(accepted("1", 1), now), s.Accept(accepted("2", 2), now), s.Accept(accepted("2", 5), now.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	got, err := s.Load()
	want := &Saved{Current: accepted("2", 5), Previous: accepted("1", 1), ReplacedAt: now}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

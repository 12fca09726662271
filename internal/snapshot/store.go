package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"gatehouse/internal/revision"
	"gatehouse/internal/wholefile"
)

// Store keeps the last two accepted sets on disk, so that a restarted sidecar
// can answer for what its Envoy still holds. It is used by one goroutine.
type Store struct {
	dir string
}

// Accepted is a set and, where control sent it, the activation that put it in
// force.
type Accepted struct {
	Files  revision.Files
	Signed *revision.Signed // nil for a set of a folder
}

// Saved is what a store holds.
type Saved struct {
	Current    Accepted
	Previous   Accepted  // without files where there was none, or it is lost
	ReplacedAt time.Time // when Previous went out of force
	Lost       error     // why Previous can't be used; nil where nothing is lost
}

// index is the store's file of contents.
type index struct {
	Current    string           `json:"current"`
	Previous   string           `json:"previous,omitempty"`
	ReplacedAt time.Time        `json:"replaced_at,omitzero"`
	Signed     *revision.Signed `json:"signed,omitempty"` // of Current
	Before     *revision.Signed `json:"before,omitempty"` // of Previous
}

const indexFile = "index.json"

// NewStore opens the store in stateDir, making its folder (0700).
func NewStore(stateDir string) (*Store, error) {
	dir := filepath.Join(stateDir, "sets")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return &Store{dir: dir}, nil
}

// Accept records that a set is in force since now. Its error leaves the store
// as it was. What the store has lost does not keep it from accepting.
func (s *Store) Accept(set Accepted, now time.Time) error {
	old, err := s.index()
	if err != nil {
		old = index{} // Load told of it; it is written anew
	}
	next := index{Current: revision.ID(set.Files), Signed: set.Signed, Previous: old.Current, Before: old.Signed, ReplacedAt: now}
	if next.Current == old.Current {
		if _, err := s.read(old.Current); err == nil {
			return s.reactivated(old, set.Signed)
		}
		next = old // its set is lost, and comes back
		next.Signed = set.Signed
	}
	if err := s.writeJSON(next.Current+".json", set.Files); err != nil {
		return err
	}
	// Dying here leaves a set that no index names; the next Accept removes it.
	if err := s.writeJSON(indexFile, next); err != nil {
		return err
	}
	return s.sweep(next)
}

// reactivated records that the current set is in force by another activation.
func (s *Store) reactivated(ix index, signed *revision.Signed) error {
	if reflect.DeepEqual(ix.Signed, signed) {
		return nil
	}
	ix.Signed = signed
	return s.writeJSON(indexFile, ix)
}

// Load returns what was accepted before, or nil where nothing was. A set whose
// content no longer has its name is lost: it was tampered with or torn. Without
// the current one, or the index, that is an error, and nothing is returned.
func (s *Store) Load() (*Saved, error) {
	ix, err := s.index()
	if err != nil || ix.Current == "" {
		return nil, err
	}
	out := &Saved{ReplacedAt: ix.ReplacedAt}
	if out.Current.Files, err = s.read(ix.Current); err != nil {
		return nil, err
	}
	out.Current.Signed = ix.Signed
	if ix.Previous != "" {
		out.Previous.Files, out.Lost = s.read(ix.Previous)
		out.Previous.Signed = ix.Before
	}
	return out, nil
}

func (s *Store) index() (index, error) {
	var ix index
	b, err := os.ReadFile(filepath.Join(s.dir, indexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return ix, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &ix)
	}
	if err != nil {
		return ix, fmt.Errorf("state: %s: %w", indexFile, err)
	}
	return ix, nil
}

func (s *Store) read(id string) (revision.Files, error) {
	var files revision.Files
	b, err := os.ReadFile(filepath.Join(s.dir, filepath.Base(id)+".json"))
	if err == nil {
		err = json.Unmarshal(b, &files)
	}
	if err != nil {
		return nil, fmt.Errorf("state: set %.12s: %w", id, err)
	}
	if revision.ID(files) != id {
		return nil, fmt.Errorf("state: set %.12s has other content than its name says", id)
	}
	return files, nil
}

// writeJSON replaces a file as a whole: it is there after a crash, old or new.
func (s *Store) writeJSON(name string, v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		err = wholefile.Replace(filepath.Join(s.dir, name), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

// sweep removes every set that the index does not name.
func (s *Store) sweep(ix index) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	for _, e := range entries {
		switch e.Name() {
		case indexFile, ix.Current + ".json", ix.Previous + ".json":
		default:
			_ = os.Remove(filepath.Join(s.dir, e.Name())) // left for the next sweep
		}
	}
	return nil
}

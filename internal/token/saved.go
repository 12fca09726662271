package token

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gatehouse/internal/wholefile"
)

// saved keeps the last good document of each key file in a folder of ours, so
// that a restart without the file can still verify. The zero value keeps none.
type saved struct {
	dir string // "" keeps none; mode 0700
}

// path is where a source's copy stands: a name that says nothing of its place.
func (s saved) path(id sourceID) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %v", id.jwks.File, id.symmetric))
	return filepath.Join(s.dir, hex.EncodeToString(sum[:16])+".json")
}

// put replaces the copy as a whole, readable by us alone.
func (s saved) put(id sourceID, doc []byte) error {
	if s.dir == "" {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("save key set: %w", err)
	}
	if err := wholefile.Replace(s.path(id), doc, 0o600); err != nil {
		return fmt.Errorf("save key set: %w", err)
	}
	return nil
}

// restoreLocked takes the copy where a key file can't be used at start. It
// never replaces a set that was read since. It needs s.loading.
func (s *source) restoreLocked() {
	if s.fromURL() || s.copies.dir == "" || s.set.Load() != nil {
		return
	}
	doc, err := readKeyFile(s.copies.path(s.id))
	if err == nil {
		err = s.replaceLocked(doc, time.Now())
	}
	if err == nil {
		s.log.Warn("key set file can't be used; the last good one is", "source", s.place())
	}
}

// saveLocked keeps a copy of what was just read. Without one a restart needs
// the file: a failure is said and changes nothing else. It needs s.loading.
func (s *source) saveLocked(doc []byte) {
	if !s.fromFile() {
		return
	}
	if err := s.copies.put(s.id, doc); err != nil {
		s.log.Warn("key set not saved", "source", s.place(), "error", err)
	}
}

package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gatehouse/internal/trusted"
)

// ConfigFile is the configuration of a policy set; the rest of a set is Rego.
const ConfigFile = "gatehouse.yaml"

// Bounds of a policy set.
const (
	maxFiles     = 1000
	maxSetBytes  = 16 << 20
	maxFileBytes = 4 << 20
	maxDepth     = 8
)

// Files is the text of a policy set by slash-separated path.
type Files map[string][]byte

// ErrNoConfig says that a folder is no policy set.
var ErrNoConfig = errors.New("there is no " + ConfigFile)

// Revision names a set by its content: the SHA-256 of its sorted paths and
// contents, each preceded by its length, in hex.
func Revision(files Files) string {
	h := sha256.New()
	field := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		field([]byte(path))
		field(files[path])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// ErrChanging says that a folder was changed all the time while it was read.
var ErrChanging = errors.New("it is being changed")

// readAttempts bounds how often Read reads a folder that is being changed.
const readAttempts = 10

// Read reads the policy set in dir: gatehouse.yaml, *.rego and data.json.
// Everything there must belong to root or to uid and be writable by its owner
// alone, because whoever can write a policy decides who may call. What is part
// of the set must be readable: a rule that denies may not vanish silently.
//
// A folder may be replaced while it is read. Read never returns a mix of the
// old and the new: two readings in a row must agree.
func Read(dir string, uid int) (Files, error) {
	files, err := agreed(func() (Files, error) { return readOnce(dir, uid) })
	if err != nil {
		return nil, fmt.Errorf("policy set %s: %w", dir, err)
	}
	return files, nil
}

// agreed reads until two readings in a row are the same set, or the same fault.
func agreed(read func() (Files, error)) (Files, error) {
	before, fault := read()
	for range readAttempts - 1 {
		files, err := read()
		switch {
		case err == nil && fault == nil && maps.EqualFunc(before, files, bytes.Equal):
			return files, nil
		case err != nil && fault != nil && err.Error() == fault.Error():
			return nil, err
		}
		before, fault = files, err
	}
	return nil, errors.Join(ErrChanging, fault)
}

func readOnce(dir string, uid int) (Files, error) {
	r := &reader{root: dir, uid: uid, files: Files{}}
	if err := r.folder(".", 0); err != nil {
		return nil, err
	}
	if r.files[ConfigFile] == nil {
		return nil, ErrNoConfig
	}
	return r.files, nil
}

type reader struct {
	root  string
	uid   int
	files Files
	total int64
}

func (r *reader) folder(rel string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: more than %d folders deep", rel, maxDepth)
	}
	dir, err := trusted.OpenFolder(filepath.Join(r.root, rel), r.uid)
	if err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	for _, e := range entries {
		if err := r.entry(filepath.Join(rel, e.Name()), depth); err != nil {
			return err
		}
	}
	return nil
}

// entry reads one name. Hidden names are skipped: editors' swap files, and the
// folders through which Kubernetes mounts a ConfigMap.
func (r *reader) entry(rel string, depth int) error {
	if strings.HasPrefix(filepath.Base(rel), ".") {
		return nil
	}
	info, err := os.Stat(filepath.Join(r.root, rel))
	switch {
	case err == nil && info.IsDir():
		return r.folder(rel, depth+1)
	case partOfSet(rel):
		return r.file(rel)
	case errors.Is(err, fs.ErrNotExist):
		return nil // gone again, or a link to nowhere, and none of ours
	}
	return err
}

func partOfSet(rel string) bool {
	base := filepath.Base(rel)
	return rel == ConfigFile || base == "data.json" || strings.HasSuffix(base, ".rego")
}

func (r *reader) file(rel string) error {
	if len(r.files) == maxFiles {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	f, err := trusted.Open(filepath.Join(r.root, rel), r.uid)
	if err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	r.total += int64(len(text))
	if len(text) > maxFileBytes || r.total > maxSetBytes {
		return fmt.Errorf("%s: a file may have %d bytes, a set %d", rel, maxFileBytes, maxSetBytes)
	}
	r.files[filepath.ToSlash(rel)] = text
	return nil
}

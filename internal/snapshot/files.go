package snapshot

import (
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
	"syscall"
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

// Read reads the policy set in dir: gatehouse.yaml, *.rego and data.json.
// Everything there must belong to root or to uid and be writable by its owner
// alone, because whoever can write a policy decides who may call.
func Read(dir string, uid int) (Files, error) {
	r := &reader{root: dir, uid: uid, files: Files{}}
	if err := r.folder(".", 0); err != nil {
		return nil, fmt.Errorf("policy set %s: %w", dir, err)
	}
	if r.files[ConfigFile] == nil {
		return nil, fmt.Errorf("policy set %s: %w", dir, ErrNoConfig)
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
	dir, err := os.Open(filepath.Join(r.root, rel))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := r.owned(dir, rel); err != nil {
		return err
	}
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return err
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
	case errors.Is(err, fs.ErrNotExist):
		return nil // gone again, or a link to nowhere: an editor at work
	case err != nil:
		return err
	case info.IsDir():
		return r.folder(rel, depth+1)
	case !partOfSet(rel):
		return nil
	}
	return r.file(rel)
}

func partOfSet(rel string) bool {
	base := filepath.Base(rel)
	return rel == ConfigFile || base == "data.json" || strings.HasSuffix(base, ".rego")
}

func (r *reader) file(rel string) error {
	if len(r.files) == maxFiles {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	f, err := os.Open(filepath.Join(r.root, rel))
	if err != nil {
		return err
	}
	defer f.Close()
	// INVARIANT: the open file is examined, not its name, so that what was
	// found trustworthy is what is read.
	if err := r.owned(f, rel); err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return err
	}
	r.total += int64(len(text))
	if len(text) > maxFileBytes || r.total > maxSetBytes {
		return fmt.Errorf("%s: a file may have %d bytes, a set %d", rel, maxFileBytes, maxSetBytes)
	}
	r.files[filepath.ToSlash(rel)] = text
	return nil
}

func (r *reader) owned(f *os.File, rel string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() && !info.IsDir() {
		return fmt.Errorf("%s: is no regular file", rel)
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	if owner != 0 && owner != r.uid {
		return fmt.Errorf("%s: belongs to uid %d, neither to root nor to uid %d", rel, owner, r.uid)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s: is writable by others than its owner (mode %04o)", rel, info.Mode().Perm())
	}
	return nil
}

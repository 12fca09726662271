package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"gatehouse/internal/revision"
	"gatehouse/internal/trusted"
)

// maxDepth bounds the folders of a policy set.
const maxDepth = 8

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
func Read(dir string, uid int) (revision.Files, error) {
	files, err := agreed(func() (revision.Files, error) { return readOnce(dir, uid) })
	if err != nil {
		return nil, fmt.Errorf("policy set %s: %w", dir, err)
	}
	return files, nil
}

// agreed reads until two readings in a row are the same set, or the same fault.
func agreed(read func() (revision.Files, error)) (revision.Files, error) {
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

func readOnce(dir string, uid int) (revision.Files, error) {
	r := &reader{root: dir, uid: uid, files: revision.Files{}}
	if err := r.folder(".", 0); err != nil {
		return nil, err
	}
	if r.files[revision.ConfigFile] == nil {
		return nil, revision.ErrNoConfig
	}
	return r.files, nil
}

type reader struct {
	root  string
	uid   int
	files revision.Files
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
	case revision.PartOfSet(filepath.ToSlash(rel)):
		return r.file(rel)
	case errors.Is(err, fs.ErrNotExist):
		return nil // gone again, or a link to nowhere, and none of ours
	}
	return err
}

func (r *reader) file(rel string) error {
	if len(r.files) == revision.MaxFiles {
		return fmt.Errorf("more than %d files", revision.MaxFiles)
	}
	f, err := trusted.Open(filepath.Join(r.root, rel), r.uid)
	if err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, revision.MaxFileBytes+1))
	if err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	r.total += int64(len(text))
	if len(text) > revision.MaxFileBytes || r.total > revision.MaxSetBytes {
		return fmt.Errorf("%s: a file may have %d bytes, a set %d", rel, revision.MaxFileBytes, revision.MaxSetBytes)
	}
	r.files[filepath.ToSlash(rel)] = text
	return nil
}

package telemetry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// recordFileWriter appends batches of whole lines to a file and rotates it by
// size, keeping one older file. It belongs to one goroutine.
type recordFileWriter struct {
	root *os.Root // the directory; names in it can't lead out
	name string
	max  int64

	file *os.File // nil after a rotation that failed half-way
	size int64
	torn bool // the file may end within a line
}

// openRecordFile opens the file at path for appending, mode 0600, whatever its
// mode was. What is there and is no regular file is refused.
func openRecordFile(path string, max int64) (*recordFileWriter, error) {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	w := &recordFileWriter{root: root, name: filepath.Base(path), max: max}
	if err := w.open(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return w, nil
}

func (w *recordFileWriter) open() error {
	if info, err := w.root.Lstat(w.name); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", w.name)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := w.root.OpenFile(w.name, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		err = f.Chmod(0o600)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	w.file, w.size, w.torn = f, info.Size(), endsTorn(f, info.Size())
	return nil
}

// endsTorn reports whether the file ends within a line, as after a crash.
func endsTorn(f *os.File, size int64) bool {
	if size == 0 {
		return false
	}
	var last [1]byte
	_, err := f.ReadAt(last[:], size-1)
	return err != nil || last[0] != '\n'
}

// write appends batch, in a new file when this one has no room. After an error
// the batch may be in the file in part; the next one starts on a new line.
func (w *recordFileWriter) write(batch []byte) error {
	if w.file == nil || w.size > 0 && w.size+int64(len(batch))+1 > w.max {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	if w.torn {
		if err := w.append([]byte{'\n'}); err != nil {
			return err
		}
		w.torn = false
	}
	return w.append(batch)
}

func (w *recordFileWriter) append(b []byte) error {
	n, err := w.file.Write(b)
	w.size += int64(n)
	if err != nil {
		w.torn = true
	}
	return err
}

// rotate renames the file over the older one and opens a new one. If that
// fails nothing is written until a later call gets through: the cap holds.
func (w *recordFileWriter) rotate() error {
	if w.file != nil {
		// Somebody may have taken the file away; then there is nothing to rename.
		if err := w.root.Rename(w.name, w.name+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// From here on the data is in the older file, whatever fails.
		err := w.file.Close()
		w.file = nil
		if err != nil {
			return err
		}
	}
	return w.open()
}

func (w *recordFileWriter) close() error {
	var err error
	if w.file != nil {
		err = w.file.Close()
	}
	return errors.Join(err, w.root.Close())
}

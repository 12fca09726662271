// Package wholefile replaces files in one step, so that nobody ever reads half
// of one: not beside a writer, and not after a crash. It has no state.
package wholefile

import (
	"errors"
	"os"
	"path/filepath"
)

// Replace writes a file in one step: whoever reads path at any time, after a
// crash too, finds the old text or the new one, whole. What mode does not allow
// was at no time allowed.
func Replace(path string, text []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // err says what matters
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes a rename outlive a power cut.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

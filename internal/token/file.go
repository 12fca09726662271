package token

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settleTime lets a file that is being written come to rest before it is read.
const settleTime = 50 * time.Millisecond

// newFileLoader returns the loader of a key set file. Only a regular file is
// opened: a pipe would block the reader for good.
func newFileLoader(path string) (func(context.Context) ([]byte, error), error) {
	if !filepath.IsAbs(path) {
		return nil, errors.New("key set file is not an absolute path")
	}
	return func(context.Context) ([]byte, error) { return readKeyFile(path) }, nil
}

func readKeyFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read key set: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("key set is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read key set: %w", err)
	}
	defer f.Close()
	return readLimited(f)
}

// watch nudges the source when something happens in the file's directory: files
// are replaced by renaming, and mounted volumes by turning a link beside them.
// Without a watcher, or if it ends, the regular look at the file remains.
func (s *source) watch(ctx context.Context) {
	w, err := fsnotify.NewWatcher()
	if err == nil {
		defer w.Close()
		err = w.Add(filepath.Dir(s.id.jwks.File))
	}
	if err != nil {
		s.log.Warn("key set file is not watched, only read at intervals", "source", s.place(), slog.Any("error", err))
		return
	}
	s.log.Info("key set file is watched", "source", s.place())
	s.watchEvents(ctx, w)
}

func (s *source) watchEvents(ctx context.Context, w *fsnotify.Watcher) {
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-w.Events:
			if !ok {
				return
			}
			if e.Op != fsnotify.Chmod && settled == nil {
				settled = time.After(settleTime)
			}
		case _, ok := <-w.Errors: // events were lost
			if !ok {
				return
			}
			s.nudge()
		case <-settled:
			settled = nil
			s.nudge()
		}
	}
}

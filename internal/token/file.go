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

	"gatehouse/internal/trusted"
)

// settleTime lets a file that is being written come to rest before it is read.
const settleTime = 50 * time.Millisecond

// newFileLoader returns the loader of a key set file. Whoever can write it can
// make tokens, so it must be as trustworthy as a policy.
func newFileLoader(path string) (func(context.Context) ([]byte, error), error) {
	if !filepath.IsAbs(path) {
		return nil, errors.New("key set file is not an absolute path")
	}
	return func(context.Context) ([]byte, error) { return readKeyFile(path) }, nil
}

func readKeyFile(path string) ([]byte, error) {
	f, err := trusted.Open(path, os.Geteuid())
	if err != nil {
		return nil, fmt.Errorf("key set file: %w", err)
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

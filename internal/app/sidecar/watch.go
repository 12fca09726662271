package sidecar

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/fsnotify/fsnotify"

	"gatehouse/internal/config"
	"gatehouse/internal/envoyconf"
)

// Times of the watch.
const (
	// settle is how long a folder must be quiet before it is read: a set is
	// written file by file, and half of one must not be tried.
	settle = 200 * time.Millisecond

	// patience is how long a folder that is never quiet can put that off.
	patience = 5 * time.Second

	// lookPeriod is how often the folder is read without an event: for changes
	// behind links, which no watch on the folder sees.
	lookPeriod = 30 * time.Second
)

// Reload makes the sidecar read its policy folder and certificates again now.
func (a *App) Reload() {
	select {
	case a.reload <- struct{}{}:
	default: // one is waiting already
	}
}

// watch observes the policy folder, with its folders, and those of the
// listeners' certificates.
func (a *App) watch() (*fsnotify.Watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watching files: %w", err)
	}
	a.watchPolicies(w)
	for _, l := range envoyconf.Listeners(a.sidecar) {
		for _, dir := range tlsFolders(l.TLS) {
			_ = w.Add(dir) // a missing file is said by loadSecrets
		}
	}
	return w, nil
}

// watchPolicies adds each folder of the set. The parent tells of a set that
// comes later, or that is swapped as a whole by a link.
func (a *App) watchPolicies(w *fsnotify.Watcher) {
	if a.control != nil {
		return
	}
	_ = w.Add(filepath.Dir(a.opts.Policies))
	root, err := filepath.EvalSymlinks(a.opts.Policies)
	if err != nil {
		return // not there yet
	}
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = w.Add(path)
		}
		return nil
	})
}

// tlsFolders are the folders of a listener's certificate files.
func tlsFolders(t *config.TLS) []string {
	if t == nil {
		return nil
	}
	out := []string{filepath.Dir(t.CertFile), filepath.Dir(t.KeyFile)}
	if t.ClientCAFile != "" {
		out = append(out, filepath.Dir(t.ClientCAFile))
	}
	return out
}

// follow reads the folder again when it was quiet after a change, at once when
// asked, and now and then.
func (a *App) follow(ctx context.Context, w *fsnotify.Watcher) {
	look := time.NewTicker(a.lookPeriod)
	defer look.Stop()
	var quiet, late <-chan time.Time // set while a change waits
	changed := func() {
		quiet = time.After(settle)
		if late == nil {
			late = time.After(patience)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-w.Events:
			if a.concerns(e) {
				changed()
			}
			continue
		case err := <-w.Errors:
			// Events were lost: what they said is found by reading again.
			a.log.Warn("watching files", "error", err)
			changed()
			continue
		case <-look.C:
			a.refreshFiles(w)
			if a.control == nil {
				a.lookAtPolicies(ctx)
			}
			continue
		case <-a.reload:
		case <-quiet:
		case <-late:
		}
		quiet, late = nil, nil
		a.reloadAll(ctx, w)
	}
}

// concerns leaves out what happens beside the policy folder and the
// certificates, and what editors write under hidden names.
func (a *App) concerns(e fsnotify.Event) bool {
	base := filepath.Base(e.Name)
	if strings.HasPrefix(base, ".") && !strings.HasPrefix(base, "..") {
		return false
	}
	if a.control == nil && a.inPolicies(e.Name) {
		return true
	}
	for _, l := range envoyconf.Listeners(a.sidecar) {
		if slices.Contains(tlsFolders(l.TLS), filepath.Dir(e.Name)) {
			return true
		}
	}
	return false
}

func (a *App) inPolicies(path string) bool {
	root, err := filepath.EvalSymlinks(a.opts.Policies)
	return within(a.opts.Policies, path) || (err == nil && within(root, path))
}

func within(dir, path string) bool {
	return path == dir || strings.HasPrefix(path, dir+string(filepath.Separator))
}

func (a *App) reloadAll(ctx context.Context, w *fsnotify.Watcher) {
	a.refreshFiles(w)
	if a.control == nil {
		a.loadPolicies(ctx)
	}
}

// refreshFiles watches folders that are new, and reads key sets and
// certificates, which are no part of a policy set.
func (a *App) refreshFiles(w *fsnotify.Watcher) {
	a.watchPolicies(w)
	a.keys.Reload()
	if err := a.loadSecrets(); err != nil {
		a.log.Error("the certificates can't be read; those before stay in use", "error", err)
	}
}

// loadSecrets hands the listeners' certificates to Envoy.
func (a *App) loadSecrets() error {
	all := map[string]*tlsv3.Secret{}
	for name, l := range envoyconf.Listeners(a.sidecar) {
		if l.TLS == nil {
			continue
		}
		var m envoyconf.Material
		var err error
		read := func(path string) []byte {
			if err != nil || path == "" {
				return nil
			}
			var text []byte
			text, err = os.ReadFile(path)
			return text
		}
		m.Certificate, m.Key, m.ClientCA = read(l.TLS.CertFile), read(l.TLS.KeyFile), read(l.TLS.ClientCAFile)
		if err != nil {
			return err
		}
		maps.Copy(all, envoyconf.Secrets(name, m))
	}
	if len(all) > 0 {
		a.ads.SetSecrets(all)
	}
	return nil
}

package sidecar

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/fsnotify/fsnotify"

	"gatehouse/internal/envoyconf"
)

// settle is how long a folder must be quiet before it is read: a set is
// written file by file, and half of one must not be tried.
const settle = 200 * time.Millisecond

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
		if l.TLS != nil {
			_ = w.Add(filepath.Dir(l.TLS.CertFile)) // a missing file is said by loadSecrets
		}
	}
	return w, nil
}

// watchPolicies adds each folder of the set. The parent tells of a set that
// comes later, or that is swapped as a whole by a link.
func (a *App) watchPolicies(w *fsnotify.Watcher) {
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

// follow reads the folder again when it was quiet after a change, and at once
// when asked.
func (a *App) follow(ctx context.Context, w *fsnotify.Watcher) {
	quiet := time.NewTimer(settle)
	quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.reload:
			a.reloadAll(ctx, w)
		case <-quiet.C:
			a.reloadAll(ctx, w)
		case e := <-w.Events:
			if a.concerns(e) {
				quiet.Reset(settle)
			}
		case err := <-w.Errors:
			// Events were lost: what they said is found by reading again.
			a.log.Warn("watching files", "error", err)
			quiet.Reset(settle)
		}
	}
}

// concerns leaves out what happens beside the policy folder and the certificates.
func (a *App) concerns(e fsnotify.Event) bool {
	root, err := filepath.EvalSymlinks(a.opts.Policies)
	if within(a.opts.Policies, e.Name) || (err == nil && within(root, e.Name)) {
		return true
	}
	for _, l := range envoyconf.Listeners(a.sidecar) {
		if l.TLS != nil && filepath.Dir(e.Name) == filepath.Dir(l.TLS.CertFile) {
			return true
		}
	}
	return false
}

func within(dir, path string) bool {
	return path == dir || strings.HasPrefix(path, dir+string(filepath.Separator))
}

func (a *App) reloadAll(ctx context.Context, w *fsnotify.Watcher) {
	a.watchPolicies(w)
	a.keys.Reload()
	if err := a.loadSecrets(); err != nil {
		a.log.Error("the certificates can't be read; those before stay in use", "error", err)
	}
	a.loadPolicies(ctx)
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

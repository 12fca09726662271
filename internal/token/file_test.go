package token

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"

	"gatehouse/internal/config"
	"gatehouse/internal/tokentest"
)

// signals is a log handler that passes messages on, for tests to wait for.
type signals chan string

func (s signals) Enabled(context.Context, slog.Level) bool { return true }
func (s signals) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s signals) WithGroup(string) slog.Handler            { return s }
func (s signals) Handle(_ context.Context, r slog.Record) error {
	s <- r.Message
	return nil
}

// expect waits for a message that begins with prefix, and drops those before.
func (s signals) expect(t *testing.T, prefix string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		select {
		case got := <-s:
			if strings.HasPrefix(got, prefix) {
				return
			}
		case <-ctx.Done():
			t.Fatalf("never logged: %s", prefix)
		}
	}
}

// A file may be replaced in any of the usual ways; a broken one changes nothing.
func TestFileIsWatched(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	next := rotated(t, is)
	dir := t.TempDir()
	path := filepath.Join(dir, "jwks.json")
	write := func(doc []byte) {
		if err := os.WriteFile(path, doc, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(is.JWKS())
	logged := make(signals, 100)
	keys := NewKeys(KeysOptions{Log: slog.New(logged)})
	keys.Start()
	defer keys.Stop()
	v, err := NewVerifier([]config.Issuer{is.Config(config.JWKS{File: path})}, keys, Options{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	old := mint(is)
	wantCode(t, v, now, old, "")
	logged.expect(t, "key set replaced")
	logged.expect(t, "key set file is watched")

	replaceFile(t, path, next.JWKS())
	logged.expect(t, "key set replaced")
	wantCode(t, v, now, old, Invalid)
	wantCode(t, v, now, mint(next), "")

	write([]byte(`{"keys":[`))
	logged.expect(t, "key set not loaded")
	wantCode(t, v, now, mint(next), "")

	write(is.JWKS())
	logged.expect(t, "key set replaced")
	wantCode(t, v, now, old, "")
	wantCode(t, v, now.Add(2*MaxKeyAge), mintFor(is, now.Add(2*MaxKeyAge)), "") // files do not age
}

func mintFor(is *tokentest.Issuer, now time.Time) string {
	return is.Mint(is.Claims(now, "developer", "acme"))
}

// Mounted volumes turn a link in the directory; the file's own link stays.
func TestLinkedFileIsWatched(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	next := rotated(t, is)
	dir := t.TempDir()
	for version, doc := range map[string][]byte{"v1": is.JWKS(), "v2": next.JWKS()} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, version, "jwks.json"), doc, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("v1", "..data")
	link("..data/jwks.json", "jwks.json")
	logged := make(signals, 100)
	keys := NewKeys(KeysOptions{Log: slog.New(logged)})
	keys.Start()
	defer keys.Stop()
	v, err := NewVerifier([]config.Issuer{is.Config(config.JWKS{File: filepath.Join(dir, "jwks.json")})}, keys, Options{})
	if err != nil {
		t.Fatal(err)
	}
	logged.expect(t, "key set file is watched")
	wantCode(t, v, time.Now(), mint(is), "")
	link("v2", "..next")
	if err := os.Rename(filepath.Join(dir, "..next"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	logged.expect(t, "key set replaced")
	wantCode(t, v, time.Now(), mint(is), Invalid)
	wantCode(t, v, time.Now(), mint(next), "")
}

func TestReloadReadsAtOnce(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	v, keys, path := newVerifier(t, is, nil)
	now := time.Now()
	others := func(mode os.FileMode) func() error {
		return func() error {
			return errors.Join(os.WriteFile(path, rotated(t, is).JWKS(), 0o600), os.Chmod(path, mode))
		}
	}
	spoilt := map[string]func() error{
		"gone":         func() error { return nil },
		"a directory":  func() error { return os.Mkdir(path, 0o700) },
		"a pipe":       func() error { return syscall.Mkfifo(path, 0o600) },
		"too large":    func() error { return os.WriteFile(path, make([]byte, maxSetBytes+1), 0o600) },
		"empty":        func() error { return os.WriteFile(path, nil, 0o600) },
		"private keys": func() error { return os.WriteFile(path, []byte(`{"keys":[{"kty":"OKP","d":"AA"}]}`), 0o600) },
		"group's":      others(0o660),
		"everybody's":  others(0o602),
	}
	if os.Geteuid() == 0 {
		spoilt["somebody's"] = func() error { return errors.Join(others(0o600)(), os.Chown(path, 12345, -1)) }
	}
	for name, spoil := range spoilt {
		if err := errors.Join(os.RemoveAll(path), spoil()); err != nil {
			t.Fatal(err)
		}
		keys.Reload()
		wantCode(t, v, now, mint(is), "")
		if st := keys.Status()[0]; st.Failure == "" || st.Epoch != 1 {
			t.Errorf("%s: got %+v", name, st)
		}
	}
	replace := rotated(t, is)
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	replaceFile(t, path, replace.JWKS())
	keys.Reload()
	wantCode(t, v, now, mint(replace), "")
	wantCode(t, v, now, mint(is), Invalid) // and no fetch is asked for: a file has none
}

func TestMissingFileIsUnavailable(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	path := filepath.Join(t.TempDir(), "missing", "jwks.json")
	logged := make(signals, 100)
	keys := NewKeys(KeysOptions{Log: slog.New(logged)})
	keys.Start()
	v, err := NewVerifier([]config.Issuer{is.Config(config.JWKS{File: path})}, keys, Options{})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, v, time.Now(), mint(is), Unavailable)
	logged.expect(t, "key set file is not watched")
	v.Close()
	keys.Stop()
}

// One file read as symmetric and as asymmetric keys serves only what it holds.
func TestOneFileForBothKinds(t *testing.T) {
	t.Parallel()
	hs := newIssuerFor(t, "HS256")
	ed := tokentest.NewIssuer(t, "ed", "https://ed.example", testAudience)
	path := writeFile(t, hs.JWKS())
	keys := NewKeys(KeysOptions{})
	v, err := NewVerifier([]config.Issuer{hs.Config(config.JWKS{File: path}), ed.Config(config.JWKS{File: path})}, keys, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	wantCode(t, v, time.Now(), mint(hs), "")
	wantCode(t, v, time.Now(), mint(ed), Unavailable)
	if n := len(keys.Status()); n != 2 {
		t.Errorf("got %d sources, want 2", n)
	}
}

// Many events in a row are one look at the file, lost ones are a look at once,
// and a change of mode is none.
func TestWatchEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &fsnotify.Watcher{Events: make(chan fsnotify.Event), Errors: make(chan error)}
		s := &source{kick: make(chan struct{}, 1)}
		ended := make(chan struct{})
		go func() { defer close(ended); s.watchEvents(t.Context(), w) }()
		kicked := func(want int, when string) {
			t.Helper()
			synctest.Wait()
			if got := len(s.kick); got != want {
				t.Errorf("%s: got %d kicks, want %d", when, got, want)
			}
			for len(s.kick) > 0 {
				<-s.kick
			}
		}
		w.Events <- fsnotify.Event{Op: fsnotify.Chmod}
		after(time.Second)
		kicked(0, "mode")
		w.Events <- fsnotify.Event{Op: fsnotify.Create}
		kicked(0, "not settled")
		<-time.After(settleTime / 2)
		w.Events <- fsnotify.Event{Op: fsnotify.Write}
		<-time.After(settleTime / 2)
		kicked(1, "settled, counted from the first event")
		after(time.Second)
		kicked(0, "later")
		w.Errors <- fsnotify.ErrEventOverflow
		kicked(1, "overflow")
		close(w.Errors)
		<-ended
	})
}

func TestWatchEventsEndsWithTheWatcher(t *testing.T) {
	t.Parallel()
	w := &fsnotify.Watcher{Events: make(chan fsnotify.Event), Errors: make(chan error)}
	close(w.Events)
	(&source{}).watchEvents(t.Context(), w)
}

func TestStartAfterStop(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	keys := NewKeys(KeysOptions{})
	keys.Start()
	keys.Stop()
	v, err := NewVerifier([]config.Issuer{is.Config(config.JWKS{File: writeFile(t, is.JWKS())})}, keys, Options{})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, v, time.Now(), mint(is), "")
	if v.issuers[testIss].source.cancel != nil {
		t.Error("goroutines were started after Stop")
	}
	v.Close() // must not wait for what never ran
	keys.Stop()
}

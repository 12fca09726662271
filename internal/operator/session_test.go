package operator

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func keeper(t *testing.T) Keeper {
	return Keeper{filepath.Join(t.TempDir(), "gatehouse", "login.json")}
}

func loggedIn(t *testing.T, s *sessions) Keeper {
	t.Helper()
	k := keeper(t)
	_, err := k.Login(t.Context(), Options{URL: s.URL}, "ada", "secret", noon())
	noError(t, err)
	return k
}

func TestLoginIsKept(t *testing.T) {
	t.Parallel()
	s := newSessions(t)
	k := loggedIn(t, s)
	got, err := k.load()
	noError(t, err)
	want := Session{API: s.URL, AccessToken: "a-r0'", RefreshToken: "r0'", Expires: noon().Add(10 * time.Minute)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("session (-want +got):\n%s", diff)
	}
	text, err := os.ReadFile(k.Path)
	noError(t, err)
	if strings.Contains(string(text), "secret") {
		t.Errorf("the file holds the password:\n%s", text)
	}
	for path, want := range map[string]fs.FileMode{k.Path: 0o600, filepath.Dir(k.Path): 0o700, k.Path + ".lock": 0o600} {
		info, err := os.Stat(path)
		noError(t, err)
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
}

func TestTokenIsRefreshedInItsLastMinute(t *testing.T) {
	t.Parallel()
	s := newSessions(t)
	k := loggedIn(t, s)
	for _, tt := range []struct {
		at   time.Duration
		want string
	}{{9 * time.Minute, "a-r0'"}, {9*time.Minute + time.Second, "a-r0''"}, {time.Hour, "a-r0'''"}} {
		c, err := k.Connect(t.Context(), s.URL, noon().Add(tt.at))
		noError(t, err)
		if c.o.Token != tt.want || c.o.URL != s.URL {
			t.Errorf("after %s: token %s for %s, want %s for %s", tt.at, c.o.Token, c.o.URL, tt.want, s.URL)
		}
	}
	if got, err := k.load(); err != nil || got.RefreshToken != "r0'''" {
		t.Errorf("kept %s, %v, want the newest refresh token", got.RefreshToken, err)
	}
	for _, call := range s.calls {
		if !strings.HasSuffix(call, " ") {
			t.Errorf("%s: an expired token was sent along", call)
		}
	}
}

// TestTwoAtOnceRefreshOnce is two processes as far as the lock is concerned:
// each opens its own.
func TestTwoAtOnceRefreshOnce(t *testing.T) {
	t.Parallel()
	s := newSessions(t)
	k := loggedIn(t, s)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c, err := Keeper{k.Path}.Connect(t.Context(), "", noon().Add(time.Hour))
			if err != nil || c.o.Token != "a-r0''" {
				t.Errorf("connecting: %v", err)
			}
		})
	}
	wg.Wait()
	if s.refused || len(s.calls) != 2 {
		t.Errorf("calls %q, refused %v, want the login and one refresh", s.calls, s.refused)
	}
}

func TestNoSession(t *testing.T) {
	t.Parallel()
	s := newSessions(t)
	k := keeper(t)
	if _, err := k.Connect(t.Context(), "", noon()); !errors.Is(err, ErrNoSession) {
		t.Errorf("without a file: %v", err)
	}
	if err := k.Logout(t.Context()); !errors.Is(err, ErrNoSession) {
		t.Errorf("logout without a file: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(k.Path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("looking for a session left a folder behind: %v", err)
	}
	k = loggedIn(t, s)
	if _, err := k.Connect(t.Context(), "https://other.test", noon()); !errors.Is(err, ErrNoSession) || !strings.Contains(err.Error(), "https://other.test") {
		t.Errorf("for another API: %v", err)
	}
	s.good = "revoked"
	if _, err := k.Connect(t.Context(), "", noon().Add(time.Hour)); !errors.Is(err, ErrNoSession) || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("after the session ended: %v", err)
	}
}

func TestFilesThatAreNoSession(t *testing.T) {
	t.Parallel()
	s := newSessions(t)
	tests := []struct {
		name, text string
		mode       fs.FileMode
		want       string
	}{
		{"readable by others", `{"api": "x", "refresh_token": "y"}`, 0o640, "can be read by others"},
		{"no JSON", "x", 0o600, "holds no login"},
		{"empty", "{}", 0o600, "holds no login"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := loggedIn(t, s)
			noError(t, errors.Join(os.WriteFile(k.Path, []byte(tt.text), 0o600), os.Chmod(k.Path, tt.mode)))
			if _, err := k.Connect(t.Context(), "", noon()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err := k.Logout(t.Context()); err == nil {
				t.Error("logging out said nothing")
			}
			if _, err := os.Stat(k.Path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("logging out left the file: %v", err)
			}
		})
	}
}

func TestLogout(t *testing.T) {
	t.Parallel()
	s := newSessions(t)
	k := loggedIn(t, s)
	noError(t, k.Logout(t.Context()))
	if got := s.calls[len(s.calls)-1]; got != "/api/v1/auth/logout Bearer a-r0'" {
		t.Errorf("the last call is %s", got)
	}
	if _, err := os.Stat(k.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file: %v", err)
	}
	k = loggedIn(t, s)
	s.Close()
	err := k.Logout(t.Context())
	if err == nil || !Unreachable(err) || !strings.Contains(err.Error(), "forgotten here") {
		t.Errorf("without the API: %v", err)
	}
	if _, err := os.Stat(k.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file: %v", err)
	}
}

func TestLockIsWaitedForNoLongerThanTheCaller(t *testing.T) {
	t.Parallel()
	k := loggedIn(t, newSessions(t))
	lock, err := os.Open(k.Path + ".lock")
	noError(t, err)
	defer lock.Close()
	noError(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX))
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if _, err := k.Connect(ctx, "", noon()); !errors.Is(err, enough) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v, want that it is in use", err)
	}
}

func TestARefreshThatFailsKeepsTheSession(t *testing.T) {
	t.Parallel()
	s := newSessions(t)
	k := loggedIn(t, s)
	before, err := k.load()
	noError(t, err)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	if _, err := k.Connect(t.Context(), "", noon().Add(time.Hour)); err == nil || errors.Is(err, ErrNoSession) {
		t.Errorf("got %v, want an error that is no end of the session", err)
	}
	if after, err := k.load(); err != nil || after != before {
		t.Errorf("the session is now %v, %v", after, err)
	}
}

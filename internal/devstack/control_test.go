package devstack

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"gatehouse/internal/config"
)

func TestSecretIsKept(t *testing.T) {
	t.Parallel()
	l := open(t, t.TempDir(), "")
	first, err := l.secret()
	noError(t, err)
	info, err := os.Stat(l.path("keys", secretFile))
	noError(t, err)
	if len(first) < 32 || info.Mode().Perm() != 0o600 {
		t.Errorf("a secret of %d bytes in a file with mode %04o, want 32 at least and 0600", len(first), info.Mode().Perm())
	}
	if again, err := l.secret(); err != nil || again != first {
		t.Errorf("the secret changed: %v", err)
	}
	if other, err := open(t, t.TempDir(), "").secret(); err != nil || other == first {
		t.Errorf("two folders have one secret: %v", err)
	}
}

func TestSecretThatCantBeHad(t *testing.T) {
	t.Parallel()
	l := open(t, t.TempDir(), "")
	noError(t, os.Mkdir(l.path("keys", secretFile), 0o700))
	_, err := l.secret()
	wantError(t, err, "control's secret")
	noError(t, os.RemoveAll(l.path("keys")))
	if _, err := l.secret(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder for it: %v", err)
	}
}

// withKeys is a set that takes tokens of an issuer.
func withKeys(issuer, url string) *config.PolicySet {
	return &config.PolicySet{Issuers: []config.Issuer{
		{Issuer: Issuer, JWKS: config.JWKS{File: "/k"}}, {Issuer: issuer, JWKS: config.JWKS{URL: url}},
	}}
}

func TestWantedAPIPort(t *testing.T) {
	t.Parallel()
	tests := []struct {
		set      *config.PolicySet
		port     int
		expected bool
	}{
		{nil, apiPort, false},
		{&config.PolicySet{}, apiPort, false},
		{withKeys(ControlIssuer, "http://127.0.0.1:8123/.well-known/jwks.json"), 8123, true},
		{withKeys(ControlIssuer, "https://[::1]:8123/keys"), 8123, true},
		{withKeys(ControlIssuer, "https://192.0.2.1:8123/keys"), apiPort, false},
		{withKeys(ControlIssuer, "https://control.test/keys"), apiPort, false},
		{withKeys(ControlIssuer, "https://127.0.0.1/keys"), apiPort, false},
		{withKeys(ControlIssuer, "://"), apiPort, false},
		{withKeys("https://other.test", "http://127.0.0.1:8123/keys"), apiPort, false},
	}
	for _, tt := range tests {
		if port, expected := wantedAPIPort(tt.set); port != tt.port || expected != tt.expected {
			t.Errorf("%+v: port %d, expected %v; want %d, %v", tt.set, port, expected, tt.port, tt.expected)
		}
	}
}

func TestAwaitedKeys(t *testing.T) {
	t.Parallel()
	const api = "127.0.0.1:8000"
	url := keySetURL(api)
	for _, tt := range []struct {
		set  *config.PolicySet
		want string
	}{
		{withKeys(ControlIssuer, url), url}, {withKeys(ControlIssuer, keySetURL("127.0.0.1:8001")), ""},
		{&config.PolicySet{}, ""}, {nil, ""},
	} {
		if got := awaitedKeys(tt.set, api); got != tt.want {
			t.Errorf("%+v: awaits %q, want %q", tt.set, got, tt.want)
		}
	}
}

// A set that is kept from an earlier run knows control at a port that may be
// taken now.
func TestOtherPortsThanTheSetKnowsAreSaid(t *testing.T) {
	t.Parallel()
	taken, err := listenLoopback(0)
	noError(t, err)
	defer taken.Close()
	out := &buffer{}
	s := bare(t, out)
	set := withKeys(ControlIssuer, "http://"+taken.Addr().String()+keySetPath)
	a, err := s.pickFor(set)
	noError(t, err)
	a.close()
	if a.api == taken.Addr().String() {
		t.Errorf("a taken port was picked: %s", a.api)
	}
	wantError(t, errors.New(out.String()), "is taken, so control is at "+a.api, "does not know its keys")
}

func TestCacheDir(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	want := filepath.Join(cache, "gatehouse", "postgres")
	if got := cacheDir(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	file := touch(t, filepath.Join(t.TempDir(), "file"), 0o644)
	for _, bad := range []string{file, "relative"} {
		t.Setenv("XDG_CACHE_HOME", bad)
		if got := cacheDir(); got != "" {
			t.Errorf("XDG_CACHE_HOME=%s: got %s, want none", bad, got)
		}
	}
}

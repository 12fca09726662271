package devstack

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
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

// A port that a set knows may be taken now.
func TestOtherPortsThanTheSetKnowsAreSaid(t *testing.T) {
	t.Parallel()
	taken, err := listenLoopback(0)
	noError(t, err)
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	for upstream, what := range map[string]string{"app": "demo app", "openai": "fake provider"} {
		out := &buffer{}
		set := &config.PolicySet{Upstreams: map[string]config.Upstream{upstream: {Host: "127.0.0.1", Port: port}}}
		a, err := bare(t, out).pickAddresses(set)
		noError(t, err)
		a.close()
		wantError(t, errors.New(out.String()), fmt.Sprintf("port %d is taken, so the %s is at", port, what), "upstream "+upstream+" is not the "+what)
		if strings.Count(out.String(), "\n") != 1 || a.hasModels(set) {
			t.Errorf("said more than that, or that models are there: %q", out)
		}
	}
}

// What a set does not expect here can be anywhere, and nothing is said of it.
func TestUpstreamsAreWhereTheSetExpectsThem(t *testing.T) {
	t.Parallel()
	free, err := listenLoopback(0)
	noError(t, err)
	port := free.Addr().(*net.TCPAddr).Port
	noError(t, free.Close())
	out := &buffer{}
	s := bare(t, out)
	set := &config.PolicySet{Upstreams: map[string]config.Upstream{"app": {Host: "192.0.2.1", Port: port}, "openai": {Host: "127.0.0.1", Port: port}}}
	a, err := s.pickAddresses(set)
	noError(t, err)
	defer a.close()
	if got := a.provider.Addr().(*net.TCPAddr).Port; got != port || !a.hasModels(set) || out.String() != "" {
		t.Errorf("the provider is at %d, want %d; models %v; said %q", got, port, a.hasModels(set), out)
	}
	if a.hasModels(nil) || a.hasModels(&config.PolicySet{}) {
		t.Error("a set without models has some")
	}
}

func TestEachUnitHasItsOwn(t *testing.T) {
	t.Parallel()
	s := bare(t, &buffer{})
	s.opts.Sidecars = 3
	a, err := s.pickAddresses(nil)
	noError(t, err)
	a.close()
	seen := map[string]bool{a.api: true, a.mesh: true}
	for _, u := range a.units {
		for _, own := range []string{
			u.name(), u.inbound, u.outbound, u.debug, s.layout.socket(u), s.layout.state(u), s.layout.sidecarFile(u), s.layout.credentialFile(u),
		} {
			if seen[own] {
				t.Errorf("%s is not one unit's alone", own)
			}
			seen[own] = true
		}
	}
	if len(a.units) != 3 {
		t.Errorf("%d units, want 3", len(a.units))
	}
}

// What is vouched for is good for the address that sidecars dial, and nobody
// but control can read its key.
func TestCertificates(t *testing.T) {
	t.Parallel()
	l := open(t, t.TempDir(), "")
	noError(t, l.writeCertificates(ownUID))
	noError(t, l.writeCertificates(ownUID)) // at each start
	cert, err := tls.LoadX509KeyPair(l.path("control", certFile), l.path("control", certKeyFile))
	noError(t, err)
	ca, err := os.ReadFile(l.path("keys", caFile))
	noError(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "127.0.0.1"}); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(l.path("control", certKeyFile))
	noError(t, err)
	folder, err := os.Stat(l.path("control"))
	noError(t, err)
	if info.Mode().Perm() != 0o600 || folder.Mode().Perm() != 0o700 {
		t.Errorf("the key has mode %04o in a folder with %04o", info.Mode().Perm(), folder.Mode().Perm())
	}
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

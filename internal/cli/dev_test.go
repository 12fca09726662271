package cli

import (
	"encoding/base64"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// devKey is a data folder with an Ed25519 key (RFC 8037, appendix A).
func devKey(t *testing.T) string {
	t.Helper()
	data := t.TempDir()
	noError(t, os.Mkdir(filepath.Join(data, "keys"), 0o700))
	key := `{"kty":"OKP","crv":"Ed25519","kid":"k","alg":"EdDSA","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	noError(t, os.WriteFile(filepath.Join(data, "keys", "dev-key.json"), []byte(key), 0o600))
	return data
}

func claimsOf(t *testing.T, r result) map[string]any {
	t.Helper()
	r.want(t, ExitOK)
	if strings.Count(r.stdout, "\n") != 1 || r.stderr != "" {
		t.Fatalf("more than a token was printed: %q, %q", r.stdout, r.stderr)
	}
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(r.stdout, ".")[1])
	noError(t, err)
	var claims map[string]any
	noError(t, json.Unmarshal(text, &claims))
	return claims
}

func TestToken(t *testing.T) {
	t.Parallel()
	data := devKey(t)
	claims := claimsOf(t, run(t, "token", "--data", data))
	want := map[string]any{
		"iss": "https://dev.gatehouse.internal", "aud": "gatehouse", "sub": "alice",
		"role": "developer", "tenant_id": "org1", "project_id": "proj1",
	}
	life := claims["exp"].(float64) - claims["iat"].(float64)
	for _, name := range []string{"exp", "iat", "jti"} {
		delete(claims, name)
	}
	if diff := cmp.Diff(want, claims); diff != "" || life != 600 {
		t.Errorf("lives %v s, want 600; -want +got\n%s", life, diff)
	}
	claims = claimsOf(t, run(t, "token", "--data", data, "--role", "admin", "--tenant", "*", "--project", "p", "--subject", "s", "--agent", "a", "--ttl", "1m", "--expired"))
	for name, value := range map[string]string{"role": "admin", "tenant_id": "*", "project_id": "p", "sub": "s", "agent_id": "a"} {
		if claims[name] != value {
			t.Errorf("%s is %v, want %s", name, claims[name], value)
		}
	}
	if exp := int64(claims["exp"].(float64)); exp > time.Now().Add(-time.Minute).Unix() {
		t.Errorf("exp %d is not over", exp)
	}
}

// duplicate is a descriptor that nothing else owns.
func duplicate(t *testing.T, f *os.File) uintptr {
	t.Helper()
	fd, err := unix.Dup(int(f.Fd()))
	noError(t, err)
	return uintptr(fd)
}

func TestInheritedListener(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	noError(t, err)
	defer f.Close()
	got, err := inherited(duplicate(t, f))
	noError(t, err)
	defer got.Close()
	if got.Addr().String() != l.Addr().String() {
		t.Errorf("listens on %s, want %s", got.Addr(), l.Addr())
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	noError(t, err)
	defer file.Close()
	if _, err := inherited(duplicate(t, file)); err == nil || !strings.Contains(err.Error(), "started by `gatehouse dev`") {
		t.Errorf("no listener: %v", err)
	}
}

func TestDevAndDemoNeedTheirPrograms(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, name := range []string{"dev", "demo"} {
		run(t, name).want(t, ExitFindings, "no gatehouse-sidecar", "make build")
	}
}

func TestColorIsForTerminals(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	noError(t, err)
	defer null.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	noError(t, err)
	defer file.Close()
	if !colored(null) || colored(file) || colored(&strings.Builder{}) {
		t.Errorf("character device %v, file %v, buffer %v; want true, false, false", colored(null), colored(file), colored(&strings.Builder{}))
	}
	t.Setenv("NO_COLOR", "1")
	if colored(null) {
		t.Error("NO_COLOR is not respected")
	}
}

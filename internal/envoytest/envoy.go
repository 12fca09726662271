// Package envoytest runs a real Envoy in tests. It is test-only: no product
// package may import it.
package envoytest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTimeout bounds how long a test waits for Envoy to do what it must.
const startTimeout = 30 * time.Second

var binary = sync.OnceValues(func() (string, error) {
	_, file, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(file), "../../scripts/envoy.sh")
	out, err := exec.Command(script).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return "", fmt.Errorf("%s: %s", script, exit.Stderr)
		}
		return "", err
	}
	return strings.TrimSpace(string(out)), nil
})

// Binary is the path of the project's Envoy; it is fetched when missing.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatalf("no Envoy to test with: %v", err)
	}
	return path
}

// Validate returns what `envoy --mode validate` says against a configuration.
func Validate(t testing.TB, yaml []byte) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(path, yaml, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(Binary(t), "--mode", "validate", "-c", path, "--log-level", "error").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// Envoy is one running process.
type Envoy struct {
	t     testing.TB
	cmd   *exec.Cmd
	log   string
	admin string
	done  chan struct{}
}

// Options are what a test may choose of the process.
type Options struct {
	Admin string // path of the admin socket
	UID   int    // > 0 runs Envoy under that uid and gid
	Level string // log level; default "warning"
}

// Start runs Envoy with the bootstrap file and stops it when the test ends.
func Start(t testing.TB, bootstrap string, o Options) *Envoy {
	t.Helper()
	level := o.Level
	if level == "" {
		level = "warning"
	}
	e := &Envoy{t: t, admin: o.Admin, log: filepath.Join(t.TempDir(), "envoy.log"), done: make(chan struct{})}
	e.cmd = exec.Command(Binary(t), "-c", bootstrap, "--disable-hot-restart", "--concurrency", "1",
		"--log-level", level, "--drain-strategy", "immediate")
	e.cmd.SysProcAttr = &syscall.SysProcAttr{}
	if o.UID > 0 {
		e.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(o.UID), Gid: uint32(o.UID)}
	}
	out, err := os.Create(e.log)
	if err != nil {
		t.Fatal(err)
	}
	e.cmd.Stdout, e.cmd.Stderr = out, out
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = e.cmd.Wait() // how it ended is in its log
		_ = out.Close()
		close(e.done)
	}()
	t.Cleanup(e.Stop)
	return e
}

// Stop kills the process; a test's end does so too.
func (e *Envoy) Stop() {
	_ = e.cmd.Process.Kill()
	<-e.done
	if e.t.Failed() {
		e.t.Logf("Envoy's log:\n%s", e.Log())
	}
}

// Log is what Envoy has logged so far, at most its last 8 KiB.
func (e *Envoy) Log() string {
	b, _ := os.ReadFile(e.log)
	return string(b[max(0, len(b)-8192):])
}

// Admin asks Envoy's admin interface; "" when it can't be reached.
func (e *Envoy) Admin(path string) string {
	client := http.Client{Timeout: startTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", e.admin)
		},
	}}
	resp, err := client.Get("http://admin" + path)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

// WaitReady waits until Envoy says that it is live and serves.
func (e *Envoy) WaitReady() {
	e.t.Helper()
	Eventually(e.t, "Envoy is live", func() bool {
		select {
		case <-e.done:
			e.t.Fatalf("Envoy ended early:\n%s", e.Log())
		default:
		}
		return strings.HasPrefix(e.Admin("/ready"), "LIVE")
	})
}

// Eventually polls a condition until it holds; it fails the test after half a
// minute. It stands for a notification where the other side has none.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(startTimeout)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", startTimeout, what)
		}
		runtime.Gosched()
		<-time.After(5 * time.Millisecond)
	}
}

// handedOut are the ports that this process has been given.
var handedOut sync.Map

// Ports are taken below the range from which the system gives connections
// theirs: a listener that a test stops and starts again finds its port free.
const firstPort, lastPort = 20000, 32000

// FreePort is a loopback port that was free a moment ago, and that no other
// call in this process gets.
func FreePort(t testing.TB) int {
	t.Helper()
	for {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if _, taken := handedOut.LoadOrStore(port, true); taken {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
}

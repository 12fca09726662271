package devstack

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestMain lets this program stand for the upstreams, which a stack starts by
// running its own program anew, and for control.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || !slices.Contains([]string{appName, providerName, "--dev"}, os.Args[1]) {
		os.Exit(m.Run())
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	if os.Args[1] == "--dev" {
		go publishKeys()
	}
	<-end
}

// publishKeys is all of control that a start waits for.
func publishKeys() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+keySetPath, func(http.ResponseWriter, *http.Request) {})
	fmt.Fprintln(os.Stderr, http.ListenAndServe(net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT")), mux))
	os.Exit(1)
}

// withControl adds this program as control, and a database that it does not
// ask for.
func withControl(t *testing.T, o Options) Options {
	t.Helper()
	self, err := os.Executable()
	noError(t, err)
	o.Control, o.Postgres = self, "postgres://nobody@127.0.0.1:1/none"
	return o
}

// publicDir is a folder that every uid can pass; those of the testing package
// are not.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gatehouse-devtest-")
	noError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	noError(t, os.Chmod(dir, 0o755))
	return dir
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// touch makes a file with a mode, and its folders.
func touch(t *testing.T, path string, mode os.FileMode) string {
	t.Helper()
	noError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	noError(t, os.WriteFile(path, []byte("#!/bin/sh\n"), mode))
	noError(t, os.Chmod(path, mode))
	return path
}

// writeProgram writes a file that is to be executed. No child may be started
// meanwhile: it would hold the file open for writing, and Linux refuses to
// execute what is.
func writeProgram(t *testing.T, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	noError(t, os.WriteFile(path, []byte(text), 0o755))
}

package devstack

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const shell = "/bin/sh"

// buffer is what a stack writes its notes to, from several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// bare is a stack without children, over a folder of its own.
func bare(t *testing.T, out *buffer) *Stack {
	t.Helper()
	s := &Stack{
		out: out, uids: shared, spawner: newSpawner(), layout: open(t, t.TempDir(), ""), whole: commonChildren + unitChildren, opts: Options{Sidecars: 1},
		died: make(chan struct{}), ended: make(chan struct{}),
	}
	s.stop = sync.OnceValue(s.stopAll)
	t.Cleanup(func() { _ = s.Stop() })
	return s
}

func script(name, text string) program {
	return program{name: name, path: shell, args: []string{"-c", text}, uid: ownUID}
}

func TestDeathIsReported(t *testing.T) {
	t.Parallel()
	out := &buffer{}
	s := bare(t, out)
	noError(t, s.run(script("sidecar", "exec sleep 600")))
	noError(t, s.run(script("app", `i=1; while [ $i -le 25 ]; do echo line $i; i=$((i+1)); done; exit 3`)))
	<-s.died
	done, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, s.Wait(done), "ended by itself: app")
	got := out.String()
	for _, want := range []string{"app ended by itself: exit status 3", "app.log", "| line 6\n", "| line 25\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("the report does not say %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "line 5\n") {
		t.Errorf("more than the last 20 lines are shown:\n%s", got)
	}
	if err := syscall.Kill(s.children[0].pid(), 0); err != nil {
		t.Errorf("the other child did not go on: %v", err)
	}
	noError(t, s.Stop())
	if strings.Contains(out.String(), "sidecar ended by itself") {
		t.Error("a child that was stopped is reported as dead")
	}
}

func TestWaitEndsWithTheLastChild(t *testing.T) {
	t.Parallel()
	s := bare(t, &buffer{})
	for i := range commonChildren + unitChildren {
		noError(t, s.run(script(fmt.Sprintf("c%d", i), "exit 0")))
	}
	wantError(t, s.Wait(t.Context()), "c0", "c1", "c2", "c3")
}

func TestStopKillsWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	s := bare(t, &buffer{})
	ready := filepath.Join(t.TempDir(), "ready")
	noError(t, s.run(script("stubborn", `trap "" TERM; touch `+ready+`; while :; do sleep 600; done`)))
	noError(t, poll(t.Context(), s.died, exists(ready)))
	c := s.children[0]
	c.stop(10 * time.Millisecond)
	if c.end != "signal: killed" {
		t.Errorf("the child ended by %q, want it killed", c.end)
	}
}

func TestStopIsFastAndTwice(t *testing.T) {
	t.Parallel()
	s := bare(t, &buffer{})
	noError(t, s.run(script("sleeper", "exec sleep 600")))
	noError(t, s.Stop())
	noError(t, s.Stop())
	if c := s.children[0]; c.end != "signal: terminated" {
		t.Errorf("the child ended by %q, want terminated", c.end)
	}
}

// The kernel ends a child with the thread that started it.
func TestChildrenEndWithTheSpawner(t *testing.T) {
	t.Parallel()
	s := newSpawner()
	c, err := s.start(program{name: "c", path: shell, args: []string{"-c", "exec sleep 600"}, uid: ownUID, log: filepath.Join(t.TempDir(), "log")})
	noError(t, err)
	s.close()
	<-c.done
	if c.end != "signal: killed" {
		t.Errorf("the child ended by %q, want it killed", c.end)
	}
}

func TestChildGetsNoEnvironment(t *testing.T) {
	t.Parallel()
	s := bare(t, &buffer{})
	noError(t, s.run(program{name: "app", path: "/usr/bin/env", uid: ownUID}))
	<-s.died
	text, err := os.ReadFile(s.layout.log("app"))
	noError(t, err)
	if len(text) > 0 {
		t.Errorf("the child's environment is not empty:\n%s", text)
	}
}

func TestProgramsThatCantStart(t *testing.T) {
	t.Parallel()
	s := newSpawner()
	defer s.close()
	log := filepath.Join(t.TempDir(), "log")
	_, err := s.start(program{name: "envoy", path: "/nowhere/envoy", uid: ownUID, log: log})
	wantError(t, err, "starting envoy", "/nowhere/envoy")
	_, err = s.start(program{name: "envoy", path: "/nowhere/envoy", uid: envoyUID, log: log})
	wantError(t, err, "starting envoy", "/nowhere/envoy")
	_, err = s.start(program{name: "app", path: shell, uid: ownUID, log: "/nowhere/log"})
	wantError(t, err, "starting app", "/nowhere/log")
}

// A program in a folder of root's own is executed by a descriptor.
func TestUnreachableProgramIsExecuted(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can start a child under another uid")
	}
	id, err := exec.LookPath("id")
	noError(t, err)
	text, err := os.ReadFile(id)
	noError(t, err)
	dir := t.TempDir()
	noError(t, os.Chmod(dir, 0o700))
	hidden := filepath.Join(dir, "id")
	writeProgram(t, hidden, string(text))
	s := newSpawner()
	defer s.close()
	log := filepath.Join(dir, "log")
	for _, flag := range []string{"-u", "-G"} {
		c, err := s.start(program{name: "id", path: hidden, args: []string{flag}, uid: appUID, log: log})
		noError(t, err)
		<-c.done
	}
	if got := strings.Join(tail(log), " "); got != "65532 65532" {
		t.Errorf("uid and groups of the child are %q, want 65532 65532", got)
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if got := tail(path); got != nil {
		t.Errorf("no file: %q", got)
	}
	noError(t, os.WriteFile(path, nil, 0o600))
	if got := tail(path); got != nil {
		t.Errorf("empty file: %q", got)
	}
	noError(t, os.WriteFile(path, []byte(strings.Repeat("x", 3*tailBytes)+"\nlast\n"), 0o600))
	got := tail(path)
	if len(got) != 2 || got[1] != "last" || len(got[0]) >= tailBytes {
		t.Errorf("long file: %d lines, want the end of two", len(got))
	}
}

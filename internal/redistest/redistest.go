// Package redistest gives tests a Redis: a real server of their own, or Mini,
// whose clock the test moves. It is test-only.
//
// A server is a child that listens on a socket in a folder of its own and keeps
// nothing; both go with the test, and with the process, however that ends. A
// test that asks fails where no Redis can be had: a skipped test would prove
// nothing. A Server belongs to one test.
package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
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

const (
	startTimeout = 10 * time.Second
	pollInterval = 5 * time.Millisecond
)

// URL leads to a server of this test's own.
func URL(t testing.TB) string {
	t.Helper()
	return Start(t).URL()
}

// Server is a real Redis.
type Server struct {
	t       testing.TB
	program string
	dir     string
	cmd     *exec.Cmd // nil while it is killed
	guard   *exec.Cmd // ends the server if this process ends first
}

// Start starts a server.
func Start(t testing.TB) *Server {
	t.Helper()
	program, err := program()
	if err != nil {
		t.Fatalf("no Redis to test with: %v", err)
	}
	// The test's own folder may have too long a name for a socket.
	dir, err := os.MkdirTemp("", "gatehouse-redistest-")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, program: program, dir: dir}
	t.Cleanup(func() {
		s.Kill()
		_ = os.RemoveAll(dir) // a folder of the system's temporary ones
	})
	s.Restart()
	return s
}

// URL leads to the server, also to the next one after Kill and Restart.
func (s *Server) URL() string { return "unix://" + s.socket() }

// PID is the process id of the running server.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Stop makes the server stand still: it takes connections and answers none.
func (s *Server) Stop() { s.signal(syscall.SIGSTOP) }

// Cont lets a server go on that was stopped.
func (s *Server) Cont() { s.signal(syscall.SIGCONT) }

// Kill ends the server at once, stopped or not. What it held is lost.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.guard.Process.Kill() // first, as it would kill a stranger with the same id
	_ = s.guard.Wait()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // it was killed, which is what it says
	s.cmd = nil
}

// Restart starts the server anew, after Kill.
func (s *Server) Restart() {
	s.t.Helper()
	_ = os.Remove(s.socket())
	s.cmd = exec.Command(s.program, "--port", "0", "--unixsocket", s.socket(), "--dir", s.dir,
		"--save", "", "--appendonly", "no", "--logfile", filepath.Join(s.dir, "log"))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	if err := s.watch(); err != nil {
		s.t.Fatal(err)
	}
	s.awaitReady()
}

func (s *Server) socket() string { return filepath.Join(s.dir, "socket") }

func (s *Server) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// guardian waits until its input ends, which our end does, and then ends the
// server and removes its folder.
const guardian = `read -r _; kill -KILL "$0"; rm -rf -- "$1"`

func (s *Server) watch() error {
	s.guard = exec.Command("sh", "-c", guardian, fmt.Sprint(s.PID()), s.dir)
	s.guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if _, err := s.guard.StdinPipe(); err != nil {
		return err
	}
	return s.guard.Start()
}

// awaitReady asks until the server answers.
func (s *Server) awaitReady() {
	s.t.Helper()
	deadline := time.After(startTimeout)
	for {
		err := s.ping()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			log, _ := os.ReadFile(filepath.Join(s.dir, "log")) // only to explain
			s.t.Fatalf("the Redis server does not answer: %v\n%s", err, log)
		case <-time.After(pollInterval):
		}
	}
}

func (s *Server) ping() error {
	conn, err := net.Dial("unix", s.socket())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(startTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprint(conn, "PING\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && strings.TrimSpace(line) != "+PONG" {
		err = fmt.Errorf("answered %q", line)
	}
	return err
}

var program = sync.OnceValues(func() (string, error) {
	_, file, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(file), "../../scripts/redis.sh")
	out, err := exec.Command(script).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("%s: %s", script, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
})

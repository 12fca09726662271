package redistest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// childVariable makes a test start a server, say where it is, and end without
// any cleanup.
const childVariable = "GATEHOUSE_TEST_REDISTEST"

func TestServerIsReal(t *testing.T) {
	t.Parallel()
	s := Start(t)
	if err := s.ping(); err != nil {
		t.Fatal(err)
	}
	first := s.PID()
	s.Kill()
	if err := s.ping(); err == nil {
		t.Error("a killed server answers")
	}
	s.Restart()
	if s.PID() == first {
		t.Error("the second server is the first")
	}
}

func TestStoppedServerTakesConnectionsOnly(t *testing.T) {
	t.Parallel()
	s := Start(t)
	s.Stop()
	conn, err := net.Dial("unix", s.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, "PING\r\n"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 16)
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := conn.Read(answer); err == nil {
		t.Errorf("a stopped server answers %q", answer[:n])
	}
	s.Cont()
	_ = conn.SetReadDeadline(time.Now().Add(startTimeout))
	if n, err := conn.Read(answer); err != nil || string(answer[:n]) != "+PONG\r\n" {
		t.Errorf("got %q, %v, want the answer", answer[:n], err)
	}
}

// TestNothingIsLeft shows that server and folder go with their process, which
// is this test again.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	if os.Getenv(childVariable) != "" {
		s := Start(t)
		fmt.Println("child", s.PID(), s.dir)
		os.Exit(0)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNothingIsLeft$")
	cmd.Env = append(os.Environ(), childVariable+"=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, line, _ := strings.Cut("\n"+string(out), "\nchild ")
	var pid int
	var dir string
	if _, err := fmt.Sscan(line, &pid, &dir); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	deadline := time.After(startTimeout)
	for !gone(fmt.Sprintf("/proc/%d", pid)) || !gone(dir) {
		select {
		case <-deadline:
			t.Fatalf("server %d or %s is left", pid, dir)
		case <-time.After(pollInterval):
		}
	}
}

func gone(path string) bool {
	_, err := os.Stat(path)
	return os.IsNotExist(err)
}

func TestMiniMovesWhenTold(t *testing.T) {
	t.Parallel()
	m := Mini(t, time.Unix(1_800_000_000, 0))
	if err := m.Set("k", "v"); err != nil {
		t.Fatal(err)
	}
	m.SetTTL("k", time.Second)
	m.Advance(999 * time.Millisecond)
	if !m.Exists("k") {
		t.Error("the key is gone too early")
	}
	m.Advance(time.Millisecond)
	if m.Exists("k") || !m.Now().Equal(time.Unix(1_800_000_001, 0)) {
		t.Errorf("the key is there at %v", m.Now())
	}
}

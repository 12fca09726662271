package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"gatehouse/internal/app/sidecar"
	"gatehouse/internal/envoytest"
)

// childVariable makes this test binary a sidecar: tests that kill one need it
// to be a process of its own.
const childVariable = "GATEHOUSE_TEST_SIDECAR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		os.Exit(child(dir))
	}
	os.Exit(m.Run())
}

func child(dir string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := sidecar.Run(ctx, sidecar.Options{
		Config: dir + "/sidecar.yaml", Policies: dir + "/policies", Log: os.Stdout,
	}, nil)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// process is a sidecar as a process of its own.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func (s *stack) startProcess() *process {
	s.t.Helper()
	out, err := os.OpenFile(s.path("sidecar.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(s.t, err)
	p := &process{cmd: exec.Command(os.Args[0], "-test.run=^$"), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), childVariable+"="+s.dir, "TOOLS_KEY=tools-secret")
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(s.t, p.cmd.Start())
	go func() {
		_ = p.cmd.Wait() // killed on purpose
		_ = out.Close()
		close(p.done)
	}()
	s.t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (s *stack) bootstrapWritten() {
	s.t.Helper()
	envoytest.Eventually(s.t, "the sidecar wrote Envoy's bootstrap", func() bool {
		_, err := os.Stat(s.path("state/envoy.yaml"))
		return err == nil
	})
}

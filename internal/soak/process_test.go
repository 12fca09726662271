package soak

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatehouse/internal/envoytest"
	"gatehouse/internal/pgserver"
)

// startPause is between two tries to start what can't be started yet.
const startPause = 100 * time.Millisecond

// running is a process that was started.
type running struct {
	pid   int
	done  <-chan struct{} // closed when it has ended
	after func()          // called once it has; may be nil
}

// unit is one process of a world, and whoever starts it again when it ends.
type unit struct {
	name  string
	start func() (running, error)
	// frail says that it may end by itself while others are down.
	frail bool

	cancel context.CancelFunc
	end    sync.WaitGroup

	mu     sync.Mutex // guards all below
	now    *running   // nil while it is down
	killed bool       // the one that is or was last
	kills  int
	ends   int // by itself
}

// supervise starts a unit, again and again, until the test ends.
func supervise(t testing.TB, name string, frail bool, start func() (running, error)) *unit {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	u := &unit{name: name, start: start, frail: frail, cancel: cancel}
	u.end.Go(func() { u.run(ctx) })
	t.Cleanup(func() {
		u.stop()
		if n := u.died(); n > 0 && !u.frail {
			t.Errorf("%s ended by itself, %d times", name, n)
		}
	})
	return u
}

func (u *unit) run(ctx context.Context) {
	for ctx.Err() == nil {
		r, err := u.start()
		if err != nil {
			<-time.After(startPause)
			continue
		}
		u.set(&r)
		if ctx.Err() != nil {
			u.kill() // stop came while it was started
		}
		<-r.done
		if r.after != nil {
			r.after()
		}
		if u.set(nil); ctx.Err() == nil && u.frail {
			<-time.After(startPause)
		}
	}
}

func (u *unit) set(r *running) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r == nil && !u.killed {
		u.ends++
	}
	u.now, u.killed = r, false
}

// kill kills the process as it is, and reports whether there was one.
func (u *unit) kill() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.now == nil || u.killed {
		return false
	}
	u.killed = true
	u.kills++
	_ = syscall.Kill(u.now.pid, syscall.SIGKILL) // it may have ended just now
	return true
}

func (u *unit) up() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.now != nil
}

func (u *unit) died() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ends
}

func (u *unit) stop() {
	u.cancel()
	u.kill()
	u.end.Wait()
}

// program is how a child is started.
type program struct {
	path string
	args []string
	env  []string
	log  string
}

// start starts a child that ends with us. The kernel takes the end of the thread
// that started a child for its parent's, so that the thread stays with it.
func (p program) start() (running, error) {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return running{}, err
	}
	cmd := exec.Command(p.path, p.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, done := make(chan error), make(chan struct{})
	go func() {
		defer close(done)
		defer out.Close()
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed on purpose
		}
	}()
	if err := <-started; err != nil {
		return running{}, fmt.Errorf("%s: %w", p.path, err)
	}
	return running{pid: cmd.Process.Pid, done: done}, nil
}

// postgres is a server that is started on the same folder and port each time.
func postgres(dir string, port int, bin string) func() (running, error) {
	cache, err := os.UserCacheDir()
	if err == nil {
		cache = filepath.Join(cache, "gatehouse")
	}
	return func() (running, error) {
		s, err := pgserver.Start(context.Background(), pgserver.Options{Dir: dir, Port: port, Bin: bin, Cache: cache})
		if err != nil {
			return running{}, err // the ones of the server before may not be gone
		}
		return running{pid: s.PID(), done: s.Done(), after: s.Stop}, nil
	}
}

func address(t testing.TB) string { return fmt.Sprintf("127.0.0.1:%d", envoytest.FreePort(t)) }

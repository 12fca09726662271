package devstack

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stopTimeout is how long a child has after SIGTERM before it is killed.
const stopTimeout = 3 * time.Second

// Of a dead child's log, the last lines are shown.
const (
	tailLines = 20
	tailBytes = 16 << 10
)

// program is what a child is started with.
type program struct {
	name  string
	path  string
	args  []string
	env   []string
	uid   int        // and gid; ownUID keeps ours
	files []*os.File // inherited, from descriptor 3 on
	log   string     // path; appended to
}

// child is one running program.
type child struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	end  string        // how it ended; read it after done
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// spawner starts programs from one thread that lives as long as the stack.
// The kernel kills a child when the thread that started it ends, and Go ends
// threads as it likes.
type spawner struct {
	starts chan func()
	done   chan struct{}
}

func newSpawner() *spawner {
	s := &spawner{starts: make(chan func()), done: make(chan struct{})}
	go s.serve()
	return s
}

// serve starts programs until there are no more to come.
func (s *spawner) serve() {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The process's first thread does not end with its goroutine: another one
		// must serve, and can't get this thread while it is held here.
		go s.serve()
		<-s.done
		runtime.UnlockOSThread()
		return
	}
	defer close(s.done) // the thread is never unlocked: it ends with the goroutine
	for start := range s.starts {
		start()
	}
}

// close ends the thread, and with it every child that still runs.
func (s *spawner) close() {
	close(s.starts)
	<-s.done
}

// start runs a program. Its error names the program and what can be done.
func (s *spawner) start(p program) (*child, error) {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	defer log.Close()
	path, files, err := openFor(p)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	c := &child{name: p.name, log: p.log, done: make(chan struct{})}
	c.cmd = &exec.Cmd{
		Path: path, Args: append([]string{p.path}, p.args...), Env: p.env, Dir: "/",
		Stdout: log, Stderr: log, ExtraFiles: files, SysProcAttr: attributes(p.uid),
	}
	started := make(chan error)
	s.starts <- func() { started <- c.cmd.Start() }
	err = <-started
	for _, f := range files[len(p.files):] {
		_ = f.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("starting %s under uid %d: %w", p.name, cmp.Or(max(p.uid, 0), os.Geteuid()), err)
	}
	go c.wait()
	return c, nil
}

func attributes(uid int) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if uid != ownUID {
		a.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	}
	return a
}

// openFor says by which path a child executes its program: its own, or, where
// the child's uid can't get there, a descriptor that it inherits.
func openFor(p program) (string, []*os.File, error) {
	if p.path == selfExe || reachable(p.path, p.uid) == nil {
		return p.path, p.files, nil
	}
	f, err := os.Open(p.path)
	if err != nil {
		return "", nil, err
	}
	files := append(p.files[:len(p.files):len(p.files)], f)
	return fmt.Sprintf("/proc/self/fd/%d", 2+len(files)), files, nil
}

// selfExe is our own program under a name that every uid can reach.
const selfExe = "/proc/self/exe"

func (c *child) wait() {
	err := c.cmd.Wait()
	c.end = "exit status 0"
	if err != nil {
		c.end = err.Error()
	}
	close(c.done)
}

// stop asks the child's process group to end, and ends it when it takes too
// long. It returns when the child has ended.
func (c *child) stop(grace time.Duration) {
	c.signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
	}
	c.signal(syscall.SIGKILL) // also what the child may have left of its group
	<-c.done
}

func (c *child) signal(s syscall.Signal) {
	// INVARIANT: Setpgid made the child's pid its group's id. A group that is
	// gone already needs no signal.
	_ = syscall.Kill(-c.pid(), s)
}

// obituary says how the child ended.
func (c *child) obituary() string { return obituary(c.name, ": "+c.end, c.log) }

// obituary says how a child ended, with the last lines of its log.
func obituary(name, end, log string) string {
	text := fmt.Sprintf("%s ended by itself%s; its log is %s", name, end, log)
	if lines := tail(log); len(lines) > 0 {
		text += ", last lines:\n  | " + strings.Join(lines, "\n  | ")
	}
	return text
}

// tail reads the last lines of a file, none where it can't be read.
func tail(path string) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	if _, err := f.Seek(-tailBytes, io.SeekEnd); err != nil && !errors.Is(err, syscall.EINVAL) {
		return nil // EINVAL: the file is shorter than that
	}
	text, err := io.ReadAll(io.LimitReader(f, tailBytes))
	if err != nil || len(text) == 0 {
		return nil
	}
	lines := strings.Split(string(bytes.TrimRight(text, "\n")), "\n")
	return lines[max(0, len(lines)-tailLines):]
}

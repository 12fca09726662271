// Package pgserver runs a Postgres of the machine as a child: for the dev
// stack and for tests, never for production.
//
// The server listens on 127.0.0.1 alone and asks everyone for a random
// password (SCRAM-SHA-256), which lies in its folder, for our uid only. It
// never runs as root: a root parent gives the data to a uid of its own. It
// ends with us, whatever ends us. Nothing is installed or fetched here.
//
// It knows no SQL driver: readiness is what the server writes into its pid
// file, and the little SQL of a new cluster goes to postgres --single. A Server
// may be used concurrently; a folder serves one server at a time.
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// What a new cluster has.
const (
	Database = "golden_arch"
	User     = "gatehouse" // a superuser
)

const (
	// readyTimeout bounds the start, the one after a crash on a slow machine.
	readyTimeout = 60 * time.Second
	readyPoll    = 5 * time.Millisecond
	// A server is asked to end, then told to, then killed.
	stopGrace = 5 * time.Second
	quitGrace = 2 * time.Second
	// portTries bounds how often another program may snatch a free port.
	portTries = 5
	// tailBytes of a dead server's log are shown.
	tailBytes = 2 << 10
)

// Options say what to run.
type Options struct {
	// Dir is the server's folder: its data, password and log. Made when missing,
	// kept by Stop. Where we are root, all folders above must let others pass.
	Dir string
	// Bin is the folder of postgres and initdb; "" looks for it, see Find.
	Bin string
	// Cache is a folder for the template of new clusters, which makes the next
	// one in a fraction of the time; "" goes without.
	Cache string
	// Port is the port to listen on; 0 takes a free one.
	Port int
	// Durable makes commits survive a crash of the machine. A crash of the
	// server, or ours, they survive always.
	Durable bool
}

// Server is a running Postgres.
type Server struct {
	port     int
	password string
	cmd      *exec.Cmd
	log      string
	lock     *os.File
	done     chan struct{} // closed when the process has ended
	end      error         // how; read it after done
	stop     sync.Once
}

// Start makes the cluster where there is none, starts the server and returns
// when it accepts connections. ctx bounds the start only.
func Start(ctx context.Context, o Options) (*Server, error) {
	s, err := start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, o Options) (*Server, error) {
	if o.Bin == "" {
		var err error
		if o.Bin, err = Find(""); err != nil {
			return nil, err
		}
	}
	c, err := openCluster(ctx, o)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		s, err := c.launch(ctx, o)
		if err == nil {
			return s, nil
		}
		if o.Port != 0 || try == portTries || !errors.Is(err, errPortTaken) {
			return nil, errors.Join(err, c.lock.Close())
		}
	}
}

// errPortTaken is a port that was free a moment ago.
var errPortTaken = errors.New("the port is taken")

// launch starts the server of a cluster once.
func (c *cluster) launch(ctx context.Context, o Options) (*Server, error) {
	port := o.Port
	if port == 0 {
		var err error
		if port, err = freePort(); err != nil {
			return nil, err
		}
	}
	s := &Server{port: port, password: c.password, log: c.path("postgres.log"), lock: c.lock, done: make(chan struct{})}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd = c.command("postgres", append([]string{"-D", c.data(), "-c", "hba_file=" + c.path("pg_hba.conf")}, settings(port, o.Durable)...)...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	// Immediate shutdown: it leaves nothing that the next start can't repair,
	// and, unlike a kill, no shared memory.
	s.cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT
	if err := s.run(); err != nil {
		return nil, err
	}
	if err := s.waitReady(ctx, filepath.Join(c.data(), "postmaster.pid")); err != nil {
		s.halt()
		return nil, err
	}
	return s, nil
}

// run starts the process, on a thread that stays until it has ended: the
// kernel takes the end of the thread that started a child for its parent's.
func (s *Server) run() error {
	started := make(chan error)
	go func() {
		defer close(s.done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := s.cmd.Start()
		started <- err
		if err == nil {
			s.end = s.cmd.Wait()
		}
	}()
	return <-started
}

// settings are the server's, on its command line.
func settings(port int, durable bool) []string {
	all := []string{
		"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(port), "unix_socket_directories=",
		"password_encryption=scram-sha-256", "ssl=off", "timezone=UTC", "log_timezone=UTC", "logging_collector=off",
		"log_destination=stderr", "log_min_messages=warning", "max_connections=100", "shared_buffers=32MB",
		"max_wal_size=256MB", "jit=off",
	}
	if !durable {
		all = append(all, "fsync=off", "full_page_writes=off")
	}
	args := make([]string, 0, 2*len(all))
	for _, setting := range all {
		args = append(args, "-c", setting)
	}
	return args
}

// waitReady waits until the server says that it accepts connections.
func (s *Server) waitReady(ctx context.Context, pidFile string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for !ready(pidFile, s.PID()) {
		select {
		case <-tick.C:
		case <-s.done:
			return s.diedEarly()
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w; its log is %s", context.Cause(ctx), s.log)
		}
	}
	return nil
}

func (s *Server) diedEarly() error {
	text := tail(s.log)
	err := fmt.Errorf("ended before it was ready: %w; its log says: %s", s.end, text)
	if strings.Contains(text, "could not create any TCP/IP sockets") {
		return fmt.Errorf("%w: %w", errPortTaken, err)
	}
	return err
}

// ready reports whether a pid file is of the process pid and says that it
// accepts connections: line 1 is the pid, line 8 the state (pg_ctl waits for
// the same; src/include/utils/pidfile.h).
func ready(pidFile string, pid int) bool {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return false
	}
	lines := strings.Split(string(text), "\n")
	return len(lines) >= 8 && lines[0] == strconv.Itoa(pid) && strings.TrimSpace(lines[7]) == "ready"
}

// PID is the process id of the server.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Port is the port on 127.0.0.1 that it listens on.
func (s *Server) Port() int { return s.port }

// Log is the path of its log.
func (s *Server) Log() string { return s.log }

// URL leads to the cluster's own database. It holds the password.
func (s *Server) URL() string { return s.URLOf(Database) }

// URLOf leads to another database of the cluster.
func (s *Server) URLOf(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(User, s.password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Done is closed when the server has ended, by Stop or by itself.
func (s *Server) Done() <-chan struct{} { return s.done }

// Stop ends the server, with connections cut, and returns when it has ended.
// It may be called again.
func (s *Server) Stop() {
	s.stop.Do(func() {
		s.halt()
		_ = s.lock.Close() // its content is nothing
	})
}

// halt ends the process.
func (s *Server) halt() {
	s.signal(syscall.SIGINT, stopGrace)
	s.signal(syscall.SIGQUIT, quitGrace)
	s.signal(syscall.SIGKILL, quitGrace)
	<-s.done
}

// signal sends one, unless the process has ended, and waits for its end.
func (s *Server) signal(sig syscall.Signal, grace time.Duration) {
	select {
	case <-s.done:
		return
	default:
	}
	_ = s.cmd.Process.Signal(sig) // fails only when it has ended
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C:
	}
}

// freePort is a loopback port that was free a moment ago.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// tail is the end of a file, on one line; "" where it can't be read.
func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return oneLine(text)
}

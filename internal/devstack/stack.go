package devstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"gatehouse/internal/config"
)

// Options are what a stack is started with. All may be left empty.
type Options struct {
	Data      string    // folder; "" makes one under the system's, removed by Stop
	Policies  string    // a policy set to use as it is, instead of the stack's own
	ReadyFile string    // written when all is ready
	Out       io.Writer // notes, and which child died; nil discards
	Sidecar   string    // the program; looked for where ""
	Envoy     string    // the program; looked for where ""
}

// appName is the word that makes our own program the demo app.
const appName = "demo-app"

// childCount is how many children a whole stack has.
const childCount = 3

// Stack is a running Gatehouse.
type Stack struct {
	opts    Options
	out     io.Writer
	layout  *layout
	uids    uids
	key     *Key
	claims  claims
	spawner *spawner
	ready   Ready
	took    time.Duration // until it was ready

	watchers sync.WaitGroup
	died     chan struct{} // closed when the first child has ended by itself
	ended    chan struct{} // closed when all children have

	mu       sync.Mutex // guards what follows
	children []*child   // in order of their start
	dead     []string   // names of those that ended by themselves
	stopping bool

	stop func() error // once
}

// Start brings a stack up and returns when all of it is ready. Its error says
// what failed; nothing is left of a stack that failed. ctx ends the start, not
// the stack.
func Start(ctx context.Context, o Options) (*Stack, error) {
	s := &Stack{
		opts: o, out: o.Out, uids: pickUIDs(), spawner: newSpawner(),
		died: make(chan struct{}), ended: make(chan struct{}),
	}
	if s.out == nil {
		s.out = io.Discard
	}
	s.stop = sync.OnceValue(s.stopAll)
	begin := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("not ready within %s", readyTimeout))
	defer cancel()
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	s.took = time.Since(begin)
	return s, nil
}

func (s *Stack) start(ctx context.Context) (err error) {
	self, err := ownProgram()
	if err != nil {
		return err
	}
	programs, err := s.programs(self)
	if err != nil {
		return err
	}
	if err := removeReady(s.opts.ReadyFile); err != nil {
		return err
	}
	if s.layout, err = openLayout(s.opts.Data, s.opts.Policies, s.uids); err != nil {
		return err
	}
	if s.key, err = s.layout.key(); err != nil {
		return err
	}
	if s.uids.envoy == ownUID {
		s.note("not root: Envoy, the app and the sidecar share uid %d; in production the app has one of its own", os.Geteuid())
	}
	return s.bringUp(ctx, programs)
}

// programs are the two that are not our own.
type programs struct{ sidecar, envoy string }

func (s *Stack) programs(self string) (p programs, err error) {
	if p.sidecar = s.opts.Sidecar; p.sidecar == "" {
		if p.sidecar, err = findSidecar(self); err != nil {
			return p, err
		}
	}
	p.envoy, err = findEnvoy(self, cmp.Or(s.opts.Envoy, os.Getenv("ENVOY")))
	return p, err
}

// addresses are those of the stack's listeners; the app's two are open.
type addresses struct {
	inbound, outbound, debug string
	app, counters            *net.TCPListener
}

// close closes our copies of the app's listeners.
func (a addresses) close() {
	for _, l := range []*net.TCPListener{a.app, a.counters} {
		if l != nil {
			_ = l.Close()
		}
	}
}

func (s *Stack) pickAddresses(wantApp int) (a addresses, err error) {
	if a.app, err = s.claims.listen(wantApp); err != nil {
		return a, err
	}
	if a.counters, err = s.claims.listen(0); err != nil {
		return a, err
	}
	for address, want := range map[*string]int{&a.inbound: inboundPort, &a.outbound: outboundPort, &a.debug: debugPort} {
		if *address, err = s.claims.take(want); err != nil {
			return a, err
		}
	}
	return a, nil
}

// bringUp starts the children in the order in which they need each other, and
// waits until the last one serves.
func (s *Stack) bringUp(ctx context.Context, p programs) error {
	set := readSet(s.layout.policies)
	want := wantedAppPort(set)
	a, err := s.pickAddresses(want)
	// The app has copies of its own. Ours would keep its ports taking
	// connections after its death.
	defer a.close()
	if err != nil {
		return err
	}
	if got := a.app.Addr().(*net.TCPAddr).Port; set != nil && got != want {
		s.note("port %d is taken, so the demo app is at %d; the policy set's upstream app is not the demo app", want, got)
	}
	if s.layout.ownSet() {
		if set, err = s.writeOwnSet(a.app.Addr().String()); err != nil {
			return err
		}
	}
	if err := s.startApp(a); err != nil {
		return err
	}
	if err := s.startSidecar(p.sidecar, a, credentialsOf(set)); err != nil {
		return err
	}
	if err := s.startEnvoy(ctx, p.envoy); err != nil {
		return err
	}
	if err := poll(ctx, s.died, serving(a.debug, a.inbound, a.outbound)); err != nil {
		return s.notReady(err)
	}
	return s.announce(a)
}

// wantedAppPort is the port at which a set expects the app on this machine.
func wantedAppPort(set *config.PolicySet) int {
	if set == nil {
		return appPort
	}
	app := set.Upstreams["app"]
	if ip, err := netip.ParseAddr(app.Host); err != nil || !ip.IsLoopback() {
		return appPort
	}
	return app.Port
}

func (s *Stack) writeOwnSet(app string) (*config.PolicySet, error) {
	err := writeSet(setValues{
		Data: s.layout.data, Policies: s.layout.policies, SidecarFile: s.layout.sidecarFile(),
		JWKS: s.layout.path("keys", jwksFile), App: "http://" + app,
	})
	return readSet(s.layout.policies), err
}

// startApp hands the app its two listeners.
func (s *Stack) startApp(a addresses) error {
	files := make([]*os.File, 0, 2)
	for _, l := range []*net.TCPListener{a.app, a.counters} {
		f, err := l.File()
		if err != nil {
			return err
		}
		defer f.Close()
		files = append(files, f)
	}
	return s.run(program{name: "app", path: selfExe, args: []string{appName}, uid: s.uids.app, files: files})
}

func (s *Stack) startSidecar(path string, a addresses, credentials []credential) error {
	config := s.layout.sidecarFile()
	err := writeSidecar(config, sidecarValues{
		Socket: s.layout.socket(), State: s.layout.path("state"), EnvoyUID: s.uids.envoy,
		Inbound: a.inbound, Outbound: a.outbound, Debug: a.debug, Credentials: credentials,
	})
	if err != nil {
		return err
	}
	return s.run(program{
		name: "sidecar", path: path, uid: ownUID, env: withCredentials(os.Environ(), credentials),
		args: []string{"--config", config, "--policies", s.layout.policies, "--log-level", "warn"},
	})
}

// startEnvoy waits for the socket, which the sidecar opens last: an Envoy that
// finds none tries again only after a while.
func (s *Stack) startEnvoy(ctx context.Context, path string) error {
	if err := poll(ctx, s.died, exists(s.layout.socket())); err != nil {
		return s.notReady(err)
	}
	return s.run(program{
		name: "envoy", path: path, uid: s.uids.envoy,
		args: []string{
			"-c", s.layout.bootstrap(), "--disable-hot-restart", "--concurrency", "1",
			"--drain-strategy", "immediate", "--log-level", "warning",
		},
	})
}

// run starts a child and a goroutine that sees it end. An empty environment
// stays empty: Envoy and the app get none of our secrets.
func (s *Stack) run(p program) error {
	p.log = s.layout.log(p.name)
	if p.env == nil {
		p.env = []string{}
	}
	c, err := s.spawner.start(p)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.children = append(s.children, c)
	s.mu.Unlock()
	s.watchers.Go(func() {
		<-c.done
		s.buried(c)
	})
	return nil
}

// buried reports a child that ended by itself.
func (s *Stack) buried(c *child) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.dead = append(s.dead, c.name)
		s.note("%s", c.obituary())
		if len(s.dead) == 1 {
			close(s.died)
		}
		if len(s.dead) == childCount {
			close(s.ended)
		}
	}
}

// notReady says what kept the stack from coming up, and what to do.
func (s *Stack) notReady(err error) error {
	err = fmt.Errorf("the stack did not come up: %w", err)
	switch {
	case errors.Is(err, errDied):
		s.mu.Lock()
		defer s.mu.Unlock()
		return fmt.Errorf("%w: %s", err, strings.Join(s.dead, ", "))
	case errors.Is(err, errRefused):
		return fmt.Errorf("%w\nMend it and check it with: gatehouse check-config %s", err, s.layout.policies)
	}
	lines := append(tail(s.layout.log("sidecar")), tail(s.layout.log("envoy"))...)
	return fmt.Errorf("%w; the sidecar's and Envoy's last words:\n%s", err, strings.Join(lines, "\n"))
}

func (s *Stack) announce(a addresses) error {
	s.ready = Ready{
		Inbound: "http://" + a.inbound, Outbound: "http://" + a.outbound, Metrics: "http://" + a.debug + "/metrics",
		Data: s.layout.data, Policies: s.layout.policies,
		App: "http://" + a.app.Addr().String(), AppCounters: "http://" + a.counters.Addr().String(),
	}
	pids := map[string]*int{"app": &s.ready.PIDs.App, "sidecar": &s.ready.PIDs.Sidecar, "envoy": &s.ready.PIDs.Envoy}
	for _, c := range s.children {
		*pids[c.name] = c.pid()
	}
	s.ready.PIDs.Gatehouse = os.Getpid()
	if s.opts.ReadyFile == "" {
		return nil
	}
	return writeReady(s.opts.ReadyFile, s.ready)
}

func (s *Stack) note(format string, args ...any) {
	fmt.Fprintf(s.out, "gatehouse: "+format+"\n", args...)
}

// Ready says what runs where.
func (s *Stack) Ready() Ready { return s.ready }

// Key is the key of the stack's tokens.
func (s *Stack) Key() *Key { return s.key }

// Token mints a token that the stack's own policy set accepts.
func (s *Stack) Token(c Claims) (string, error) { return s.key.Mint(time.Now(), c) }

// Wait returns when ctx ends or when no child is left. Its error names the
// children that ended by themselves, if any.
func (s *Stack) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-s.ended:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.dead) > 0 {
		return fmt.Errorf("ended by itself: %s", strings.Join(s.dead, ", "))
	}
	return nil
}

// Stop ends the children, last started first, and returns when they have
// ended. A second call returns the first one's result.
func (s *Stack) Stop() error { return s.stop() }

func (s *Stack) stopAll() error {
	s.mu.Lock()
	s.stopping = true
	children := s.children
	s.mu.Unlock()
	for i := len(children) - 1; i >= 0; i-- {
		children[i].stop(stopTimeout)
	}
	s.watchers.Wait()
	s.spawner.close()
	errs := []error{s.claims.release(), removeReady(s.opts.ReadyFile)}
	if s.layout != nil {
		errs = append(errs, s.layout.close())
	}
	return errors.Join(errs...)
}

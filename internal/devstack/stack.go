package devstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"

	"gatehouse/internal/config"
	"gatehouse/internal/pgserver"
)

// Options are what a stack is started with. All may be left empty.
type Options struct {
	Data      string    // folder; "" makes one under the system's, removed by Stop
	Policies  string    // a policy set to use as it is, instead of the stack's own
	ReadyFile string    // written when all is ready
	Out       io.Writer // notes, and which child died; nil discards
	Postgres  string    // URL of a database to use; "" runs one in the data folder
	Redis     string    // URL of a Redis to use; "" runs one in this process
	Sidecars  int       // how many, each with its Envoy; 0 means 1
	Sidecar   string    // the program; looked for where ""
	Control   string    // the program; looked for where ""
	Envoy     string    // the program; looked for where ""
}

// How many children a whole stack has, besides a Postgres of its own: the app, the
// provider and control, and for each unit a sidecar and its Envoy.
const (
	commonChildren = 3
	unitChildren   = 2
)

// Stack is a running Gatehouse.
type Stack struct {
	opts    Options
	out     io.Writer
	layout  *layout
	uids    uids
	key     *Key
	keys    providerKeys
	whole   int // how many children it has once it is up, Postgres included
	claims  claims
	spawner *spawner
	ready   Ready
	models  bool          // its policy set leads to the provider
	took    time.Duration // until it was ready

	redis     *miniredis.Miniredis // nil: another's
	stopRedis func()               // nil: nothing to stop

	watchers sync.WaitGroup
	died     chan struct{} // closed when the first child has ended by itself
	ended    chan struct{} // closed when all children have

	mu       sync.Mutex       // guards what follows
	children []*child         // in order of their start
	database *pgserver.Server // nil: another's
	dead     []string         // names of those that ended by themselves
	stopping bool

	stop func() error // once
}

// Start brings a stack up and returns when all of it is ready. Its error says
// what failed; nothing is left of a stack that failed. ctx ends the start, not
// the stack.
func Start(ctx context.Context, o Options) (*Stack, error) {
	s := &Stack{
		opts: o, out: o.Out, uids: pickUIDs(), keys: newProviderKeys(), spawner: newSpawner(), whole: commonChildren + unitChildren*max(o.Sidecars, 1),
		died: make(chan struct{}), ended: make(chan struct{}),
	}
	s.opts.Sidecars = max(o.Sidecars, 1)
	if s.out == nil {
		s.out = io.Discard
	}
	if o.Postgres == "" {
		s.whole++
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
		s.note("not root: all children share uid %d; in production the app has one of its own", os.Geteuid())
	}
	return s.bringUp(ctx, programs)
}

// programs are those that are not our own; postgres is the folder of several.
type programs struct{ sidecar, control, envoy, postgres string }

func (s *Stack) programs(self string) (p programs, err error) {
	if p.sidecar, err = findBeside(self, sidecarBinary, s.opts.Sidecar); err != nil {
		return p, err
	}
	if p.control, err = findBeside(self, controlBinary, s.opts.Control); err != nil {
		return p, err
	}
	if p.envoy, err = findEnvoy(self, cmp.Or(s.opts.Envoy, os.Getenv("ENVOY"))); err != nil {
		return p, err
	}
	if s.opts.Postgres == "" {
		p.postgres, err = findPostgres(os.Getenv("POSTGRES_BIN"))
	}
	return p, err
}

// addresses are those of the stack's listeners; the upstreams' are open.
type addresses struct {
	upstreams
	api, mesh string // control's API, and its service for sidecars
	units     []unit
}

// pickAddresses picks those that a set expects where they are free.
func (s *Stack) pickAddresses(set *config.PolicySet) (a addresses, err error) {
	if a.upstreams, err = s.listenFor(set); err != nil {
		return a, err
	}
	if a.api, err = s.claims.take(apiPort); err != nil {
		return a, err
	}
	if a.mesh, err = s.claims.take(meshPort); err != nil {
		return a, err
	}
	for n := 1; n <= s.opts.Sidecars; n++ {
		u := unit{number: n}
		for address, want := range map[*string]int{&u.inbound: inboundPort, &u.outbound: outboundPort, &u.debug: debugPort} {
			if *address, err = s.claims.take(want); err != nil {
				return a, err
			}
		}
		a.units = append(a.units, u)
	}
	return a, nil
}

// bringUp starts the children in the order in which they need each other, and
// waits until the last one serves.
func (s *Stack) bringUp(ctx context.Context, p programs) error {
	set := readSet(s.layout.policies)
	a, err := s.pickAddresses(set)
	defer a.close()
	if err != nil {
		return err
	}
	if s.layout.ownSet() {
		if set, err = s.writeOwnSet(a); err != nil {
			return err
		}
	}
	if err := s.startUpstreams(a.upstreams); err != nil {
		return err
	}
	if err := s.startControl(ctx, p, a); err != nil {
		return err
	}
	if err := s.startUnits(ctx, p, a, credentialsOf(set)); err != nil {
		return err
	}
	s.models = a.hasModels(set)
	return s.announce(a)
}

// startUnits registers the sidecars at control, starts them with their Envoys
// and waits until they serve.
func (s *Stack) startUnits(ctx context.Context, p programs, a addresses, credentials []credential) error {
	c, err := admin(ctx, a.api)
	if err == nil {
		err = giveBudget(ctx, c)
	}
	if err == nil {
		err = s.publish(ctx, c)
	}
	if err != nil {
		return s.notReady(err)
	}
	for _, u := range a.units {
		if err := s.register(ctx, c, u); err != nil {
			return s.notReady(err)
		}
		if err := s.startUnit(ctx, p, u, a.mesh, credentials); err != nil {
			return err
		}
	}
	for _, u := range a.units {
		if err := poll(ctx, s.died, serving(u)); err != nil {
			return s.notReady(err)
		}
	}
	return nil
}

func (s *Stack) writeOwnSet(a addresses) (*config.PolicySet, error) {
	err := writeSet(setValues{
		Data: s.layout.data, Policies: s.layout.policies, SidecarFile: s.layout.sidecarFile(a.units[0]),
		JWKS: s.layout.path("keys", jwksFile), App: "http://" + a.app.Addr().String(), Provider: "http://" + a.provider.Addr().String(),
	})
	return readSet(s.layout.policies), err
}

// run starts a child and a goroutine that sees it end. An empty environment
// stays empty: no child gets secrets that are not for it.
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
		s.buried(c.name, c.obituary())
	})
	return nil
}

// buried reports a child that ended by itself.
func (s *Stack) buried(name, obituary string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.dead = append(s.dead, name)
		s.note("%s", obituary)
		if len(s.dead) == 1 {
			close(s.died)
		}
		if len(s.dead) == s.whole {
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
	var lines []string
	for _, name := range []string{"control", "sidecar", "envoy"} {
		lines = append(lines, tail(s.layout.log(name))...)
	}
	return fmt.Errorf("%w; the last words of control, the sidecar and Envoy:\n%s", err, strings.Join(lines, "\n"))
}

func (s *Stack) announce(a addresses) error {
	first := a.units[0].ready()
	s.ready = Ready{
		API: "http://" + a.api, Mesh: a.mesh,
		Inbound: first.Inbound, Outbound: first.Outbound, Metrics: first.Metrics,
		Data: s.layout.data, Policies: s.layout.policies,
		App: "http://" + a.app.Addr().String(), AppCounters: "http://" + a.counters.Addr().String(),
		LLM: "http://" + a.provider.Addr().String(), LLMLedger: "http://" + a.ledger.Addr().String() + ledgerPath,
	}
	p := &s.ready.PIDs
	pids := map[string]*int{"app": &p.App, "llm": &p.LLM, "control": &p.Control, "sidecar": &p.Sidecar, "envoy": &p.Envoy}
	for _, u := range a.units[1:] {
		s.ready.Peers = append(s.ready.Peers, u.ready())
	}
	for i, u := range a.units[1:] {
		peer := &s.ready.Peers[i]
		pids["sidecar"+u.suffix()], pids["envoy"+u.suffix()] = &peer.Sidecar, &peer.Envoy
	}
	for _, c := range s.children {
		*pids[c.name] = c.pid()
	}
	if s.database != nil {
		p.Postgres = s.database.PID()
	}
	p.Gatehouse = os.Getpid()
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

// Stop ends the children, last started first and Postgres last, and returns
// when they have ended. A second call returns the first one's result.
func (s *Stack) Stop() error { return s.stop() }

func (s *Stack) stopAll() error {
	s.mu.Lock()
	s.stopping = true
	children, database := s.children, s.database
	s.mu.Unlock()
	for i := len(children) - 1; i >= 0; i-- {
		children[i].stop(stopTimeout)
	}
	if database != nil {
		database.Stop()
	}
	if s.stopRedis != nil {
		s.stopRedis()
	}
	s.watchers.Wait()
	s.spawner.close()
	errs := []error{s.claims.release(), removeReady(s.opts.ReadyFile)}
	if s.layout != nil {
		errs = append(errs, s.layout.close())
	}
	return errors.Join(errs...)
}

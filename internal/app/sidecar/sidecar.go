// Package sidecar is the sidecar process as a value: New, Start, Stop, Run.
// It is the only place where the sidecar's parts meet; two of them can live in
// one process.
package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/extauthz"
	"gatehouse/internal/ads"
	"gatehouse/internal/breaker"
	"gatehouse/internal/config"
	"gatehouse/internal/envoyconf"
	"gatehouse/internal/inflight"
	"gatehouse/internal/live"
	"gatehouse/internal/meshlimit"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/request"
	"gatehouse/internal/snapshot"
	"gatehouse/internal/telemetry"
	"gatehouse/internal/token"
	"gatehouse/proxy"
)

// Options are what the process is started with.
type Options struct {
	Config   string              // path of sidecar.yaml
	Policies string              // folder of the policy set; none where control sends it
	Log      io.Writer           // JSON lines; os.Stderr where nil
	Level    slog.Level          // of the log
	Env      func(string) string // os.Getenv where nil; credentials come from it
	Version  string              // of the build
	Grace    time.Duration       // ads.Grace where 0; shorter ones are for tests
	Now      func() time.Time    // time.Now where nil
}

// gcPercent collects less often than Go's default: the live heap is a few
// megabytes, so the heap stays below the promised 64 MiB at rest.
const gcPercent = 400

// stopTimeout bounds each step of stopping.
const stopTimeout = 5 * time.Second

// App is one sidecar. Start and Stop may be called once each, in this order;
// the other methods are safe for concurrent use.
type App struct {
	opts    Options
	sidecar *config.Sidecar
	log     *slog.Logger
	metrics *telemetry.Metrics
	records *telemetry.Records
	live    *live.Data
	control *control // nil without a control service
	keys    *token.Keys
	table   *snapshot.Table
	builder *snapshot.Builder
	store   *snapshot.Store
	ads     *ads.Server
	authz   *extauthz.Server

	exchanges *proxy.Server
	inFlight  *inflight.Set
	breakers  *breaker.Set

	debug *telemetry.DebugServer
	gate  *gate

	lookPeriod time.Duration // the constant outside of tests

	undo   []func()
	wg     sync.WaitGroup
	reload chan struct{}
	broken chan error // of capacity 1: why the process can't go on
	loadMu sync.Mutex // one writer of load at a time
	load   atomic.Pointer[loadState]

	storeMu sync.Mutex // one user of store at a time
}

// New reads the configuration and makes the parts. Nothing runs and nothing
// outside of the state folder changes.
func New(o Options) (*App, error) {
	o = withDefaults(o)
	sc, err := readSidecar(o.Config)
	if err != nil {
		return nil, err
	}
	if o.Policies, err = policyFolder(o.Policies, sc); err != nil {
		return nil, err
	}
	a := &App{opts: o, sidecar: sc, log: telemetry.NewLogger(o.Log, o.Level), reload: make(chan struct{}, 1), broken: make(chan error, 1), lookPeriod: lookPeriod}
	a.load.Store(&loadState{})
	if err := prepareFolders(sc); err != nil {
		return nil, err
	}
	credentials, err := credentialsFrom(sc, o.Env)
	if err != nil {
		return nil, err
	}
	if a.store, err = snapshot.NewStore(sc.StateDir); err != nil {
		return nil, err
	}
	a.metrics = telemetry.NewMetrics(o.Version)
	a.records = telemetry.NewRecords(filepath.Join(sc.StateDir, "decisions.jsonl"), a.metrics)
	a.keys = token.NewKeys(token.KeysOptions{Log: a.log, Saved: filepath.Join(sc.StateDir, "keys")})
	a.table = snapshot.NewTable()
	if err := a.belong(); err != nil {
		return nil, err
	}
	a.inFlight = inflight.New(inflight.Options{Now: a.opts.Now})
	a.breakers = breaker.New(breaker.Options{Now: a.opts.Now, Changed: a.breakerChanged})
	a.ads = ads.New(a.adsOptions())
	a.authz = extauthz.New(extauthz.Options{
		Table: a.table, Limiter: ratelimit.New(), Log: a.log, Observe: a.observe, Now: a.now,
		Live: a.live, Mesh: a.meshLimits(), Credentials: credentials, Keys: a.inFlight, Breakers: a.breakers,
	})
	a.exchanges = proxy.New(proxy.Options{
		Table: a.table, Live: a.live, Ledger: a.ledger(), Credentials: credentials, Log: a.log, Observe: a.observeExchange, Now: a.now,
		Keys: a.inFlight, Breakers: a.breakers,
	})
	a.metrics.ShowExchanges(a.exchanges.Open)
	a.debug, err = telemetry.NewDebugServer(telemetry.DebugConfig{
		Address: sc.Debug, Registry: a.metrics.Registry(), Ready: a.Ready, Status: func() any { return a.Status() },
	})
	return a, err
}

// policyFolder is where the policy set lies, "" where control sends it.
func policyFolder(dir string, sc *config.Sidecar) (string, error) {
	switch {
	case sc.Control != nil && dir != "":
		return "", errors.New("--policies: the policy set comes from control, as sidecar.yaml says; push it there, or leave control out")
	case sc.Control != nil:
		return "", nil
	case dir == "":
		return "", errors.New("needs --policies DIR, or control in sidecar.yaml")
	}
	return filepath.Abs(dir)
}

// belong makes what depends on whether there is a control service: the live
// data, and who builds snapshots.
func (a *App) belong() (err error) {
	sc := a.sidecar
	a.live = live.New(live.Binding{Workload: workload(sc), Tenant: boundTenant(sc)}, sc.Control != nil, a.opts.Now)
	if sc.Control == nil {
		a.builder = snapshot.NewBuilder(sc, a.keys, nil)
		return nil
	}
	if a.control, err = newControl(a, sc.Control); err != nil {
		return err
	}
	a.builder = snapshot.NewBuilder(sc, a.keys, a.control.feed)
	a.records.Forward(a.control.record)
	a.metrics.ShowLine(a.control.standing)
	a.metrics.ShowLedger(a.control.owing)
	return nil
}

// meshLimits ask control; nil where there is none.
func (a *App) meshLimits() extauthz.MeshLimits {
	if a.control == nil {
		return nil
	}
	return meshlimit.New(meshlimit.Options{
		Ask: a.control.line, Connected: func() int { return int(a.control.connected.Load()) },
		Observe: func(s meshlimit.Source, allowed bool, _ error) { a.metrics.MeshLimited(string(s), allowed) },
	})
}

// ledger is where holds are made; nil where there is no control, and so no budget.
func (a *App) ledger() proxy.Ledger {
	if a.control == nil {
		return nil
	}
	return a.control.ledger
}

// now is the time by which tokens are judged: control's, where there is one
// and this machine's differs.
func (a *App) now() time.Time {
	if a.control == nil {
		return a.opts.Now()
	}
	return a.control.clock.at(a.opts.Now())
}

func withDefaults(o Options) Options {
	if o.Log == nil {
		o.Log = os.Stderr
	}
	if o.Env == nil {
		o.Env = os.Getenv
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Grace == 0 {
		o.Grace = ads.Grace
	}
	return o
}

func readSidecar(path string) (*config.Sidecar, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return config.ParseSidecar(path, text)
}

func workload(sc *config.Sidecar) *request.Principal {
	w := sc.Principal
	if w == nil {
		return nil
	}
	return &request.Principal{
		Kind: request.KindWorkload, Subject: w.Subject, Tenant: w.Tenant,
		Project: w.Project, Agent: w.Agent, Role: request.Role(w.Role),
	}
}

func boundTenant(sc *config.Sidecar) string {
	if sc.Shared || sc.Principal == nil {
		return ""
	}
	return sc.Principal.Tenant
}

// credentialsFrom reads the upstreams' credentials. A missing one is a fault:
// its upstream would be called without.
func credentialsFrom(sc *config.Sidecar, env func(string) string) (map[string]request.Secret, error) {
	out := map[string]request.Secret{}
	var faults []error
	for name, c := range sc.Credentials {
		value := env(c.Env)
		if value == "" {
			faults = append(faults, fmt.Errorf("credential %s: the environment variable %s is not set", name, c.Env))
		}
		out[name] = request.Secret(value)
	}
	return out, errors.Join(faults...)
}

// Start brings the parts up in the order in which they need each other: what
// decides before what is asked, and the gate last. What fails undoes the rest.
func (a *App) Start(ctx context.Context) error {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	err := a.start(run, cancel)
	if err != nil {
		cancel()
		a.Stop(ctx)
	}
	return err
}

func (a *App) start(run context.Context, cancel context.CancelFunc) error {
	if a.control != nil {
		a.undo = append(a.undo, a.control.line.Close, a.control.ledger.Close)
	}
	if err := a.records.Start(); err != nil {
		return err
	}
	a.undo = append(a.undo, func() { a.stopped("records", a.records.Stop) })
	a.keys.Start()
	a.undo = append(a.undo, a.keys.Stop)
	if err := a.debug.Start(run); err != nil {
		return err
	}
	a.undo = append(a.undo, func() { a.stopped("debug listener", a.debug.Stop) })
	if err := a.writeBootstrap(); err != nil {
		return err
	}
	watch, err := a.watch()
	if err != nil {
		return err
	}
	a.undo = append(a.undo, func() { _ = watch.Close() })
	if err := a.loadSecrets(); err != nil {
		return err
	}
	a.undo = append(a.undo, func() { cancel(); a.wg.Wait() })
	a.restore(run)
	if a.control == nil {
		a.loadPolicies(run)
	} else {
		a.control.start(run)
	}
	a.ads.Drain(run)
	a.wg.Go(func() { a.ads.Run(run) })
	a.wg.Go(func() { a.watchKeyAges(run) })
	a.wg.Go(func() { a.follow(run, watch) })
	if a.gate, err = openGate(a.sidecar, a.log); err != nil {
		return err
	}
	a.serve(run)
	a.log.Info("sidecar started", "name", a.sidecar.Name, "socket", a.sidecar.Socket, "debug", a.debug.Addr(), "version", a.opts.Version)
	return nil
}

func (a *App) stopped(what string, stop func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := stop(ctx); err != nil {
		a.log.Warn("stopping took too long or failed", "part", what, "error", err)
	}
}

// Stop ends everything that Start began, last first, and waits for it.
func (a *App) Stop(context.Context) {
	for len(a.undo) > 0 {
		last := a.undo[len(a.undo)-1]
		a.undo = a.undo[:len(a.undo)-1]
		last()
	}
}

// Run starts a sidecar, reads the policy folder again for each value of
// reload, and stops when ctx ends or the gate can't be served any more.
func Run(ctx context.Context, o Options, reload <-chan os.Signal) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	a, err := New(o)
	if err != nil {
		return err
	}
	if err := a.Start(ctx); err != nil {
		return err
	}
	defer a.Stop(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-a.broken:
			return err // whoever started the process starts it again
		case <-reload:
			a.Reload()
		}
	}
}

// DebugAddr is the address of the debug listener, "" before Start.
func (a *App) DebugAddr() string { return a.debug.Addr() }

func (a *App) writeBootstrap() error {
	text, err := envoyconf.Bootstrap(a.sidecar)
	if err != nil {
		return err
	}
	return writeFor(a.sidecar, filepath.Join(a.sidecar.StateDir, "envoy.yaml"), text)
}

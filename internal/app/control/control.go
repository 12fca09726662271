// Package control is the control process as a value: New, Start, Stop, Run.
// It is the only place where its parts meet. Replicas need nothing but the
// database to agree.
package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/control/accounts"
	"gatehouse/control/auth"
	"gatehouse/control/breakers"
	"gatehouse/control/budgets"
	"gatehouse/control/decisions"
	"gatehouse/control/httpapi"
	"gatehouse/control/mesh"
	"gatehouse/control/rates"
	"gatehouse/control/rollout"
	"gatehouse/control/sync"
	"gatehouse/internal/postgres"
	"gatehouse/internal/telemetry"
	"gatehouse/migrations"
)

// Options are what the process is started with.
type Options struct {
	Config  Config
	Dev     bool      // migrates and seeds the well-known users of the dev stack
	Log     io.Writer // JSON lines; os.Stderr where nil
	Level   slog.Level
	Version string
}

// Bounds of starting and stopping.
const (
	stopTimeout = 10 * time.Second
	cursorUse   = "api cursors" // what the key of cursors is derived for
	prunePeriod = 10 * time.Minute
)

// App is one replica of control. Start and Stop may be called once each, in
// this order.
type App struct {
	opts   Options
	log    *slog.Logger
	pool   *pgxpool.Pool
	auth   *auth.Service
	hasher *auth.Hasher
	stores *accounts.Store
	undo   []func()

	rollout   *rollout.Service
	mesh      *mesh.Store
	decisions *decisions.Store
	budgets   *budgets.Service
	inline    *budgets.Inline
	breakers  *breakers.Service
	rates     *rates.Rates
	server    *httpapi.Server
	sync      *sync.Server // nil without a certificate for it
	metrics   *telemetry.ControlMetrics
	debug     *telemetry.DebugServer // nil where nobody asked for it
}

// New makes the parts. Nothing runs and nothing is asked of the database.
func New(ctx context.Context, o Options) (*App, error) {
	if o.Log == nil {
		o.Log = os.Stderr
	}
	a := &App{opts: o, log: telemetry.NewLogger(o.Log, o.Level), hasher: auth.NewHasher(), metrics: telemetry.NewControlMetrics(o.Version)}
	var err error
	if a.pool, err = postgres.Open(ctx, o.Config.Database); err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	a.undo = append(a.undo, a.pool.Close)
	if err := a.assemble(ctx); err != nil {
		a.Stop()
		return nil, err
	}
	return a, nil
}

// Start brings the parts up, the API last. A database with another schema
// than this build's is an error; one that is away is not: the API says so.
func (a *App) Start(ctx context.Context) error {
	err := a.start(ctx)
	if err != nil {
		a.Stop()
	}
	return err
}

func (a *App) start(ctx context.Context) error {
	if err := a.schema(ctx); err != nil {
		return err
	}
	if err := a.auth.Start(ctx); err != nil {
		return err
	}
	a.undo = append(a.undo, a.auth.Stop, a.inline.Stop)
	if err := a.server.Start(ctx); err != nil {
		return err
	}
	a.undo = append(a.undo, a.stopServer)
	if err := a.startSync(ctx); err != nil {
		return err
	}
	if err := a.startDebug(ctx); err != nil {
		return err
	}
	a.beside(ctx, a.prune)
	a.beside(ctx, a.budgets.Run)
	a.beside(ctx, a.inline.Run)
	a.beside(ctx, a.breakers.Run)
	a.askRedis(ctx)
	a.log.Info("control started", "address", a.server.Addr(), "version", a.opts.Version, "dev", a.opts.Dev)
	return nil
}

// schema brings the dev database up to date, and holds any other against this
// build.
func (a *App) schema(ctx context.Context) error {
	if a.opts.Dev {
		if _, err := migrations.Up(ctx, a.opts.Config.Database, a.log); err != nil {
			return err
		}
		return a.stores.SeedDev(ctx, a.hasher.Hash)
	}
	err := migrations.Verify(ctx, a.opts.Config.Database)
	if postgres.Away(err) {
		a.log.Warn("the database is away; its schema is not checked", "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w; run: gatehouse migrate up", err)
	}
	return nil
}

func (a *App) startSync(ctx context.Context) error {
	if a.sync == nil {
		a.log.Warn("no sidecar can belong here: MESH_CERT_FILE and MESH_KEY_FILE are not set")
		return nil
	}
	if err := a.sync.Start(ctx); err != nil {
		return err
	}
	a.undo = append(a.undo, func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := a.sync.Stop(ctx); err != nil {
			a.log.Warn("stopping the service for sidecars took too long or failed", "error", err)
		}
	})
	return nil
}

// askRedis says at once that the counters of the mesh can't be had; what hangs on
// them says so at each request, and the rest works.
func (a *App) askRedis(ctx context.Context) {
	if err := a.rates.Ping(ctx); err != nil {
		a.log.Warn("Redis can't be used: mesh rate limits can't be counted until it can", "error", err)
	}
}

// beside runs f beside the servers until the end of the process, which waits for
// it. Replicas may do the same at once.
func (a *App) beside(ctx context.Context, f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	a.undo = append(a.undo, func() { cancel(); <-done })
	go func() {
		defer close(done)
		f(ctx)
	}()
}

// prune keeps decision records within their bounds until ctx ends.
func (a *App) prune(ctx context.Context) {
	tick := time.NewTicker(prunePeriod)
	defer tick.Stop()
	for {
		n, err := a.decisions.Prune(ctx, time.Now())
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			a.log.Warn("old decision records can't be removed", "error", err)
		case n > 0:
			a.log.Info("old decision records removed", "records", n)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (a *App) stopServer() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := a.server.Stop(ctx); err != nil && !errors.Is(err, context.Canceled) {
		a.log.Warn("stopping the API took too long or failed", "error", err)
	}
}

// Stop ends everything that New and Start began, last first.
func (a *App) Stop() {
	for len(a.undo) > 0 {
		last := a.undo[len(a.undo)-1]
		a.undo = a.undo[:len(a.undo)-1]
		last()
	}
}

// Addr is the API's address, "" before Start.
func (a *App) Addr() string { return a.server.Addr() }

// Run starts a replica and stops it when ctx ends or the API can't be served.
func Run(ctx context.Context, o Options) error {
	a, err := New(ctx, o)
	if err != nil {
		return err
	}
	if err := a.Start(ctx); err != nil {
		return err
	}
	defer a.Stop()
	return a.wait(ctx)
}

// wait returns when there is nothing left to wait for; nil if ctx ended.
func (a *App) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.server.Done():
		return errors.New("the API stopped serving; the log says why")
	case <-a.syncDone():
		return errors.New("the service for sidecars stopped serving; the log says why")
	}
}

// syncDone is closed when the service for sidecars has ended; nil where there
// is none.
func (a *App) syncDone() <-chan struct{} {
	if a.sync == nil {
		return nil
	}
	return a.sync.Done()
}

// MeshAddr is the address of the service for sidecars, "" where there is none.
func (a *App) MeshAddr() string {
	if a.sync == nil {
		return ""
	}
	return a.sync.Addr()
}

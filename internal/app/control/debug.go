package control

import (
	"context"

	"gatehouse/internal/telemetry"
)

// status is what the debug listener shows at /status.
type status struct {
	Version string         `json:"version"`
	Mesh    map[string]int `json:"mesh"`  // sidecars connected here, by policy set
	Fresh   bool           `json:"fresh"` // live data can be vouched for
}

func (a *App) makeDebug(context.Context) (err error) {
	a.metrics.ShowMesh(a.standing)
	if a.opts.Config.Debug == "" {
		return nil
	}
	a.debug, err = telemetry.NewDebugServer(telemetry.DebugConfig{
		Address: a.opts.Config.Debug, Registry: a.metrics.Registry(),
		Ready: func() error { return nil }, // the API says it at /readyz
		Status: func() any {
			s := status{Version: a.opts.Version, Mesh: map[string]int{}}
			if a.sync != nil {
				now := a.sync.Status()
				s.Mesh, s.Fresh = now.Connected, now.Fresh
			}
			return s
		},
	})
	return wrap("DEBUG_ADDRESS", err)
}

func (a *App) standing() telemetry.Mesh {
	pool := a.pool.Stat()
	m := telemetry.Mesh{Conns: int(pool.AcquiredConns()), MaxConns: int(pool.MaxConns())}
	if a.sync == nil {
		return m
	}
	now := a.sync.Status()
	for _, n := range now.Connected {
		m.Connected += n
	}
	m.Fresh = now.Fresh
	return m
}

func (a *App) startDebug(ctx context.Context) error {
	if a.debug == nil {
		return nil
	}
	if err := a.debug.Start(ctx); err != nil {
		return err
	}
	a.undo = append(a.undo, func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		_ = a.debug.Stop(ctx) // nothing depends on it
	})
	return nil
}

// DebugAddr is the address of the debug listener, "" where there is none.
func (a *App) DebugAddr() string {
	if a.debug == nil {
		return ""
	}
	return a.debug.Addr()
}

package sidecar

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"gatehouse/internal/accesslog"
	"gatehouse/internal/envoyconf"
	"gatehouse/internal/rawgrpc"
)

// Bounds of the gate's gRPC server.
const (
	maxMessage    = envoyconf.MaxBody + 1<<20 // a whole body and what goes with it
	maxStreams    = 10000
	streamWorkers = 32 // goroutines that keep their stacks; more calls get their own
	streamWindow  = 1 << 20
	connWindow    = 4 << 20
	minPingPeriod = 5 * time.Second // Envoy pings every 10 s
	drainTimeout  = 2 * time.Second
)

// serve answers Envoy on the gate.
func (a *App) serve(run context.Context) {
	g := grpc.NewServer(
		grpc.ForceServerCodecV2(rawgrpc.Codec()),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connWindow),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingPeriod, PermitWithoutStream: true}),
	)
	a.authz.Register(g)
	a.exchanges.Register(g)
	accesslog.New(a.metrics, outcomes{a}).Register(g)
	a.ads.Register(run, g)
	a.wg.Go(func() {
		if err := g.Serve(a.gate); err != nil { // nil after drain
			a.broken <- fmt.Errorf("gate: stopped serving: %w", err)
		}
	})
	// What ended while it drains is settled by what is known then: nobody waits
	// for the access log, whose stream ends too.
	a.undo = append(a.undo, func() { a.exchanges.Close(); drain(g) })
}

// drain lets calls under way end, but not for long: the streams of discovery
// and of the access log never end by themselves.
func drain(g *grpc.Server) {
	timer := time.AfterFunc(drainTimeout, g.Stop)
	defer timer.Stop()
	g.GracefulStop()
}

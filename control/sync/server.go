package sync

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"gatehouse/internal/mesh"
	"gatehouse/internal/rawgrpc"
)

// Bounds of connections and messages.
const (
	maxConnections = maxSidecars + 1000
	maxCalls       = 256     // at once on one connection
	maxMessage     = 8 << 20 // bytes from a sidecar: a batch of records must stay below
	maxHeaderList  = 8 << 10
	readBuffer     = 8 << 10 // bytes of each connection
	connectWithin  = 10 * time.Second
	idleWithin     = 30 * time.Second // a sidecar always has a stream
	pingEvery      = 10 * time.Second // of a silent connection
	pingWithin     = 20 * time.Second // else the connection is dead
	minClientPings = 5 * time.Second
)

// Server is the service on its address. Make it with New.
type Server struct {
	opts     Options
	door     *door
	roster   *roster
	hub      *hub
	reports  *reports[mesh.Report]
	breakers *reports[mesh.BreakerReport] // what they say comes to nothing where nobody keeps it
	recorder *recorder
	places   chan struct{} // a stream each
	strange  strangers     // streams that have not said Hello, by credential
	takes    chan struct{} // a decision of a rate each

	ledgers      ledgers
	ledgerPlaces chan struct{} // a ledger stream each
	ledgerItems  chan struct{} // an item under way each

	wg sync.WaitGroup // what calls began, and may outlive them for a moment

	stopping chan struct{} // closed when streams must end
	done     chan struct{} // closed when the serving goroutine has ended
	err      error         // why it ended; set before done is closed

	mu       sync.Mutex // guards all below
	grpc     *grpc.Server
	listener net.Listener // nil before Start
	stopped  bool
	loops    sync.WaitGroup
	cancel   context.CancelFunc // ends the loops
}

// New checks the options. Nothing runs before Start.
func New(o Options) (*Server, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	d := newDoor(o.Registry)
	r := newRoster(o.Registry, d.ask)
	return &Server{
		opts: o, door: d, roster: r, hub: newHub(o, r),
		reports: newReports(o.Registry, o.Log), breakers: newBreakerReports(o.Breakers, o.Log), recorder: newRecorder(o.Records, o.Log),
		places: make(chan struct{}, maxSidecars), takes: make(chan struct{}, maxTakes),
		ledgerPlaces: make(chan struct{}, maxSidecars), ledgerItems: make(chan struct{}, maxLedgerItems),
		stopping: make(chan struct{}), done: make(chan struct{}),
	}, nil
}

// Start reads the certificate, listens and serves until Stop. It may be called
// once. ctx bounds the start alone.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || s.listener != nil {
		return errors.New("sync: started before")
	}
	cert, err := tls.LoadX509KeyPair(s.opts.CertFile, s.opts.KeyFile)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", s.opts.Address)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	s.listener = ln
	s.grpc = s.newGRPC(cert)
	loops, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	s.loops.Go(func() { s.hub.run(loops) })
	s.loops.Go(func() { s.reports.run(loops) })
	s.loops.Go(func() { s.breakers.run(loops) })
	go s.serve(s.grpc, netutil.LimitListener(ln, maxConnections))
	return nil
}

// newGRPC makes the server. From the outside in: connections are bounded, TLS
// before a word; calls by number and size; then each handler begins with admit,
// which lets in only sidecars.
func (s *Server) newGRPC(cert tls.Certificate) *grpc.Server {
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})),
		grpc.ConnectionTimeout(connectWithin),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingEvery, Timeout: pingWithin, MaxConnectionIdle: idleWithin}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minClientPings, PermitWithoutStream: true}),
		grpc.MaxConcurrentStreams(maxCalls),
		grpc.MaxHeaderListSize(maxHeaderList),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.ReadBufferSize(readBuffer),
		grpc.WaitForHandlers(true),
		grpc.ForceServerCodecV2(rawgrpc.Codec()), // passes messages that are encoded once for all
	)
	g.RegisterService(service(), s)
	return g
}

func (s *Server) serve(g *grpc.Server, ln net.Listener) {
	defer close(s.done)
	if err := g.Serve(ln); err != nil {
		s.err = fmt.Errorf("sync: %w", err)
	}
}

// Addr is the address listened on, "" before Start.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// Done is closed when serving has ended, by Stop or by a failure that Stop
// then returns.
func (s *Server) Done() <-chan struct{} { return s.done }

// Stop ends all streams, so that sidecars go to another process, waits for
// calls under way until ctx ends, then cuts them, and hands on what sidecars
// reported. It may be called at any time and again. The error tells why serving
// ended before.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.stopped
	s.stopped = true
	if s.listener == nil {
		return nil
	}
	if first {
		close(s.stopping)
		stop := context.AfterFunc(ctx, s.grpc.Stop)
		s.grpc.GracefulStop()
		stop()
		s.wg.Wait()
		s.cancel()
		s.loops.Wait()
	}
	<-s.done
	return s.err
}

// Status is what the server can show of itself.
type Status struct {
	Connected map[string]int // sidecars connected to this process, by policy set
	Fresh     bool           // what is in force could be asked for in the last seconds
}

// Status shows who is connected, and whether what they were told is confirmed.
func (s *Server) Status() Status {
	return Status{
		Connected: s.roster.wanted().sets,
		Fresh:     time.Since(*s.hub.fresh.Load()) <= freshFor,
	}
}

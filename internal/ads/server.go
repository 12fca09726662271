package ads

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"

	"gatehouse/internal/envoyconf"
)

// maxEvents bounds what waits for the loop; an Envoy that sends more loses its stream.
const maxEvents = 10000

// Options are what a Server needs. The functions are called from one
// goroutine, in order, and must not call back into the Server.
type Options struct {
	Grace   time.Duration                  // Grace outside of tests
	Log     *slog.Logger                   // never nil
	Active  func(revision string)          // a revision is in force
	Taken   func(revision string)          // Envoy has confirmed the revision in force
	Failed  func(revision, reason string)  // a revision was given up
	Dropped func(revision string)          // no request can match it any more
	Nacked  func(resourceType, why string) // Envoy refused resources
	Retired func(clusters int)             // clusters that wait for their timer
}

// Server serves one Envoy its configuration. Its methods are safe for
// concurrent use; the state belongs to Run's goroutine.
type Server struct {
	opts  Options
	cache cache.SnapshotCache

	mu     sync.Mutex // guards events and nacks
	events []event
	nacks  map[nackKey]Nack
	status Status
	notify chan struct{}

	sw      *Switch                  // owned by Run
	want    *Want                    // owned by Run
	secrets map[string]*tlsv3.Secret // owned by Run
}

// event is one thing that happened, applied to the switch by the loop.
type event func(now time.Time) Effect

// Nack is what Envoy said against one resource.
type Nack struct {
	Type     string    `json:"type"`
	Resource string    `json:"resource"`
	Reason   string    `json:"reason"`
	Time     time.Time `json:"time"`
}

type nackKey struct{ typeURL, name string }

// Status is what the server can show of itself.
type Status struct {
	Connected int    `json:"connected"`
	Phase     Phase  `json:"phase"`
	Active    string `json:"active"`
	Retired   int    `json:"retired_clusters"`
	Nacks     []Nack `json:"nacks"`
}

// New makes a server that has nothing to serve yet. Envoy keeps what it has
// until the first Push: an empty snapshot would delete its listeners.
func New(o Options) *Server {
	return &Server{
		opts:    o,
		cache:   cache.NewSnapshotCache(true, oneNode{}, nil),
		nacks:   map[nackKey]Nack{},
		notify:  make(chan struct{}, 1),
		sw:      NewSwitch(o.Grace),
		secrets: map[string]*tlsv3.Secret{},
	}
}

// oneNode: the socket belongs to one Envoy, whatever it calls itself.
type oneNode struct{}

// ID implements cache.NodeHash.
func (oneNode) ID(*corev3.Node) string { return envoyconf.NodeID }

// Register adds the discovery service to the gate's gRPC server. ctx ends its streams.
func (s *Server) Register(ctx context.Context, g grpc.ServiceRegistrar) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, serverv3.NewServer(ctx, s.cache, s.callbacks()))
}

// Push asks for a revision; Active or Failed says what became of it. know is
// called first, in the order of the other functions: whoever answers requests
// of the revision learns of it before Envoy does, and after it was last dropped.
func (s *Server) Push(res *envoyconf.Resources, know func()) {
	s.post(func(now time.Time) Effect {
		know()
		return s.sw.Push(now, res)
	})
}

// Restore says what Envoy may hold from before a restart; see Switch.Restore.
func (s *Server) Restore(until time.Time, previous *envoyconf.Resources) {
	s.post(func(time.Time) Effect { s.sw.Restore(until, previous); return Effect{} })
}

// SetSecrets replaces the listeners' TLS material.
func (s *Server) SetSecrets(secrets map[string]*tlsv3.Secret) {
	s.post(func(time.Time) Effect {
		s.secrets = secrets
		return Effect{Set: s.want}
	})
}

// Run applies events until ctx ends. It must run exactly once.
func (s *Server) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.notify:
		case <-timer.C:
		}
		s.Drain(ctx)
		s.apply(ctx, s.sw.Tick(time.Now()))
		if at := s.sw.Deadline(); !at.IsZero() {
			timer.Reset(time.Until(at))
		}
	}
}

// Status shows where the switch stands.
func (s *Server) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.status
	out.Nacks = make([]Nack, 0, len(s.nacks))
	for _, n := range s.nacks {
		out.Nacks = append(out.Nacks, n)
	}
	slices.SortFunc(out.Nacks, func(a, b Nack) int {
		return cmp.Or(strings.Compare(a.Type, b.Type), strings.Compare(a.Resource, b.Resource))
	})
	return out
}

func (s *Server) post(e event) {
	s.mu.Lock()
	s.events = append(s.events, e)
	s.mu.Unlock()
	select {
	case s.notify <- struct{}{}:
	default:
	}
}

// Drain applies what was asked so far. It is for before Run, so that what is
// served is there when the gate opens.
func (s *Server) Drain(ctx context.Context) {
	for {
		s.mu.Lock()
		events := s.events
		s.events = nil
		s.mu.Unlock()
		if len(events) == 0 {
			return
		}
		for _, e := range events {
			s.apply(ctx, e(time.Now()))
		}
	}
}

// apply carries out an effect. The order matters: what is in force is made
// known after Envoy was told, and a revision is dropped last of all.
func (s *Server) apply(ctx context.Context, e Effect) {
	if e.Set != nil {
		s.want = e.Set
		s.set(ctx, e.Set)
	}
	if e.Failed != nil {
		s.opts.Failed(e.Failed.Revision, e.Failed.Reason)
	}
	if e.Active != "" {
		s.opts.Active(e.Active)
	}
	if e.Confirmed != "" {
		s.opts.Taken(e.Confirmed)
	}
	for _, rev := range e.Dropped {
		s.opts.Dropped(rev)
	}
	s.mu.Lock()
	s.status.Connected, s.status.Phase, s.status.Retired = s.sw.connected, s.sw.phase, len(s.sw.retired)
	if e.Active != "" {
		s.status.Active = e.Active
	}
	s.mu.Unlock()
	s.opts.Retired(len(s.sw.retired))
}

// set hands Envoy what it should have.
func (s *Server) set(ctx context.Context, w *Want) {
	s.forgetNacks(map[string]map[string]bool{
		resource.ClusterType:  names(w.Clusters),
		resource.ListenerType: names(w.Base.Listeners),
		resource.RouteType:    names(w.Routes),
		resource.SecretType:   names(s.secrets),
	})
	snapshot, err := cache.NewSnapshot(strconv.Itoa(w.Version), map[resource.Type][]types.Resource{
		resource.ClusterType:  resources(w.Clusters),
		resource.ListenerType: resources(w.Base.Listeners),
		resource.RouteType:    resources(w.Routes),
		resource.SecretType:   resources(s.secrets),
	})
	if err == nil {
		err = s.cache.SetSnapshot(ctx, envoyconf.NodeID, snapshot)
	}
	if err != nil && ctx.Err() == nil {
		s.opts.Log.Error("discovery: could not set the snapshot", "error", err)
	}
}

func resources[M types.Resource](all map[string]M) []types.Resource {
	out := make([]types.Resource, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name])
	}
	return out
}

func names[M types.Resource](all map[string]M) map[string]bool {
	out := make(map[string]bool, len(all))
	for name := range all {
		out[name] = true
	}
	return out
}

func tooMany(n int) error {
	if n >= maxEvents {
		return fmt.Errorf("discovery: %d events wait; the stream is closed", n)
	}
	return nil
}

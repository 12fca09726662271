package proxy

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"

	"gatehouse/budget"
	"gatehouse/internal/breaker"
	"gatehouse/internal/inflight"
	"gatehouse/internal/live"
	"gatehouse/internal/request"
	"gatehouse/internal/snapshot"
)

// Bounds of a server.
const (
	// maxWaiting is how many bytes of bodies may wait for their verdict at once,
	// of all exchanges.
	maxWaiting = 512 << 20

	// evidenceWait is how long an exchange that ended without an answer waits for
	// the access log, which alone can prove that nothing went upstream.
	evidenceWait = 5 * time.Second

	// holdGrace is how long a hold outlives its exchange's longest stream, for a
	// settlement that comes late.
	holdGrace = 10 * time.Minute
)

// Ledger takes holds and settles them. It is safe for concurrent use.
type Ledger interface {
	// Reserve asks for a hold within a tenant. After an error nothing may go
	// upstream; what control did with it is undone by the ledger.
	Reserve(ctx context.Context, tenant string, h budget.Hold) (budget.Answer, error)

	// TopUp raises a hold to total tokens. Repeated, it does nothing more.
	TopUp(ctx context.Context, tenant string, k budget.Key, total int64) error

	// Settle takes a commit or a release for good. It does not wait for control.
	Settle(tenant string, s budget.Settlement)
}

// Options are what a Server needs.
type Options struct {
	Table       *snapshot.Table
	Live        *live.Data
	Ledger      Ledger                    // nil where there is no control: budgets are not available
	Credentials map[string]request.Secret // of the upstreams, by name
	Keys        *inflight.Set             // idempotency keys; nil asks nobody
	Breakers    *breaker.Set              // of the upstreams; nil asks nobody. The access log tells it how a call ended
	Log         *slog.Logger
	Observe     func(*Event)     // called once at the end of each exchange; must not block
	Now         func() time.Time // time.Now outside of tests
}

// Server answers ext_proc. It is safe for concurrent use.
type Server struct {
	pb.UnimplementedExternalProcessorServer
	opts    Options
	waiting atomic.Int64  // bytes of bodies that wait
	closing chan struct{} // closed when no evidence is waited for any more
	close   func()

	mu   sync.Mutex
	open map[string]*exchange // by request id, from the request's headers to the stream's end
}

// New makes a server.
func New(o Options) *Server {
	s := &Server{opts: o, closing: make(chan struct{}), open: map[string]*exchange{}}
	s.close = sync.OnceFunc(func() { close(s.closing) })
	return s
}

// Register adds the service to a gRPC server.
func (s *Server) Register(g grpc.ServiceRegistrar) { pb.RegisterExternalProcessorServer(g, s) }

// Close ends the waiting for evidence, so that what has ended is settled at once.
func (s *Server) Close() { s.close() }

// Open is the number of exchanges under way.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

var errTwice = errors.New("an exchange of this request is open")

// enter makes an exchange known by its request's id.
func (s *Server) enter(x *exchange) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.requestID == "" || s.open[x.requestID] != nil {
		return errTwice
	}
	s.open[x.requestID] = x
	return nil
}

func (s *Server) leave(x *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[x.requestID] == x {
		delete(s.open, x.requestID)
	}
}

// Logged tells what the access log says of a request that has ended. Entries of
// requests that are no exchange are passed over.
func (s *Server) Logged(requestID string, upstreamReached bool) {
	s.mu.Lock()
	x := s.open[requestID]
	s.mu.Unlock()
	if x != nil {
		x.log(upstreamReached)
	}
}

// Recheck cuts the exchanges of principals that the live data refuses now. It
// does not wait for them.
func (s *Server) Recheck() {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.opts.Live.State()
	for _, x := range s.open {
		if refusal, refused := x.refusedBy(state); refused {
			go x.cut(forbidden(ClassCut, refusal.Rule, "The request was ended: "+refusal.Reason+"."))
		}
	}
}

// take accounts for bytes that wait; false means that there is no room.
func (s *Server) take(n int) bool {
	if s.waiting.Add(int64(n)) <= maxWaiting {
		return true
	}
	s.waiting.Add(int64(-n))
	return false
}

func (s *Server) giveBack(n int) { s.waiting.Add(int64(-n)) }

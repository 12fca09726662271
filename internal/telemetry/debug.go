package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// Limits of the debug listener.
const (
	debugConnections   = 32
	debugHeaderBytes   = 16 << 10
	debugHeaderTimeout = 5 * time.Second
	debugReadTimeout   = 10 * time.Second
	debugWriteTimeout  = 2 * time.Minute // a CPU profile of a minute fits
	debugIdleTimeout   = 30 * time.Second
)

// DebugConfig is what the debug listener needs.
type DebugConfig struct {
	Address  string // literal loopback address and port; port 0 picks one
	Registry *prometheus.Registry
	Ready    func() error // nil when ready; the error's text is shown
	Status   func() any   // rendered as JSON
}

// DebugServer serves /metrics, /debug/pprof/, /healthz, /readyz and /status on
// a loopback address. Make it with NewDebugServer.
type DebugServer struct {
	address string
	server  *http.Server
	stop    func()

	done chan struct{} // closed when the serving goroutine has ended
	err  error         // why it ended; set before done is closed

	mu       sync.Mutex   // guards all below
	listener net.Listener // nil before Start
	stopped  bool
}

// NewDebugServer checks the address and prepares the server. An address that
// is not a literal loopback one is refused: profiles hold what memory holds.
func NewDebugServer(c DebugConfig) (*DebugServer, error) {
	addr, err := netip.ParseAddrPort(c.Address)
	if err != nil {
		return nil, fmt.Errorf("debug address %q: want a literal address and port", c.Address)
	}
	if !addr.Addr().Unmap().IsLoopback() {
		return nil, fmt.Errorf("debug address %q is not a loopback address", c.Address)
	}
	if c.Registry == nil || c.Ready == nil || c.Status == nil {
		return nil, errors.New("debug listener: registry, ready and status are needed")
	}
	ctx, stop := context.WithCancel(context.Background())
	return &DebugServer{address: c.Address, stop: stop, done: make(chan struct{}), server: &http.Server{
		Handler:           localOnly(debugMux(c)),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: debugHeaderTimeout,
		ReadTimeout:       debugReadTimeout,
		WriteTimeout:      debugWriteTimeout,
		IdleTimeout:       debugIdleTimeout,
		MaxHeaderBytes:    debugHeaderBytes,
	}}, nil
}

// Start listens and serves until Stop. It may be called once.
func (d *DebugServer) Start(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped || d.listener != nil {
		return errors.New("debug listener: started before")
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", d.address)
	if err != nil {
		return fmt.Errorf("debug listener: %w", err)
	}
	d.listener = ln
	go d.serve(netutil.LimitListener(ln, debugConnections))
	return nil
}

func (d *DebugServer) serve(ln net.Listener) {
	defer close(d.done)
	if err := d.server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		d.err = fmt.Errorf("debug listener: %w", err)
	}
}

// Addr is the address listened on, "" before Start.
func (d *DebugServer) Addr() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listener == nil {
		return ""
	}
	return d.listener.Addr().String()
}

// Stop ends the server and waits for its goroutine; running profiles are cut.
// Open requests have until ctx ends. It may be called at any time and again.
// The error tells why serving ended before, or that requests were cut.
func (d *DebugServer) Stop(ctx context.Context) error {
	d.mu.Lock()
	d.stopped = true
	started := d.listener != nil
	d.mu.Unlock()
	d.stop()
	if !started {
		return nil
	}
	err := d.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, d.server.Close())
	}
	<-d.done
	return errors.Join(d.err, err)
}

func debugMux(c DebugConfig) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.Registry, promhttp.HandlerOpts{Registry: c.Registry}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]bool{"healthy": true})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { writeReady(w, c.Ready()) })
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, c.Status())
	})
	return mux
}

func writeReady(w http.ResponseWriter, err error) {
	if err != nil {
		writeJSON(w, http.StatusServiceUnavailable, map[string]any{"ready": false, "reason": err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, map[string]bool{"ready": true})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, "the status can't be rendered", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client has gone; there is nobody to tell
}

// localOnly refuses requests whose Host is no loopback name: a web page that
// rebinds its own name to loopback could otherwise read what stands here.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopbackHost(r.Host) {
			http.Error(w, "only for loopback", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func loopbackHost(hostport string) bool {
	if addr, err := netip.ParseAddrPort(hostport); err == nil {
		return addr.Addr().Unmap().IsLoopback()
	}
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}

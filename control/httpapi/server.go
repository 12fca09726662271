package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

// Bounds of connections.
const (
	maxConnections    = 4096
	maxHeaderBytes    = 32 << 10
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 120 * time.Second
)

// ServerOptions are what a Server needs.
type ServerOptions struct {
	Address string // host:port; port 0 picks one
	Handler http.Handler
	Log     *slog.Logger

	// CertFile and KeyFile are PEM files, read at Start; both or none. Without
	// them the server speaks plain HTTP.
	CertFile string
	KeyFile  string
}

// Server serves a handler on one address. Make it with NewServer.
type Server struct {
	opts   ServerOptions
	server *http.Server

	done     chan struct{} // closed when the serving goroutine has ended
	err      error         // why it ended; set before done is closed
	stopping chan struct{} // closed when Stop begins

	mu       sync.Mutex   // guards all below
	listener net.Listener // nil before Start
	stopped  bool
}

// NewServer checks the options and prepares the server.
func NewServer(o ServerOptions) (*Server, error) {
	if o.Handler == nil || o.Log == nil {
		return nil, errors.New("api server: a handler and a logger are needed")
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, errors.New("api server: a certificate and a key belong together")
	}
	stopping := make(chan struct{})
	return &Server{opts: o, done: make(chan struct{}), stopping: stopping, server: &http.Server{
		BaseContext:                  func(net.Listener) context.Context { return withStopping(context.Background(), stopping) },
		Handler:                      o.Handler,
		ReadHeaderTimeout:            readHeaderTimeout,
		ReadTimeout:                  readTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		DisableGeneralOptionsHandler: true, // "OPTIONS *" is answered like any other
		ErrorLog:                     slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
	}}, nil
}

type stoppingKey struct{}

func withStopping(ctx context.Context, stopping <-chan struct{}) context.Context {
	return context.WithValue(ctx, stoppingKey{}, stopping)
}

// stoppingOf is closed when the server that a request came through begins to
// stop, which waits for all that is open. Without a server it is nil.
func stoppingOf(ctx context.Context) <-chan struct{} {
	stopping, _ := ctx.Value(stoppingKey{}).(<-chan struct{})
	return stopping
}

// Start reads the certificate, listens and serves until Stop. It may be called
// once.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || s.listener != nil {
		return errors.New("api server: started before")
	}
	if s.opts.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(s.opts.CertFile, s.opts.KeyFile)
		if err != nil {
			return fmt.Errorf("api server: %w", err)
		}
		s.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", s.opts.Address)
	if err != nil {
		return fmt.Errorf("api server: %w", err)
	}
	s.listener = ln
	go s.serve(netutil.LimitListener(ln, maxConnections))
	return nil
}

func (s *Server) serve(ln net.Listener) {
	defer close(s.done)
	var err error
	if s.server.TLSConfig != nil {
		err = s.server.ServeTLS(ln, "", "")
	} else {
		err = s.server.Serve(ln)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		s.err = fmt.Errorf("api server: %w", err)
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

// Stop takes no new connections and waits for open requests until ctx ends,
// then cuts them. It may be called at any time and again. The error tells why
// serving ended before, or that requests were cut.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	if !s.stopped {
		close(s.stopping)
	}
	s.stopped = true
	started := s.listener != nil
	s.mu.Unlock()
	if !started {
		return nil
	}
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.server.Close())
	}
	<-s.done
	return errors.Join(s.err, err)
}

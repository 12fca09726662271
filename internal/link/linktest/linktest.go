// Package linktest is a control service for tests of the sidecar's side of the
// mesh: a real gRPC server over TLS that says what a test wants. It checks the
// credential as control does, and hands each stream that has greeted to the
// test, which answers. It keeps nothing and decides nothing.
//
// It is test-only: no product package may import it. A Server and its Streams
// are safe for concurrent use.
package linktest

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/certtest"
)

// patience bounds each wait of a test for the sidecar.
const patience = 60 * time.Second

// Server is a control service under a certificate of its own.
type Server struct {
	sidecarpb.UnimplementedSidecarsServer
	Address string // host:port
	CA      []byte // PEM; whoever trusts it trusts the server

	t       testing.TB
	cert    tls.Certificate
	streams chan *Stream

	mu     sync.Mutex // guards all below
	grpc   *grpc.Server
	secret string
	refuse error // what streams are refused with; nil takes them
	tried  []Try
	rate   func(*sidecarpb.TakeRateRequest) (*sidecarpb.TakeRateResponse, error)
	ledger func(LedgerStream) error
}

// LedgerStream is a sidecar's stream to the ledger, as control has it.
type LedgerStream = grpc.BidiStreamingServer[sidecarpb.LedgerUp, sidecarpb.LedgerDown]

// Try is a stream that was opened, taken or not.
type Try struct {
	At     time.Time
	Secret string // as sent: "Bearer …"
}

// New serves on a loopback port until the test ends. It takes the one credential.
func New(t testing.TB, secret string) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return Serve(t, l, secret)
}

// Serve is New on a listener. The certificate is for 127.0.0.1.
func Serve(t testing.TB, l net.Listener, secret string) *Server {
	t.Helper()
	s := &Server{Address: l.Addr().String(), t: t, streams: make(chan *Stream, 64), secret: secret}
	pair := certtest.New(t)
	s.CA, s.cert = pair.CertPEM, pair.TLS(t)
	s.serve(l)
	t.Cleanup(s.Stop)
	return s
}

// pingEvery is the least time between a client's pings.
const pingEvery = 5 * time.Second

func (s *Server) serve(l net.Listener) {
	g := grpc.NewServer(
		grpc.Creds(credentials.NewServerTLSFromCert(&s.cert)),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
	)
	sidecarpb.RegisterSidecarsServer(g, s)
	s.mu.Lock()
	s.grpc = g
	s.mu.Unlock()
	go func() { _ = g.Serve(l) }() // ends with Stop
}

// Stop ends the server and all streams, as when control is away.
func (s *Server) Stop() {
	s.mu.Lock()
	g := s.grpc
	s.mu.Unlock()
	g.Stop()
}

// Restart serves again where it did, after Stop.
func (s *Server) Restart() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.Address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.serve(l)
}

// SetSecret changes the credential that is taken.
func (s *Server) SetSecret(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secret = secret
}

// Refuse answers each stream with an error from now on, or takes them for nil.
func (s *Server) Refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = err
}

// OnTakeRate says how rates are answered.
func (s *Server) OnTakeRate(f func(*sidecarpb.TakeRateRequest) (*sidecarpb.TakeRateResponse, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rate = f
}

// OnLedger says how streams to the ledger are served, from their beginning to
// their end.
func (s *Server) OnLedger(f func(LedgerStream) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger = f
}

// Tries lists the streams that were opened.
func (s *Server) Tries() []Try {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Try(nil), s.tried...)
}

// Next waits for the next stream that greets.
func (s *Server) Next() *Stream {
	s.t.Helper()
	select {
	case st := <-s.streams:
		return st
	case <-time.After(patience):
		s.t.Fatalf("no stream within %s", patience)
		return nil
	}
}

// TakeRate implements the service.
func (s *Server) TakeRate(ctx context.Context, r *sidecarpb.TakeRateRequest) (*sidecarpb.TakeRateResponse, error) {
	if err := s.known(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	rate := s.rate
	s.mu.Unlock()
	if rate == nil {
		return nil, status.Error(codes.Unavailable, "nothing is counted here")
	}
	return rate(r)
}

// Ledger implements the service.
func (s *Server) Ledger(stream LedgerStream) error {
	if err := s.known(stream.Context()); err != nil {
		return err
	}
	s.mu.Lock()
	ledger := s.ledger
	s.mu.Unlock()
	if ledger == nil {
		return status.Error(codes.Unavailable, "no ledger is kept here")
	}
	return ledger(stream)
}

func (s *Server) known(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if secretOf(ctx) != "Bearer "+s.secret {
		return status.Error(codes.Unauthenticated, "the credential is unknown or revoked")
	}
	return nil
}

func secretOf(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get("authorization"); len(v) == 1 {
		return v[0]
	}
	return ""
}

// admit notes a stream, and says whether it is taken.
func (s *Server) admit(ctx context.Context) error {
	s.mu.Lock()
	s.tried = append(s.tried, Try{At: time.Now(), Secret: secretOf(ctx)})
	refusal := s.refuse
	s.mu.Unlock()
	if refusal != nil {
		return refusal
	}
	return s.known(ctx)
}

// Sync implements the service.
func (s *Server) Sync(stream grpc.BidiStreamingServer[sidecarpb.Up, sidecarpb.Down]) error {
	if err := s.admit(stream.Context()); err != nil {
		return err
	}
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	if m.GetHello() == nil {
		return status.Error(codes.InvalidArgument, "a stream begins with Hello")
	}
	st := &Stream{Hello: m.GetHello(), t: s.t, stream: stream, end: make(chan error, 1)}
	s.streams <- st
	select {
	case err := <-st.end:
		return err
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

package link

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/link/linktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "gs_test-credential"

// bed is a line and the control that it goes to.
type bed struct {
	t       *testing.T
	server  *linktest.Server
	line    *Line
	heard   chan any // what the handler was told
	log     *logged
	dropped int
	cut     atomic.Bool // the wire

	mu      sync.Mutex // guards all below
	status  *sidecarpb.Status
	asked   int // for the status
	secret  string
	unknown error // why there is no secret
}

// inBubble runs a test whose time passes only where all wait. Its control is in
// memory, over the same TLS and gRPC.
func inBubble(t *testing.T, test func(*bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(64 << 10)
		b := prepare(t, linktest.Serve(t, loopback{l}, secret))
		b.open(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			conn, err := l.DialContext(ctx)
			return &wire{conn, &b.cut}, err
		}))
		test(b)
	})
}

// wire is a connection that loses what is sent while it is cut, as one to a
// machine that has gone does.
type wire struct {
	net.Conn
	cut *atomic.Bool
}

func (w *wire) Write(p []byte) (int, error) {
	if w.cut.Load() {
		return len(p), nil
	}
	return w.Conn.Write(p)
}

// loopback names a listener in memory by the address that its certificate is for.
type loopback struct{ *bufconn.Listener }

func (loopback) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// onLoopback is a line over the machine's network.
func onLoopback(t *testing.T) *bed {
	t.Helper()
	b := prepare(t, linktest.New(t, secret))
	b.open()
	return b
}

func prepare(t *testing.T, server *linktest.Server) *bed {
	t.Helper()
	return &bed{t: t, server: server, heard: make(chan any, 100), log: &logged{}, status: &sidecarpb.Status{Generation: 1}, secret: secret}
}

// open makes the line and runs it until the test ends.
func (b *bed) open(more ...grpc.DialOption) {
	b.t.Helper()
	line, err := newLine(b.options(), more...)
	check(b.t, err)
	b.line = line
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { line.Run(ctx) })
	b.t.Cleanup(func() { cancel(); wg.Wait(); line.Close() })
}

func (b *bed) options() Options {
	return Options{
		Address: b.server.Address, TLS: trusting(b.server.CA), Secret: b.read, Build: "v1", Incarnation: 7,
		Handler: b, Log: slog.New(slog.NewTextHandler(b.log, nil)), Dropped: func(n int) { b.dropped += n },
	}
}

func trusting(ca []byte) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}
}

func (b *bed) read() (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.secret, b.unknown
}

// holds sets what the credential file holds.
func (b *bed) holds(secret string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.secret, b.unknown = secret, err
}

// tell changes the status and says so.
func (b *bed) tell(s *sidecarpb.Status) {
	b.mu.Lock()
	b.status = s
	b.mu.Unlock()
	b.line.Changed()
}

func (b *bed) statusAsked() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked
}

// Welcome and the others implement Handler.
func (b *bed) Welcome(m *sidecarpb.Welcome)   { b.heard <- m }
func (b *bed) Live(m *sidecarpb.Live)         { b.heard <- m }
func (b *bed) Revision(m *sidecarpb.Revision) { b.heard <- m }
func (b *bed) Beat(m *sidecarpb.Beat)         { b.heard <- m }

func (b *bed) Breakers(m *sidecarpb.BreakerOrders) { b.heard <- m }

func (b *bed) Status() *sidecarpb.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	return b.status
}

// welcomed waits for the next stream, welcomes it, and waits until that is heard.
func (b *bed) welcomed() *linktest.Stream {
	b.t.Helper()
	st := b.server.Next()
	st.Say(&sidecarpb.Welcome{Name: "s"})
	<-b.heard
	return st
}

// recordsOf waits for records, and passes over statuses.
func recordsOf(st *linktest.Stream) *sidecarpb.Records {
	for {
		if r := st.Hear().GetRecords(); r != nil {
			return r
		}
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// logged is a log that tests may read.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// lines are those that hold a text.
func (l *logged) lines(text string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var errUnreadable = errors.New("credential_file /c.json: no such file")

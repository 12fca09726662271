package ledger

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"gatehouse/budget"
	"gatehouse/budget/memory"
	"gatehouse/control/budgets"
	controlsync "gatehouse/control/sync"
	"gatehouse/internal/certtest"
	"gatehouse/internal/deadletter"
	"gatehouse/internal/link"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
)

// patience bounds each wait for the network.
const patience = 60 * time.Second

// The sidecars of these tests; ada is of org1, and so is bert.
const (
	ada  = "00000000-0000-4000-8000-00000000000a"
	bert = "00000000-0000-4000-8000-00000000000b"
)

// limit is that of org1.
const limit = 1_000_000_000

// world is what control's service needs beside a ledger.
type world struct{}

func (world) Authenticate(_ context.Context, secret string) (mesh.Sidecar, error) {
	s := mesh.Sidecar{ID: secret, Name: secret, Tenant: "org1", PolicySet: "p", Version: 1}
	if secret != ada && secret != bert {
		return s, mesh.ErrUnknown
	}
	return s, nil
}

func (world) Versions(_ context.Context, ids []string) (map[string]int64, error) {
	out := map[string]int64{}
	for _, id := range ids {
		out[id] = 1
	}
	return out, nil
}

func (world) Report(context.Context, map[string]mesh.Report) error { return nil }
func (world) Connected(context.Context, time.Duration) (map[string]int, error) {
	return nil, nil
}
func (world) Epoch(context.Context) (int64, error)                  { return 1, nil }
func (world) Live(context.Context) (mesh.Live, error)               { return mesh.Live{Epoch: 1}, nil }
func (world) Generations(context.Context) (map[string]int64, error) { return nil, nil }
func (world) Active(context.Context, string) (mesh.Activated, error) {
	return mesh.Activated{}, errors.New("none is")
}

func (world) Listen(ctx context.Context, _ func(string)) error {
	<-ctx.Done()
	return ctx.Err()
}

func (world) Store(context.Context, mesh.Sidecar, [][]byte) (int, error) { return 0, nil }

// letters keeps dead letters.
type letters struct {
	mu  sync.Mutex // guards all
	all map[string]deadletter.Letter
}

func (l *letters) Add(_ context.Context, d deadletter.Letter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, there := l.all[d.MessageID]; !there {
		l.all[d.MessageID] = d
	}
	return nil
}

// kinds are those of the letters, with whose they are.
func (l *letters) kinds() (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.all {
		out = append(out, d.Tenant+" "+d.Kind)
	}
	return out
}

// store is a ledger in memory that a test can hold up, before it does a thing and
// after.
type store struct {
	*memory.Store
	mu            sync.Mutex // guards all below
	before, after func(what string)
}

func (s *store) hook(before, after func(what string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.after = before, after
}

func (s *store) call(what string) (done func()) {
	s.mu.Lock()
	before, after := s.before, s.after
	s.mu.Unlock()
	if before != nil {
		before(what)
	}
	return func() {
		if after != nil {
			after(what)
		}
	}
}

func (s *store) Reserve(ctx context.Context, tenant string, holds []budget.Hold) ([]budget.Answer, error) {
	defer s.call("reserve")()
	return s.Store.Reserve(context.WithoutCancel(ctx), tenant, holds)
}

func (s *store) Settle(ctx context.Context, tenant string, all []budget.Settlement) ([]budget.Result, error) {
	defer s.call("settle")()
	return s.Store.Settle(context.WithoutCancel(ctx), tenant, all)
}

// control is the real service over TLS, and a network before it that a test cuts.
type control struct {
	t       testing.TB
	store   *store
	letters letters
	server  *controlsync.Server
	net     *network
	roots   *x509.CertPool
}

func newControl(t testing.TB) *control {
	t.Helper()
	c := &control{t: t, store: &store{Store: memory.New(time.Now)}, letters: letters{all: map[string]deadletter.Letter{}}}
	_, err := c.store.CreateLimit(t.Context(), request.Principal{}, budget.Limit{Tenant: "org1", Window: budget.Total, Zone: "UTC", Tokens: limit})
	check(t, err)
	c.serve(c.store)
	return c
}

// serve begins the service over a ledger.
func (c *control) serve(ledger budget.Holds) {
	t := c.t
	t.Helper()
	inline, err := budgets.NewInline(budgets.InlineOptions{Ledger: ledger, Letters: &c.letters})
	check(t, err)
	t.Cleanup(inline.Stop)
	o := controlsync.Options{
		Registry: world{}, Source: world{}, Records: world{}, Ledger: inline, Log: slog.New(slog.DiscardHandler), Address: "127.0.0.1:0",
		KeySet: func(context.Context) ([]byte, error) { return []byte("{}"), nil },
	}
	pair := certtest.New(t)
	o.CertFile, o.KeyFile = pair.Files(t)
	c.roots = pair.Roots()
	c.server, err = controlsync.New(o)
	check(t, err)
	check(t, c.server.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = c.server.Stop(ctx)
	})
	c.net = newNetwork(t, c.server.Addr())
}

// network passes connections on to a server, until it is cut.
type network struct {
	to string
	ln net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex // guards all below
	conns []net.Conn
	over  bool
}

func newNetwork(t testing.TB, to string) *network {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	n := &network{to: to, ln: ln}
	n.wg.Go(n.accept)
	t.Cleanup(func() {
		n.mu.Lock()
		n.over = true
		n.mu.Unlock()
		_ = ln.Close()
		n.cut()
		n.wg.Wait()
	})
	return n
}

func (n *network) accept() {
	for {
		near, err := n.ln.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", n.to)
		if err != nil || !n.keep(near, far) {
			_ = near.Close()
			continue
		}
		pass := func(from, to net.Conn) {
			_, _ = io.Copy(to, from)
			_ = to.Close()
			_ = from.Close()
		}
		n.wg.Go(func() { pass(near, far) })
		n.wg.Go(func() { pass(far, near) })
	}
}

func (n *network) keep(conns ...net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns = append(n.conns, conns...)
	return !n.over
}

// cut ends all connections; new ones are passed on.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		_ = c.Close()
	}
	n.conns = nil
}

// handler is a sidecar that does not care for the Sync stream.
type handler struct{ link.Handler }

// sidecar is a client on a real line to control.
type sidecar struct {
	t testing.TB
	*Client
	line   *link.Line
	log    logged
	cancel context.CancelFunc
	ran    sync.WaitGroup
}

// sidecar runs a client until the test ends or it is stopped.
func (c *control) sidecar(id, dir string, incarnation int64) *sidecar {
	c.t.Helper()
	s := &sidecar{t: c.t}
	var err error
	s.line, err = link.New(link.Options{
		Address: c.net.ln.Addr().String(), TLS: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: c.roots},
		Secret: func() (string, error) { return id, nil }, Build: "test", Incarnation: incarnation, Handler: handler{}, Log: s.log.logger(),
	})
	check(c.t, err)
	s.Client, err = Open(Options{Dir: dir, Incarnation: incarnation, Line: s.line, Log: s.log.logger()})
	check(c.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.ran.Go(func() { s.Run(ctx) })
	c.t.Cleanup(s.stop)
	eventually(c.t, "connected", func() bool { return s.Status().Connected })
	return s
}

// stop ends it in order; again does nothing.
func (s *sidecar) stop() {
	if s.cancel == nil {
		return
	}
	s.cancel()
	s.ran.Wait()
	s.Close()
	s.line.Close()
	s.cancel = nil
}

// kill ends it as kill -9 does.
func (s *sidecar) kill() {
	s.mu.Lock()
	s.queue = newQueue()
	s.mu.Unlock()
	s.cancel()
	s.ran.Wait()
	s.spools.release()
	s.line.Close()
	s.cancel = nil
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !is(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

func (c *control) state(id string) budget.State {
	r, err := c.store.Request(c.t.Context(), "org1", hold(id).Key)
	if err != nil {
		return ""
	}
	return r.State
}

// stands waits until org1 has used and reserved so much.
func (c *control) stands(used, reserved int64) {
	c.t.Helper()
	var got budget.Usage
	defer func() {
		if c.t.Failed() {
			c.t.Logf("%d are used and %d reserved, want %d and %d", got.Used, got.Reserved, used, reserved)
		}
	}()
	eventually(c.t, "the figures of the limit", func() bool {
		all, err := c.store.Usage(c.t.Context(), "org1", "")
		check(c.t, err)
		got = all[0]
		return got.Used == used && got.Reserved == reserved
	})
}

func (s *sidecar) holds(id string) {
	s.t.Helper()
	if a, err := s.Reserve(s.t.Context(), "org1", hold(id)); err != nil || a.Verdict != budget.Held {
		s.t.Fatalf("%s: %+v, %v", id, a, err)
	}
}

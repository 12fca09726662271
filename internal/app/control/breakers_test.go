package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/certtest"
	"gatehouse/internal/pgtest"
)

// member is a sidecar's side of the mesh: it says its status at each beat, and
// keeps the orders that it was told last.
type member struct {
	t      *testing.T
	secret string

	mu     sync.Mutex // guards all below
	status *pb.Status
	orders *pb.BreakerOrders
	told   chan struct{} // closed, and another made, with each order
	stream pb.Sidecars_SyncClient
}

// connect opens a stream to a replica, which ends with it or with the test.
func (m *member) connect(r *replica, roots *x509.CertPool) {
	m.t.Helper()
	conn, err := grpc.NewClient(r.app.MeshAddr(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13})))
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(m.t.Context(), "authorization", "Bearer "+m.secret))
	m.t.Cleanup(func() { cancel(); _ = conn.Close() })
	stream, err := pb.NewSidecarsClient(conn).Sync(ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	m.mu.Lock()
	m.stream, m.orders = stream, nil
	hello := &pb.Hello{Incarnation: 1, Build: "test", Status: m.status}
	m.mu.Unlock()
	if err := stream.Send(&pb.Up{Message: &pb.Up_Hello{Hello: hello}}); err != nil {
		m.t.Fatal(err)
	}
	go m.listen(stream)
}

func (m *member) listen(stream pb.Sidecars_SyncClient) {
	for {
		down, err := stream.Recv()
		if err != nil {
			return
		}
		m.hear(stream, down)
	}
}

func (m *member) hear(stream pb.Sidecars_SyncClient, down *pb.Down) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case down.GetBreakers() != nil:
		m.orders = down.GetBreakers()
		close(m.told)
		m.told = make(chan struct{})
	case down.GetBeat() != nil:
		_ = stream.Send(&pb.Up{Message: &pb.Up_Status{Status: m.status}}) // its end is heard
	}
}

// say changes what the sidecar says of the breaker app.
func (m *member) say(phase string, order int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := &pb.Breaker{Name: "app", Phase: phase, TotalCalls: 9, CalledMsAgo: 1, Failures: 5, RecoveryMs: 30_000, Order: order}
	if phase != "closed" {
		b.ConsecutiveFailures, b.TotalFailures, b.OpenedMsAgo, b.ProbeInMs = 5, 5, 1, 30_000
	}
	m.status = proto.CloneOf(m.status)
	m.status.Breakers = []*pb.Breaker{b}
	if m.stream != nil {
		_ = m.stream.Send(&pb.Up{Message: &pb.Up_Status{Status: m.status}})
	}
}

// wants waits until the sidecar is ordered what is wanted of the breaker app.
func (m *member) wants(what string, is func(*pb.BreakerOrder) bool) *pb.BreakerOrder {
	m.t.Helper()
	late := time.After(time.Minute)
	for {
		m.mu.Lock()
		orders, told := m.orders.GetOrders(), m.told
		m.mu.Unlock()
		if len(orders) == 1 && orders[0].GetName() == "app" && is(orders[0]) {
			return orders[0]
		}
		select {
		case <-told:
		case <-late:
			m.t.Fatalf("told %v, want %s", orders, what)
		}
	}
}

// TestBreakerOfTheMesh: two of three sidecars, at two replicas, open the mesh's
// breaker; that outlives all replicas; a reset reaches each sidecar, and what was
// seen before it opens nothing again.
func TestBreakerOfTheMesh(t *testing.T) {
	t.Parallel()
	certFile, keyFile := certtest.New(t).Files(t)
	text, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	database := pgtest.Empty(t)
	mesh := []string{"MESH_CERT_FILE", certFile, "MESH_KEY_FILE", keyFile, "MESH_PORT", "0"}
	a := start(t, database, mesh...)
	b := start(t, database, mesh...)
	admin, observer := a.token("admin", "admin123"), a.token("observer", "observer123")
	members := register(t, a, admin)
	for i, m := range members {
		m.say([]string{"open", "open", "closed"}[i], 0)
		m.connect([]*replica{a, a, b}[i], roots)
	}
	opened := members[2].wants("an order to open", func(o *pb.BreakerOrder) bool { return o.GetOpen() > 0 && o.GetClose() == 0 })
	members[0].wants("the same", func(o *pb.BreakerOrder) bool { return o.GetOpen() == opened.GetOpen() })
	before := shown(t, b, observer, "open")

	a.app.Stop()
	b.app.Stop()
	c := start(t, database, mesh...)
	if after := shown(t, c, observer, "open"); after["opened_at"] != before["opened_at"] {
		t.Errorf("after a restart: %v, want what was before: %v", after, before)
	}
	for _, m := range members {
		m.connect(c, roots)
	}
	for _, m := range members {
		m.wants("the order of before", func(o *pb.BreakerOrder) bool { return o.GetOpen() == opened.GetOpen() })
	}

	if status, body, _ := c.call("POST", "/api/v1/circuit-breakers/app/reset", observer, nil); status != 403 {
		t.Errorf("reset by an observer: %d %v", status, body)
	}
	if status, body, _ := c.call("POST", "/api/v1/circuit-breakers/app/reset", admin, nil); status != 200 || body["state"] != "closed" {
		t.Fatalf("reset: %d %v", status, body)
	}
	reset := members[0].wants("an order to close", func(o *pb.BreakerOrder) bool { return o.GetClose() > opened.GetOpen() && o.GetOpen() == 0 })
	for _, m := range members[1:] {
		m.wants("the same", func(o *pb.BreakerOrder) bool { return proto.Equal(o, reset) })
	}
	members[0].say("open", opened.GetOpen()) // from before the reset
	members[1].say("open", reset.GetClose())
	shown(t, c, observer, "closed")
	members[0].say("half_open", reset.GetClose())
	members[2].wants("an order to open anew", func(o *pb.BreakerOrder) bool {
		return o.GetOpen() > reset.GetClose() && o.GetClose() == reset.GetClose()
	})
}

// register makes three sidecars of one policy set that have a revision of it.
func register(t *testing.T, r *replica, admin string) (members []*member) {
	t.Helper()
	if _, err := r.app.pool.Exec(t.Context(), `INSERT INTO policy_sets (name) VALUES ('main')`); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two", "three"} {
		status, body, _ := r.call("POST", "/api/v1/mesh/sidecars", admin, map[string]string{"name": name, "tenant_id": "org1", "policy_set": "main"})
		if status != 201 {
			t.Fatalf("register %s: %d %v", name, status, body)
		}
		secret, _ := body["credential"].(map[string]any)["credential"].(string)
		members = append(members, &member{t: t, secret: secret, status: &pb.Status{Generation: 1, Revision: strings.Repeat("a", 64)}, told: make(chan struct{})})
	}
	if _, err := r.app.pool.Exec(t.Context(), `UPDATE sidecars SET revision_id = repeat('a', 64), generation = 1`); err != nil {
		t.Fatal(err)
	}
	return members
}

// shown is the breaker app as the API shows it, which must be in a state.
func shown(t *testing.T, r *replica, token, state string) map[string]any {
	t.Helper()
	status, body, _ := r.call("GET", "/api/v1/circuit-breakers/app", token, nil)
	if status != 200 || body["state"] != state || (body["opened_at"] != nil) != (state == "open") {
		t.Errorf("shown is %d %v, want it %s", status, body, state)
	}
	return body
}

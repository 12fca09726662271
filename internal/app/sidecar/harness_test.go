package sidecar

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"gatehouse/internal/envoytest"
	"gatehouse/internal/revision"
	"gatehouse/internal/snapshot"
	"gatehouse/policies"
)

// place is a sidecar's files: its policy folder, configuration and state.
type place struct {
	t    *testing.T
	base string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	base, err := os.MkdirTemp("", "gs") // short: a socket's path has 108 bytes
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	check(t, os.Chmod(base, 0o755))
	p := &place{t, base}
	text := fmt.Sprintf("name: t\nsocket: %[1]s/run/gate.sock\nstate_dir: %[1]s/state\ndebug: 127.0.0.1:%[2]d\nlisteners: {inbound: {address: \"127.0.0.1:%[3]d\"}}\n",
		base, envoytest.FreePort(t), envoytest.FreePort(t))
	p.write("sidecar.yaml", text)
	rego, err := fs.ReadFile(policies.Shipped(), "authz.rego")
	check(t, err)
	p.write("policies/authz.rego", string(rego))
	p.set(9001)
	return p
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (p *place) path(name string) string { return filepath.Join(p.base, name) }

// write replaces a file as a whole.
func (p *place) write(name, text string) {
	p.t.Helper()
	check(p.t, os.MkdirAll(filepath.Dir(p.path(name)), 0o755))
	check(p.t, os.WriteFile(p.path("fresh"), []byte(text), 0o644))
	check(p.t, os.Rename(p.path("fresh"), p.path(name)))
}

// set writes the policy set whose upstream has a port, and returns its revision.
func (p *place) set(port int) string {
	p.t.Helper()
	p.write("policies/gatehouse.yaml", fmt.Sprintf("upstreams: {app: {url: \"http://127.0.0.1:%d\"}}\nroutes:\n  - {name: all, match: {listener: inbound, prefix: /}, upstream: app, principal: none}\n", port))
	return p.revision()
}

func (p *place) revision() string {
	p.t.Helper()
	files, err := snapshot.Read(p.path("policies"), os.Geteuid())
	check(p.t, err)
	return revision.ID(files)
}

func (p *place) start(edit ...func(*App)) *App {
	p.t.Helper()
	a, err := New(Options{Config: p.path("sidecar.yaml"), Policies: p.path("policies"), Log: &log{}})
	check(p.t, err)
	for _, f := range edit {
		f(a)
	}
	check(p.t, a.Start(context.Background()))
	p.t.Cleanup(func() { a.Stop(context.Background()) })
	return a
}

// log is a place to log to that tests may read.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// envoy speaks delta discovery as Envoy does, and answers as a test wants.
type envoy struct {
	t      *testing.T
	conn   *grpc.ClientConn
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	got    chan *discoveryv3.DeltaDiscoveryResponse
	count  *atomic.Int64 // of responses that came
}

func (p *place) connect() *envoy {
	p.t.Helper()
	conn, err := grpc.NewClient("unix:"+p.path("run/gate.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(p.t, err)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(p.t.Context())
	check(p.t, err)
	e := &envoy{p.t, conn, stream, make(chan *discoveryv3.DeltaDiscoveryResponse, 100), &atomic.Int64{}}
	p.t.Cleanup(func() { _ = conn.Close() })
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				close(e.got)
				return
			}
			e.count.Add(1)
			e.got <- r
		}
	}()
	for _, typeURL := range []string{resource.ClusterType, resource.ListenerType} {
		check(p.t, stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "test"}, TypeUrl: typeURL}))
	}
	check(p.t, stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.RouteType, ResourceNamesSubscribe: []string{"inbound"}}))
	return e
}

// answer says yes to a response, or no with a reason.
func (e *envoy) answer(r *discoveryv3.DeltaDiscoveryResponse, refusal string) {
	e.t.Helper()
	req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}
	if refusal != "" {
		req.ErrorDetail = &rpcstatus.Status{Code: 13, Message: refusal}
	}
	check(e.t, e.stream.Send(req))
}

// agree says yes to the next n responses.
func (e *envoy) agree(n int) {
	e.t.Helper()
	for range n {
		e.answer(<-e.got, "")
	}
}

// agreeToAll says yes from now on.
func (e *envoy) agreeToAll() {
	go func() {
		for r := range e.got {
			_ = e.stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
		}
	}()
}

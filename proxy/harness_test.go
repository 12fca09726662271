package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	procconf "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/structpb"

	"gatehouse/budget"
	"gatehouse/budget/memory"
	"gatehouse/internal/config"
	"gatehouse/internal/envoyconf"
	"gatehouse/internal/live"
	"gatehouse/internal/rawgrpc"
	"gatehouse/internal/request"
	"gatehouse/internal/revision"
	"gatehouse/internal/snapshot"
	"gatehouse/internal/token"
	"gatehouse/internal/tokentest"
	"gatehouse/policies"
	"gatehouse/proxy"
)

const testSet = `
issuers:
  - {name: main, issuer: "https://issuer.test", jwks: {file: %q}, audience: gatehouse, algorithms: [EdDSA], tenants: [any, "*"], roles: [any, admin]}
upstreams:
  openai: {url: "https://openai.test", format: openai, credential: openai}
  anthropic: {url: "https://anthropic.test", format: anthropic, credential: anthropic}
routes:
  - {name: chat, match: {listener: outbound, base: /openai, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create,
     llm: {models: {allow: ["gpt-*"]}, max_output_tokens: 1000, sanitize: {content: markdown, reasoning: prose, tool_call: tool_call}, unary_cap: 64KiB}}
  - {name: raw, match: {listener: outbound, base: /raw, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create, llm: {max_output_tokens: 1000}}
  - {name: unpaid, match: {listener: outbound, base: /unpaid, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create, budget: none, llm: {}}
  - {name: adaptive, match: {listener: outbound, base: /adaptive, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create, llm: {hold: adaptive, max_output_tokens: 100000}}
  - {name: watched, match: {listener: outbound, base: /watched, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create, mode: observe,
     llm: {models: {allow: ["gpt-*"]}, sanitize: {content: markdown}}}
  - {name: synthesis, match: {listener: outbound, base: /synthesis, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create, llm: {parser: synthesis}}
  - {name: capped, match: {listener: outbound, base: /capped, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create, llm: {unary_cap: 1KiB}}
  - {name: models, match: {listener: outbound, base: /openai, path: /v1/models, methods: [GET]}, upstream: openai, permission: task.view, llm: {kind: free}}
  - {name: messages, match: {listener: outbound, base: /anthropic, path: /v1/messages, methods: [POST]}, upstream: anthropic, permission: task.create, llm: {sanitize: {content: markdown}}}
`

// harness is an Exchange server on a socket of its own, over a compiled policy
// set and a ledger in memory. Who calls it plays Envoy.
type harness struct {
	t      testing.TB
	server *proxy.Server
	table  *snapshot.Table
	live   *live.Data
	ledger *ledger
	client pb.ExternalProcessorClient
	events chan *proxy.Event
	now    time.Time
}

func newHarness(t testing.TB, edit ...func(*proxy.Options)) *harness {
	t.Helper()
	return newHarnessOver(t, testSet, edit...)
}

func newHarnessWith(t testing.TB, rego map[string]string, edit ...func(*proxy.Options)) *harness {
	t.Helper()
	return newHarnessOf(t, testSet, rego, edit...)
}

// newHarnessOver is a harness over another policy set, with the shipped Rego.
func newHarnessOver(t testing.TB, set string, edit ...func(*proxy.Options)) *harness {
	t.Helper()
	rego, err := fs.ReadFile(policies.Shipped(), "authz.rego")
	check(t, err)
	return newHarnessOf(t, set, map[string]string{"authz.rego": string(rego)}, edit...)
}

func newHarnessOf(t testing.TB, set string, rego map[string]string, edit ...func(*proxy.Options)) *harness {
	t.Helper()
	h := &harness{t: t, table: snapshot.NewTable(), ledger: newLedger(t), events: make(chan *proxy.Event, 64), now: time.Now()}
	issuer := tokentest.NewIssuer(t, "main", "https://issuer.test", "gatehouse")
	jwks := filepath.Join(t.TempDir(), "jwks.json")
	check(t, os.WriteFile(jwks, issuer.JWKS(), 0o600))
	files := revision.Files{"gatehouse.yaml": fmt.Appendf(nil, set, jwks)}
	for name, text := range rego {
		files[name] = []byte(text)
	}
	snap, err := snapshot.NewBuilder(testSidecar(t), token.NewKeys(token.KeysOptions{}), nil).Build(t.Context(), files)
	check(t, err)
	h.table.Add(snap)
	h.live = live.New(live.Binding{Tenant: "org1"}, false, time.Now)
	o := proxy.Options{
		Table: h.table, Live: h.live, Ledger: h.ledger, Log: slog.New(slog.DiscardHandler),
		Credentials: map[string]request.Secret{"openai": "sk-provider", "anthropic": "sk-ant-provider"},
		Observe:     func(e *proxy.Event) { h.events <- e },
		Now:         func() time.Time { return h.now },
	}
	for _, f := range edit {
		f(&o)
	}
	h.server = proxy.New(o)
	h.serve()
	return h
}

func testSidecar(t testing.TB) *config.Sidecar {
	t.Helper()
	sc, err := config.ParseSidecar("sidecar.yaml", []byte(`
name: test
socket: /run/gatehouse/gate.sock
state_dir: /var/lib/gatehouse
principal: {subject: agent-7, tenant: org1, project: proj1, role: developer}
listeners: {outbound: {address: "127.0.0.1:8081"}}
credentials: {openai: {env: OPENAI_API_KEY}, anthropic: {env: ANTHROPIC_API_KEY}}
`))
	check(t, err)
	return sc
}

func (h *harness) serve() {
	dir, err := os.MkdirTemp("", "gx")
	check(h.t, err)
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	check(h.t, err)
	g := grpc.NewServer(grpc.ForceServerCodecV2(rawgrpc.Codec()), grpc.MaxRecvMsgSize(40<<20))
	h.server.Register(g)
	go func() { _ = g.Serve(l) }()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(40<<20)))
	check(h.t, err)
	h.client = pb.NewExternalProcessorClient(conn)
	h.t.Cleanup(func() {
		_ = conn.Close()
		h.server.Close()
		g.Stop()
		_ = os.RemoveAll(dir)
	})
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ledger is the memory store as a sidecar sees it.
type ledger struct {
	t     testing.TB
	store *memory.Store

	mu      sync.Mutex
	away    error         // of every Reserve
	asked   chan struct{} // where not nil: told of each Reserve, which then waits for its context
	settled []budget.Settlement
	granted int
	last    budget.Hold // that was asked for
}

const sidecarID = "00000000-0000-4000-8000-000000000001"

func newLedger(t testing.TB) *ledger {
	t.Helper()
	return &ledger{t: t, store: memory.New(time.Now)}
}

func (l *ledger) limit(tokens int64) {
	l.t.Helper()
	_, err := l.store.CreateLimit(context.Background(), request.Principal{}, budget.Limit{Tenant: "org1", Window: budget.Total, Zone: "UTC", Tokens: tokens})
	check(l.t, err)
}

// Reserve implements proxy.Ledger.
func (l *ledger) Reserve(ctx context.Context, tenant string, h budget.Hold) (budget.Answer, error) {
	l.mu.Lock()
	away, asked := l.away, l.asked
	l.granted++
	l.last = h
	l.mu.Unlock()
	if asked != nil {
		asked <- struct{}{}
		<-ctx.Done()
		return budget.Answer{}, ctx.Err()
	}
	if away != nil {
		return budget.Answer{}, away
	}
	h.Sidecar, h.Incarnation = sidecarID, 1
	a, err := l.store.Reserve(ctx, tenant, []budget.Hold{h})
	if err != nil {
		return budget.Answer{}, err
	}
	return a[0], nil
}

// TopUp implements proxy.Ledger.
func (l *ledger) TopUp(ctx context.Context, tenant string, k budget.Key, total int64) error {
	r, err := l.store.Settle(ctx, tenant, []budget.Settlement{{Key: k, Action: budget.TopUp, Tokens: total, Sidecar: sidecarID}})
	if err == nil && r[0].Outcome != budget.Done {
		err = errors.New(string(r[0].Outcome))
	}
	return err
}

// Settle implements proxy.Ledger.
func (l *ledger) Settle(tenant string, s budget.Settlement) {
	s.Sidecar = sidecarID
	r, err := l.store.Settle(context.Background(), tenant, []budget.Settlement{s})
	if err != nil || r[0].Outcome != budget.Done {
		l.t.Errorf("settlement %+v: %v, %v", s, r, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settled = append(l.settled, s)
}

func (l *ledger) usage() budget.Usage {
	l.t.Helper()
	u, err := l.store.Usage(context.Background(), "org1", "proj1")
	check(l.t, err)
	return u[0]
}

// player plays Envoy on one stream.
type player struct {
	h      *harness
	stream pb.ExternalProcessor_ProcessClient
	leave  context.CancelFunc
}

func (h *harness) open() *player {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	h.t.Cleanup(cancel)
	stream, err := h.client.Process(ctx)
	check(h.t, err)
	return &player{h, stream, cancel}
}

func modes() *pb.ProtocolConfiguration {
	return &pb.ProtocolConfiguration{
		RequestBodyMode: procconf.ProcessingMode_BUFFERED, ResponseBodyMode: procconf.ProcessingMode_FULL_DUPLEX_STREAMED,
	}
}

// ticket is Check's metadata of a request that it let pass.
func (h *harness) ticket(route string, edit ...func(map[string]any)) *corev3.Metadata {
	h.t.Helper()
	snap := h.table.Current()
	m := map[string]any{
		"decision_id": "d-1", "route": route, "revision": snap.Revision, "shape": shape(snap, route),
		"principal": map[string]any{"kind": "token", "role": "developer", "subject": "dev", "tenant": "org1", "project": "proj1", "issuer": "main"},
	}
	for _, f := range edit {
		f(m)
	}
	s, err := structpb.NewStruct(m)
	check(h.t, err)
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.filters.http.ext_authz": s}}
}

func shape(snap *snapshot.Snapshot, name string) string {
	for i := range snap.Set.Routes {
		if r := &snap.Set.Routes[i]; r.Name == name {
			return envoyconf.Shape(r, snap.Set.Upstreams[r.Upstream])
		}
	}
	return ""
}

func headerMap(pairs ...string) *corev3.HeaderMap {
	m := &corev3.HeaderMap{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
	}
	return m
}

func (p *player) send(m *pb.ProcessingRequest) {
	p.h.t.Helper()
	check(p.h.t, p.stream.Send(m))
}

func (p *player) recv() *pb.ProcessingResponse {
	p.h.t.Helper()
	m, err := p.stream.Recv()
	check(p.h.t, err)
	return m
}

// head sends the request's headers.
func (p *player) head(m *corev3.Metadata, end bool, pairs ...string) {
	p.h.t.Helper()
	if len(pairs) == 0 {
		pairs = []string{"content-type", "application/json"}
	}
	pairs = append([]string{":method", "POST", "x-request-id", "req-1"}, pairs...)
	p.send(&pb.ProcessingRequest{
		ProtocolConfig: modes(), MetadataContext: m,
		Request: &pb.ProcessingRequest_RequestHeaders{RequestHeaders: &pb.HttpHeaders{Headers: headerMap(pairs...), EndOfStream: end}},
	})
}

func (p *player) body(text string) {
	p.h.t.Helper()
	p.send(&pb.ProcessingRequest{Request: &pb.ProcessingRequest_RequestBody{RequestBody: &pb.HttpBody{Body: []byte(text), EndOfStream: true}}})
}

// upstream sends the headers of the upstream's answer.
func (p *player) upstream(status, contentType string, more ...string) {
	p.h.t.Helper()
	p.respond(map[string]any{"response.code_details": "via_upstream", "upstream.request_attempt_count": 1}, append([]string{":status", status, "content-type", contentType}, more...)...)
}

// bare sends the headers of an upstream's answer that has no body.
func (p *player) bare(status string) {
	p.h.t.Helper()
	p.send(&pb.ProcessingRequest{Request: &pb.ProcessingRequest_ResponseHeaders{ResponseHeaders: &pb.HttpHeaders{Headers: headerMap(":status", status), EndOfStream: true}}})
}

// trailers ends an answer with them.
func (p *player) trailers(pairs ...string) {
	p.h.t.Helper()
	p.send(&pb.ProcessingRequest{Request: &pb.ProcessingRequest_ResponseTrailers{ResponseTrailers: &pb.HttpTrailers{Trailers: headerMap(pairs...)}}})
}

// local sends the headers of a reply of Envoy's own.
func (p *player) local(status, details string, flags, attempts int) {
	p.h.t.Helper()
	p.respond(map[string]any{"response.code_details": details, "response.flags": flags, "upstream.request_attempt_count": attempts}, ":status", status, "content-type", "application/json")
}

func (p *player) respond(attributes map[string]any, pairs ...string) {
	p.h.t.Helper()
	s, err := structpb.NewStruct(attributes)
	check(p.h.t, err)
	p.send(&pb.ProcessingRequest{
		ProtocolConfig: modes(), Attributes: map[string]*structpb.Struct{"envoy.filters.http.ext_proc": s},
		Request: &pb.ProcessingRequest_ResponseHeaders{ResponseHeaders: &pb.HttpHeaders{Headers: headerMap(pairs...)}},
	})
}

func (p *player) chunk(text string, end bool) {
	p.h.t.Helper()
	p.send(&pb.ProcessingRequest{Request: &pb.ProcessingRequest_ResponseBody{ResponseBody: &pb.HttpBody{Body: []byte(text), EndOfStream: end}}})
}

// confirmed takes a request up to the reply that confirms its hold.
func (h *harness) confirmed(route, body string) (*player, *pb.ProcessingResponse) {
	h.t.Helper()
	p := h.open()
	p.head(h.ticket(route), false)
	if m := p.recv(); m.GetRequestHeaders() == nil || m.GetDynamicMetadata() != nil {
		h.t.Fatalf("headers: %v", m)
	}
	p.body(body)
	m := p.recv()
	if m.GetRequestBody() == nil {
		h.t.Fatalf("body: %v", m)
	}
	return p, m
}

// said is what came back to the client: the body of an answer that was released.
func (p *player) said() (status string, text string) {
	p.h.t.Helper()
	var b strings.Builder
	for {
		m := p.recv()
		switch {
		case m.GetImmediateResponse() != nil:
			return fmt.Sprint(int(m.GetImmediateResponse().GetStatus().GetCode())), string(m.GetImmediateResponse().GetBody())
		case m.GetResponseHeaders() != nil:
			status = "head"
		case m.GetResponseBody() != nil:
			s := m.GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse()
			b.Write(s.GetBody())
			if s.GetEndOfStream() {
				return status, b.String()
			}
		}
	}
}

// end is the event of an exchange that has ended. The player hangs up.
func (p *player) end() *proxy.Event {
	p.h.t.Helper()
	p.leave()
	return p.h.event()
}

func (h *harness) event() *proxy.Event {
	h.t.Helper()
	select {
	case e := <-h.events:
		return e
	case <-time.After(20 * time.Second):
		h.t.Fatal("the exchange has not ended")
		return nil
	}
}

func mutated(m *pb.HeaderMutation, name string) string {
	for _, o := range m.GetSetHeaders() {
		if o.GetHeader().GetKey() == name {
			return string(o.GetHeader().GetRawValue())
		}
	}
	return ""
}

// held is the mark for the guard in a reply, "" without.
func held(m *pb.ProcessingResponse) string {
	return m.GetDynamicMetadata().GetFields()["gatehouse"].GetStructValue().GetFields()["held"].GetStringValue()
}

func sse(frames ...string) string {
	return "data: " + strings.Join(frames, "\n\ndata: ") + "\n\n"
}

func openaiDelta(text string) string {
	return fmt.Sprintf(`{"id":"c1","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":[{"index":0,"delta":{"content":%q},"finish_reason":null}]}`, text)
}

const (
	openaiStop  = `{"id":"c1","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	openaiUsage = `{"id":"c1","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}`
)

func openaiAnswer(text, usage string) string {
	if usage != "" {
		usage = `,"usage":` + usage
	}
	return fmt.Sprintf(`{"id":"c1","object":"chat.completion","created":1,"model":"gpt-x","choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}]%s}`, text, usage)
}

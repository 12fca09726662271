package bench

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"google.golang.org/grpc"

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
	"gatehouse/policies"
	"gatehouse/proxy"
)

const exchangeSet = `
upstreams:
  openai: {url: "https://openai.test", format: openai, credential: openai}
routes:
  - {name: chat, match: {listener: outbound, base: /openai, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create,
     llm: {sanitize: {content: markdown, reasoning: prose, tool_call: tool_call}}}
  - {name: unjudged, match: {listener: outbound, base: /raw, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create, llm: {}}
`

const exchangeSidecar = `
name: bench
socket: /run/gatehouse/gate.sock
state_dir: /var/lib/gatehouse
principal: {subject: agent, tenant: org1, project: proj1, role: developer}
listeners: {outbound: {address: "127.0.0.1:8081"}}
credentials: {openai: {env: OPENAI_API_KEY}}
`

// exchangeCheck is Check's metadata of a request to a route of the set.
func exchangeCheck(route string) map[string]any {
	set, err := config.ParseSet("gatehouse.yaml", []byte(exchangeSet))
	if err != nil {
		panic(err)
	}
	m := plainCheck()
	m["revision"], m["route"] = envoyconf.CurrentRevision, route
	for i := range set.Routes {
		if r := &set.Routes[i]; r.Name == route {
			m["shape"] = envoyconf.Shape(r, set.Upstreams[r.Upstream])
		}
	}
	return m
}

// exchanging serves the Exchange with a ledger in its own memory, so that the
// figures are of hold, scan and settlement, and not of a network.
func exchanging(string) *grpc.Server {
	g := grpc.NewServer(grpc.ForceServerCodecV2(rawgrpc.Codec()))
	proxy.New(proxy.Options{
		Table: exchangeTable(), Live: live.New(live.Binding{Tenant: "org1"}, false, time.Now), Ledger: newHeap(),
		Credentials: map[string]request.Secret{"openai": "sk-provider"}, Log: slog.New(slog.DiscardHandler),
		Observe: func(*proxy.Event) {}, Now: time.Now,
	}).Register(g)
	return g
}

func exchangeTable() *snapshot.Table {
	sc, err := config.ParseSidecar("sidecar.yaml", []byte(exchangeSidecar))
	if err != nil {
		panic(err)
	}
	rego, err := fs.ReadFile(policies.Shipped(), "authz.rego")
	if err != nil {
		panic(err)
	}
	files := revision.Files{revision.ConfigFile: []byte(exchangeSet), "authz.rego": rego}
	snap, err := snapshot.NewBuilder(sc, token.NewKeys(token.KeysOptions{}), nil).Build(context.Background(), files)
	if err != nil {
		panic(err)
	}
	table := snapshot.NewTable()
	table.Add(snap)
	return table
}

const benchSidecar = "00000000-0000-4000-8000-000000000001"

// heap is a ledger in memory.
type heap struct{ store *memory.Store }

func newHeap() heap {
	h := heap{memory.New(time.Now)}
	l := budget.Limit{Tenant: "org1", Window: budget.Total, Zone: "UTC", Tokens: budget.MaxLimit}
	if _, err := h.store.CreateLimit(context.Background(), request.Principal{}, l); err != nil {
		panic(err)
	}
	return h
}

// Reserve implements proxy.Ledger.
func (h heap) Reserve(ctx context.Context, tenant string, hold budget.Hold) (budget.Answer, error) {
	hold.Sidecar, hold.Incarnation = benchSidecar, 1
	a, err := h.store.Reserve(ctx, tenant, []budget.Hold{hold})
	if err != nil {
		return budget.Answer{}, err
	}
	return a[0], nil
}

// TopUp implements proxy.Ledger.
func (heap) TopUp(context.Context, string, budget.Key, int64) error {
	return errors.New("no hold here is adaptive")
}

// Settle implements proxy.Ledger.
func (h heap) Settle(tenant string, s budget.Settlement) {
	s.Sidecar = benchSidecar
	if _, err := h.store.Settle(context.Background(), tenant, []budget.Settlement{s}); err != nil {
		panic(err)
	}
}

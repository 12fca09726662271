package envoyconf_test

import (
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	procv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"gatehouse/internal/config"
	"gatehouse/internal/envoyconf"
)

const plainLimit = "gatehouse.body_limit_plain"

// llmRoute is a route of a kind to the upstream openai.
func llmRoute(name string, m config.Match, kind config.LLMKind) config.Route {
	r := route(name, m, "openai")
	r.LLM, r.Budget, r.Timeout, r.MaxStream = &config.LLM{Kind: kind}, config.BudgetRequired, 0, 30*time.Minute
	return r
}

// chat is the fixture's route with an Exchange.
func (f *fixture) chat() *routev3.Route {
	for _, r := range f.Routes["outbound"].VirtualHosts[0].Routes {
		if r.Name == "chat" {
			return r
		}
	}
	f.t.Fatal("no route chat")
	return nil
}

func (f *fixture) chatCluster() *clusterv3.Cluster {
	return f.Clusters[f.chat().GetRoute().GetCluster()]
}

// process edits the configuration of the Exchange.
func (f *fixture) process(edit func(*procv3.ExtProcOverrides)) {
	f.t.Helper()
	per := f.chat().TypedPerFilterConfig
	var m procv3.ExtProcPerRoute
	if err := per[procFilter].UnmarshalTo(&m); err != nil {
		f.t.Fatal(err)
	}
	edit(m.GetOverrides())
	per[procFilter] = f.any(&m)
}

// Whatever would let an answer pass unseen, or refuse a request after its hold,
// is refused before Envoy sees it.
func TestVerifyDemandsTheExchange(t *testing.T) {
	t.Parallel()
	mode := func(edit func(*procv3.ProcessingMode)) func(*fixture) {
		return func(f *fixture) {
			f.process(func(o *procv3.ExtProcOverrides) { edit(o.ProcessingMode) })
		}
	}
	const notTheOne = "is not the one that an Exchange needs"
	for name, c := range map[string]struct {
		spoil func(*fixture)
		want  string
	}{
		"left out": {func(f *fixture) { delete(f.chat().TypedPerFilterConfig, procFilter) }, notTheOne},
		"disabled": {func(f *fixture) {
			f.chat().TypedPerFilterConfig[procFilter] = f.any(&procv3.ExtProcPerRoute{Override: &procv3.ExtProcPerRoute_Disabled{Disabled: true}})
		}, notTheOne},
		"without override":       {func(f *fixture) { f.chat().TypedPerFilterConfig[procFilter] = f.any(&procv3.ExtProcPerRoute{}) }, notTheOne},
		"no request headers":     {mode(func(m *procv3.ProcessingMode) { m.RequestHeaderMode = procv3.ProcessingMode_SKIP }), notTheOne},
		"request body streamed":  {mode(func(m *procv3.ProcessingMode) { m.RequestBodyMode = procv3.ProcessingMode_STREAMED }), notTheOne},
		"request body not seen":  {mode(func(m *procv3.ProcessingMode) { m.RequestBodyMode = procv3.ProcessingMode_NONE }), notTheOne},
		"no response headers":    {mode(func(m *procv3.ProcessingMode) { m.ResponseHeaderMode = procv3.ProcessingMode_SKIP }), notTheOne},
		"response body buffered": {mode(func(m *procv3.ProcessingMode) { m.ResponseBodyMode = procv3.ProcessingMode_BUFFERED }), notTheOne},
		"response body not seen": {mode(func(m *procv3.ProcessingMode) { m.ResponseBodyMode = procv3.ProcessingMode_NONE }), notTheOne},
		"no response trailers":   {mode(func(m *procv3.ProcessingMode) { m.ResponseTrailerMode = procv3.ProcessingMode_SKIP }), notTheOne},
		"mode by default":        {func(f *fixture) { f.process(func(o *procv3.ExtProcOverrides) { o.ProcessingMode = nil }) }, notTheOne},
		"open on failure": {func(f *fixture) {
			f.process(func(o *procv3.ExtProcOverrides) { o.FailureModeAllow = wrapperspb.Bool(true) })
		}, notTheOne},
		"without Check's word": {func(f *fixture) {
			f.process(func(o *procv3.ExtProcOverrides) { o.MetadataOptions = &procv3.MetadataOptions{} })
		}, notTheOne},
		"plain limit on":          {func(f *fixture) { delete(f.chat().TypedPerFilterConfig, plainLimit) }, plainLimit + " would refuse bodies"},
		"plain limit on again":    {func(f *fixture) { f.chat().TypedPerFilterConfig[plainLimit] = f.any(&routev3.FilterConfig{}) }, plainLimit + " would refuse bodies"},
		"no buffer":               {func(f *fixture) { f.chat().RequestBodyBufferLimit = nil }, "buffers 0 bytes"},
		"a small buffer":          {func(f *fixture) { f.chat().RequestBodyBufferLimit = wrapperspb.UInt64(envoyconf.MaxBody) }, "buffers 16777216 bytes"},
		"the default time-out":    {func(f *fixture) { f.chat().GetRoute().Timeout = nil }, "must not limit the whole answer"},
		"a time-out":              {func(f *fixture) { f.chat().GetRoute().Timeout = durationpb.New(time.Second) }, "must not limit the whole answer"},
		"a stream without an end": {func(f *fixture) { f.chat().GetRoute().MaxStreamDuration = nil }, "must not limit the whole answer"},
		"retries":                 {func(f *fixture) { f.chat().GetRoute().RetryPolicy = &routev3.RetryPolicy{} }, "retries are off"},
		"plain route to a model": {func(f *fixture) {
			f.action().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: f.chatCluster().Name}
		}, notTheOne},
		"exempt route to a model": {func(f *fixture) {
			f.route("health").GetRoute().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: f.chatCluster().Name}
		}, notTheOne},
		"upstream without a format": {func(f *fixture) { f.chatCluster().Metadata = nil }, "without leading to a language model"},
		"Exchange on a plain route": {func(f *fixture) { f.per()[procFilter] = f.chat().TypedPerFilterConfig[procFilter] }, "without leading to a language model"},
		"Exchange on a table": {func(f *fixture) {
			f.Routes["inbound"].TypedPerFilterConfig[procFilter] = f.chat().TypedPerFilterConfig[procFilter]
		}, "without leading to a language model"},
		"large bodies on a plain route": {func(f *fixture) { f.per()[plainLimit] = f.chat().TypedPerFilterConfig[plainLimit] }, "without leading to a language model"},
		"large bodies on a host": {func(f *fixture) {
			f.vhost().TypedPerFilterConfig = f.chat().TypedPerFilterConfig
		}, "without leading to a language model"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			c.spoil(f)
			err := envoyconf.Verify(f.Resources)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

// A cluster that merely has metadata is no language model's.
func TestVerifyKnowsOthersMetadata(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Clusters[f.action().GetCluster()].Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"gatehouse": {}, "envoy.lb": {}}}
	if err := envoyconf.Verify(f.Resources); err != nil {
		t.Error(err)
	}
}

// A name that stands for something else must not be taken for what it was.
func TestShapeTellsWhoPolices(t *testing.T) {
	t.Parallel()
	m := config.Match{Listener: "outbound", Base: "/openai", Path: "/v1/chat/completions", Methods: []string{"POST"}}
	plain, exempt := route("r", m, "openai"), route("r", m, "openai")
	exempt.Exempt = true
	call, free := llmRoute("r", m, config.LLMCall), llmRoute("r", m, config.LLMFree)
	up := upstream("https://ai.example", "https", "ai.example", 443)
	of := func(format string) config.Upstream {
		u := up
		u.Format = format
		return u
	}
	shapes := map[string]string{}
	for name, shape := range map[string]string{
		"plain": envoyconf.Shape(&plain, up), "exempt": envoyconf.Shape(&exempt, up),
		"call": envoyconf.Shape(&call, of("openai")), "free": envoyconf.Shape(&free, of("openai")),
		"call of another format": envoyconf.Shape(&call, of("anthropic")),
	} {
		if other, taken := shapes[shape]; taken {
			t.Errorf("%s and %s have one shape", name, other)
		}
		shapes[shape] = name
	}
	again := llmRoute("r", m, config.LLMCall)
	again.LLM.Models, again.MaxStream = []string{"a"}, time.Hour
	if envoyconf.Shape(&again, of("openai")) != envoyconf.Shape(&call, of("openai")) {
		t.Error("what the revision says anyway changes the shape")
	}
}

// Envoy's own end of a stream comes after that of the Exchange.
func TestEnvoyWaitsForTheExchange(t *testing.T) {
	t.Parallel()
	action := newFixture(t).chat().GetRoute()
	if got, want := action.GetMaxStreamDuration().GetMaxStreamDuration().AsDuration(), 30*time.Minute+5*time.Second; got != want {
		t.Errorf("the stream ends after %s, want %s", got, want)
	}
	if action.GetTimeout() == nil || action.GetTimeout().AsDuration() != 0 || action.GetIdleTimeout().AsDuration() != time.Minute {
		t.Errorf("time-out %s, idle %s", action.GetTimeout(), action.GetIdleTimeout())
	}
}

package envoyconf_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	procv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"gatehouse/internal/envoyconf"
)

const (
	authzFilter = "envoy.filters.http.ext_authz"
	procFilter  = "envoy.filters.http.ext_proc"
	guardFilter = "gatehouse.hold_guard"
)

// Every row is a configuration that Envoy 1.40 acknowledges without doing what
// it says, or rejects; each breaks one thing in resources that are good.
func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		spoil func(*fixture)
		want  string
	}{
		"route to a missing cluster":       {func(f *fixture) { f.action().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: "ghost"} }, `cluster "ghost" is missing`},
		"cluster name stands twice":        {func(f *fixture) { f.Clusters["other"] = f.firstCluster() }, "a name may stand once"},
		"cluster named gate":               {func(f *fixture) { c := f.firstCluster(); c.Name = "gate"; f.Clusters["gate"] = c }, "the sidecar's own"},
		"listener name stands twice":       {func(f *fixture) { f.Listeners["again"] = f.Listeners["inbound"] }, "a name may stand once"},
		"listener address stands twice":    {func(f *fixture) { f.Listeners["outbound"].Address = f.Listeners["inbound"].Address }, "is listener inbound's"},
		"per-route key mistyped":           {func(f *fixture) { f.move(authzFilter, "envoy.filters.http.ext_auth") }, "no filter reads"},
		"per-route key of the Exchange":    {func(f *fixture) { f.per()["envoy.filters.http.ext_proc2"] = f.any(&procv3.ExtProcPerRoute{}) }, "no filter reads"},
		"per-route type of another filter": {func(f *fixture) { f.per()[procFilter] = f.per()[authzFilter] }, "the per-route configuration of envoy.filters.http.ext_proc is a"},
		"per-route configuration missing":  {func(f *fixture) { delete(f.per(), authzFilter) }, "Check would not know it"},
		"guard has a per-route one":        {func(f *fixture) { f.per()[guardFilter] = f.any(&rbacv3.RBACPerRoute{}) }, "no filter reads"},
		"Check switched off":               {func(f *fixture) { f.per()[authzFilter] = f.any(disabled()) }, "Check would not know it"},
		"route without its shape":          {func(f *fixture) { f.per()[authzFilter] = f.any(settings("rest", "")) }, "Check would not know it"},
		"route under another's name":       {func(f *fixture) { f.per()[authzFilter] = f.any(settings("tasks", "x")) }, "Check would not know it"},
		"routes without a revision":        {func(f *fixture) { f.Routes["inbound"].TypedPerFilterConfig = nil }, "carries no revision"},
		"exempt without exact path": {func(f *fixture) {
			f.rest().Metadata = exemptMetadata()
			f.rest().RequestHeadersToRemove = envoyconf.CredentialHeaders()
		}, "not an exact path"},
		"exempt keeps token slots":       {func(f *fixture) { f.route("health").RequestHeadersToRemove = nil }, "authorization is not removed"},
		"filter with an unknown cluster": {func(f *fixture) { f.filter(authzFilter, unknownCluster) }, `calls the cluster "ghost"`},
		"filter left out":                {func(f *fixture) { f.chain(func(m *hcmv3.HttpConnectionManager) { m.HttpFilters = m.HttpFilters[1:] }) }, "its HTTP filters are"},
		"guard left out":                 {func(f *fixture) { f.chain(withoutGuard) }, "its HTTP filters are"},
		"two filter chains": {func(f *fixture) {
			c := f.Listeners["inbound"]
			c.FilterChains = append(c.FilterChains, c.FilterChains[0])
		}, "2 filter chains, not one"},
		"route table under another's name": {func(f *fixture) { f.Routes["inbound"].Name = "outbound" }, "a name may stand once"},
		"per-route key of a table": {func(f *fixture) {
			f.Routes["inbound"].TypedPerFilterConfig["envoy.filters.http.lua"] = f.per()[authzFilter]
		}, "no filter reads"},
		"per-route key of a host": {func(f *fixture) {
			f.vhost().TypedPerFilterConfig = map[string]*anypb.Any{guardFilter: f.any(&rbacv3.RBACPerRoute{})}
		}, "no filter reads"},
		"exempt below a path": {func(f *fixture) {
			f.route("health").Match.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/healthz"}
		}, "not an exact path"},
		"exempt for any method":            {func(f *fixture) { f.route("health").Match.Headers = nil }, "not an exact path"},
		"exempt for POST":                  {func(f *fixture) { f.route("health").Match.Headers = methodRegex("GET|POST") }, "not an exact path"},
		"route table missing":              {func(f *fixture) { delete(f.Routes, "outbound") }, `route table "outbound" is missing`},
		"header name with a space":         {func(f *fixture) { f.rest().RequestHeadersToAdd = header("x bad", "1") }, "no header name"},
		"header to remove with a space":    {func(f *fixture) { f.rest().RequestHeadersToRemove = []string{"x bad"} }, "no header name"},
		"header :path":                     {func(f *fixture) { f.rest().RequestHeadersToAdd = header(":path", "/") }, "no header name"},
		"header host":                      {func(f *fixture) { f.rest().RequestHeadersToAdd = header("host", "a") }, "no header name"},
		"header value with a lone percent": {func(f *fixture) { f.rest().RequestHeadersToAdd = header("x-a", "100%") }, "must be written"},
		"header value with an operator":    {func(f *fixture) { f.rest().RequestHeadersToAdd = header("x-a", "%NOPE()%") }, "must be written"},
		"header value with CRLF":           {func(f *fixture) { f.rest().RequestHeadersToAdd = header("x-a", "a\r\nb: c") }, "regex"},
		"domain with a star inside":        {func(f *fixture) { f.vhost().Domains = []string{"foo*bar"} }, "no host"},
		"domain with a path":               {func(f *fixture) { f.vhost().Domains = []string{"a.test/x"} }, "no host"},
		"domain with a space":              {func(f *fixture) { f.vhost().Domains = []string{"a test"} }, "no host"},
		"domain with a control byte":       {func(f *fixture) { f.vhost().Domains = []string{"a\x01b"} }, "no host"},
		"domain stands twice":              {func(f *fixture) { f.addHost("again", "*") }, "stands twice"},
		"domain stands twice in one host":  {func(f *fixture) { f.vhost().Domains = []string{"a.test", "a.test"} }, "stands twice"},
		"virtual host name stands twice":   {func(f *fixture) { f.addHost(f.vhost().Name, "b.test") }, "stands twice"},
		"shadowed route":                   {func(f *fixture) { r := f.vhost().Routes; r[0], r[len(r)-1] = r[len(r)-1], r[0] }, "never matches"},
		"route stands twice":               {func(f *fixture) { f.vhost().Routes = append(f.vhost().Routes, f.rest()) }, "never matches"},
		"prefix without a slash":           {func(f *fixture) { f.rest().Match.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "x"} }, "no path that a request can have"},
		"path with a query":                {func(f *fixture) { f.rest().Match.PathSpecifier = &routev3.RouteMatch_Path{Path: "/a?b"} }, "no path that a request can have"},
		"regex rewrite":                    {func(f *fixture) { f.action().RegexRewrite = rewriteNine() }, "regular rewrites are not used"},
		"regex invalid":                    {func(f *fixture) { f.rest().Match.Headers = methodRegex("GET|)") }, "error parsing regexp"},
		"regex with a lookahead":           {func(f *fixture) { f.rest().Match.Headers = methodRegex("(?=GET)") }, "error parsing regexp"},
		"regex too large":                  {func(f *fixture) { f.rest().Match.Headers = methodRegex("[A-Z]{90}") }, "instructions"},
		"retries":                          {func(f *fixture) { f.action().RetryPolicy = &routev3.RetryPolicy{RetryOn: "nonsense"} }, "retries are off"},
		"endpoint port 0":                  {func(f *fixture) { f.endpoint().PortSpecifier = &corev3.SocketAddress_PortValue{} }, "port 0"},
		"listener port 70000":              {func(f *fixture) { f.port("inbound", 70000) }, "port 70000"},
		"cluster without endpoints":        {func(f *fixture) { f.firstCluster().LoadAssignment.Endpoints = nil }, "has no endpoint"},
		"connect time-out of nothing":      {func(f *fixture) { f.firstCluster().ConnectTimeout = durationpb.New(-time.Second) }, "ConnectTimeout"},
		"action that goes nowhere":         {func(f *fixture) { f.rest().Action = nil }, "no cluster to go to"},
		"message of an unknown type":       {func(f *fixture) { f.per()[authzFilter] = &anypb.Any{TypeUrl: "type.googleapis.com/no.Such"} }, "no.Such"},
	}
	for name, c := range cases {
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

// fixture is resources that Verify accepts, and ways to reach into them.
type fixture struct {
	*envoyconf.Resources
	t *testing.T
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	res, err := envoyconf.Translate(sidecar(), set(), "r1")
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{res, t}
}

func (f *fixture) vhost() *routev3.VirtualHost { return f.Routes["inbound"].VirtualHosts[0] }

func (f *fixture) route(name string) *routev3.Route {
	for _, r := range f.vhost().Routes {
		if r.Name == name {
			return r
		}
	}
	f.t.Fatalf("no route %s", name)
	return nil
}

func (f *fixture) rest() *routev3.Route         { return f.route("rest") }
func (f *fixture) action() *routev3.RouteAction { return f.rest().GetRoute() }
func (f *fixture) per() map[string]*anypb.Any   { return f.rest().TypedPerFilterConfig }
func (f *fixture) endpoint() *corev3.SocketAddress {
	return f.firstCluster().LoadAssignment.Endpoints[0].LbEndpoints[0].GetEndpoint().Address.GetSocketAddress()
}

func (f *fixture) addHost(name, domain string) {
	f.Routes["inbound"].VirtualHosts = append(f.Routes["inbound"].VirtualHosts,
		&routev3.VirtualHost{Name: name, Domains: []string{domain}})
}

func (f *fixture) move(from, to string) {
	f.per()[to] = f.per()[from]
	delete(f.per(), from)
}

func (f *fixture) any(m proto.Message) *anypb.Any {
	f.t.Helper()
	packed, err := anypb.New(m)
	if err != nil {
		f.t.Fatal(err)
	}
	return packed
}

func (f *fixture) port(listener string, port uint32) {
	f.Listeners[listener].Address.GetSocketAddress().PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: port}
}

// chain edits the connection manager of the inbound listener.
func (f *fixture) chain(edit func(*hcmv3.HttpConnectionManager)) {
	f.t.Helper()
	for _, nf := range f.Listeners["inbound"].FilterChains[0].Filters {
		var m hcmv3.HttpConnectionManager
		if nf.GetTypedConfig().MessageIs(&m) {
			if err := nf.GetTypedConfig().UnmarshalTo(&m); err != nil {
				f.t.Fatal(err)
			}
			edit(&m)
			nf.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: f.any(&m)}
		}
	}
}

// filter edits ext_authz inside of the chain.
func (f *fixture) filter(name string, edit func(*authzv3.ExtAuthz)) {
	f.chain(func(m *hcmv3.HttpConnectionManager) {
		for _, hf := range m.HttpFilters {
			if hf.Name != name {
				continue
			}
			var a authzv3.ExtAuthz
			if err := hf.GetTypedConfig().UnmarshalTo(&a); err != nil {
				f.t.Fatal(err)
			}
			edit(&a)
			hf.ConfigType = &hcmv3.HttpFilter_TypedConfig{TypedConfig: f.any(&a)}
		}
	})
}

func unknownCluster(a *authzv3.ExtAuthz) { a.GetGrpcService().GetEnvoyGrpc().ClusterName = "ghost" }

func withoutGuard(m *hcmv3.HttpConnectionManager) {
	for i, f := range m.HttpFilters {
		if f.Name == guardFilter {
			m.HttpFilters = append(m.HttpFilters[:i], m.HttpFilters[i+1:]...)
			return
		}
	}
}

func disabled() *authzv3.ExtAuthzPerRoute {
	return &authzv3.ExtAuthzPerRoute{Override: &authzv3.ExtAuthzPerRoute_Disabled{Disabled: true}}
}

func settings(route, shape string) *authzv3.ExtAuthzPerRoute {
	return &authzv3.ExtAuthzPerRoute{Override: &authzv3.ExtAuthzPerRoute_CheckSettings{
		CheckSettings: &authzv3.CheckSettings{ContextExtensions: map[string]string{"route": route, "shape": shape}},
	}}
}

func exemptMetadata() *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		"gatehouse": {Fields: map[string]*structpb.Value{"exempt": structpb.NewBoolValue(true)}},
	}}
}

func header(name, value string) []*corev3.HeaderValueOption {
	return []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: name, Value: value}}}
}

func methodRegex(pattern string) []*routev3.HeaderMatcher {
	return []*routev3.HeaderMatcher{{Name: ":method", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
		StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
			SafeRegex: &matcherv3.RegexMatcher{Regex: pattern},
		}},
	}}}
}

func rewriteNine() *matcherv3.RegexMatchAndSubstitute {
	return &matcherv3.RegexMatchAndSubstitute{Pattern: &matcherv3.RegexMatcher{Regex: "a"}, Substitution: `\9`}
}

func (f *fixture) firstCluster() *clusterv3.Cluster {
	for _, name := range slices.Sorted(maps.Keys(f.Clusters)) {
		return f.Clusters[name]
	}
	f.t.Fatal("no cluster")
	return nil
}

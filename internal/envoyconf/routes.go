package envoyconf

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"gatehouse/internal/config"
)

// Shape identifies what a route's name stood for when Envoy matched it: match,
// upstream and kind. Check refuses a name whose shape it does not know.
func Shape(r *config.Route, u config.Upstream) string {
	m, kind := r.Match, kindOf(r, u)
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", []any{
		kind, m.Listener, m.Host, m.Base, m.Path, m.Prefix, m.Methods, u.URL, u.Credential,
	}))
	return hex.EncodeToString(sum[:8])
}

// kindOf names who polices a route: nobody, Check alone, or an Exchange of a
// kind and format.
func kindOf(r *config.Route, u config.Upstream) string {
	switch {
	case r.Exempt:
		return "exempt"
	case r.LLM != nil:
		return "llm " + string(r.LLM.Kind) + " " + u.Format
	}
	return "plain"
}

// routeTable is one listener's RouteConfiguration. Routes match in file order,
// also across hosts: each host's virtual host repeats the routes of any host.
func routeTable(listener string, set *config.PolicySet, revision string, clusters map[string]*clusterv3.Cluster) *routev3.RouteConfiguration {
	table := &routev3.RouteConfiguration{
		Name:                     listener,
		IgnorePortInHostMatching: true,
		ValidateClusters:         boolean(true),
		TypedPerFilterConfig: map[string]*anypb.Any{
			filterAuthz: checkSettings(map[string]string{ExtRevision: revision}, 0),
		},
	}
	for _, host := range append(hosts(listener, set), "*") {
		table.VirtualHosts = append(table.VirtualHosts, virtualHost(listener, host, set, clusters))
	}
	return table
}

// hosts lists the hosts that a listener's routes name, each once, sorted.
func hosts(listener string, set *config.PolicySet) []string {
	var names []string
	for i := range set.Routes {
		if m := set.Routes[i].Match; m.Listener == listener && m.Host != "" {
			names = append(names, m.Host)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func virtualHost(listener, host string, set *config.PolicySet, clusters map[string]*clusterv3.Cluster) *routev3.VirtualHost {
	name := host
	if host == "*" {
		name = "any"
	}
	vh := &routev3.VirtualHost{Name: name, Domains: []string{host}}
	for i := range set.Routes {
		r := &set.Routes[i]
		if r.Match.Listener != listener || (r.Match.Host != "" && r.Match.Host != host) {
			continue
		}
		vh.Routes = append(vh.Routes, routes(r, set.Upstreams[r.Upstream], clusters)...)
	}
	return vh
}

// routes is what one configured route becomes: one Envoy route, or two where
// a base is removed before the root ("/base" and "/base/…" both become "/…").
func routes(r *config.Route, u config.Upstream, clusters map[string]*clusterv3.Cluster) []*routev3.Route {
	c := cluster(r.Upstream, u, r.ConnectTimeout)
	clusters[c.Name] = c
	if r.Match.Base != "" && r.Match.Prefix == "/" {
		bare := route(r, u, c.Name, &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: r.Match.Base}}, "/")
		below := route(r, u, c.Name, &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: r.Match.Base + "/"}}, "/")
		return []*routev3.Route{bare, below}
	}
	return []*routev3.Route{route(r, u, c.Name, pathMatch(r.Match), rewrite(r.Match))}
}

func pathMatch(m config.Match) *routev3.RouteMatch {
	switch {
	case m.Path != "":
		return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: m.Base + m.Path}}
	case m.Prefix == "/":
		return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
	default:
		return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: m.Base + m.Prefix}}
	}
}

// rewrite is what the matched part becomes: itself, without the base.
func rewrite(m config.Match) string {
	if m.Base == "" {
		return ""
	}
	return m.Path + m.Prefix
}

func route(r *config.Route, u config.Upstream, clusterName string, match *routev3.RouteMatch, prefixRewrite string) *routev3.Route {
	methods := r.Match.Methods
	if r.Exempt && len(methods) == 0 {
		methods = []string{"GET", "HEAD"}
	}
	if len(methods) > 0 {
		match.Headers = []*routev3.HeaderMatcher{methodMatch(methods)}
	}
	action := &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: clusterName},
		Timeout:          duration(r.Timeout),
		IdleTimeout:      duration(r.IdleTimeout),
		PrefixRewrite:    prefixRewrite,
	}
	if r.Match.Listener == config.Outbound {
		action.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: authority(u)}
	}
	out := &routev3.Route{Name: r.Name, Match: match, Action: &routev3.Route_Route{Route: action}}
	if r.Exempt {
		exempt(out)
		return out
	}
	out.TypedPerFilterConfig = map[string]*anypb.Any{
		filterAuthz: checkSettings(map[string]string{ExtRoute: r.Name, ExtShape: Shape(r, u)}, r.Body),
	}
	if r.LLM != nil {
		exchanged(r, u.Format, out)
	}
	return out
}

// exempt switches Check off for a route and tells the guard so. Only routes
// that configuration declares exempt come here; they carry no credential, and
// what a client put into the token slots is removed.
func exempt(r *routev3.Route) {
	r.TypedPerFilterConfig = map[string]*anypb.Any{
		filterAuthz: pack(&authzv3.ExtAuthzPerRoute{Override: &authzv3.ExtAuthzPerRoute_Disabled{Disabled: true}}),
	}
	r.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		MetadataNamespace: {Fields: map[string]*structpb.Value{KeyExempt: structpb.NewBoolValue(true)}},
	}}
	r.RequestHeadersToRemove = CredentialHeaders()
}

// checkSettings is the per-route configuration of Check. body > 0 makes Envoy
// wait for the whole body and answer 413 when it is longer; otherwise Check
// sees none.
func checkSettings(extensions map[string]string, body int64) *anypb.Any {
	settings := &authzv3.CheckSettings{ContextExtensions: extensions, DisableRequestBodyBuffering: body == 0}
	if body > 0 {
		settings.WithRequestBody = &authzv3.BufferSettings{MaxRequestBytes: uint32(body), PackAsBytes: true}
	}
	return pack(&authzv3.ExtAuthzPerRoute{Override: &authzv3.ExtAuthzPerRoute_CheckSettings{CheckSettings: settings}})
}

func methodMatch(methods []string) *routev3.HeaderMatcher {
	match := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: methods[0]}}
	if len(methods) > 1 {
		// Methods are tokens of upper-case letters: nothing in them is special.
		match.MatchPattern = &matcherv3.StringMatcher_SafeRegex{
			SafeRegex: &matcherv3.RegexMatcher{Regex: strings.Join(methods, "|")},
		}
	}
	return &routev3.HeaderMatcher{
		Name:                 ":method",
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: match},
	}
}

// authority is the Host that an upstream expects.
func authority(u config.Upstream) string {
	host := u.Host
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		host = "[" + host + "]"
	}
	if (u.Scheme == "http" && u.Port == 80) || (u.Scheme == "https" && u.Port == 443) {
		return host
	}
	return fmt.Sprintf("%s:%d", host, u.Port)
}

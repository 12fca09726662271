package envoyconf

import (
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	procv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// perRouteTypes is the only per-route configuration that a filter reads. One
// under another name, or of another type, is accepted by Envoy and ignored.
// The guard has none on purpose.
func perRouteTypes() map[string]proto.Message {
	return map[string]proto.Message{
		filterAuthz:     &authzv3.ExtAuthzPerRoute{},
		filterProc:      &procv3.ExtProcPerRoute{},
		filterBodyPlain: &routev3.FilterConfig{},
	}
}

func (v *verifier) table(name string, t *routev3.RouteConfiguration) {
	where := "routes " + name
	v.message(where, t)
	if t.GetName() != name {
		v.fault("%s: is named %q: a name may stand once", where, t.GetName())
	}
	v.perRoute(where, t.GetTypedPerFilterConfig())
	v.plain(where, t.GetTypedPerFilterConfig())
	if v.extensions(where, t.GetTypedPerFilterConfig())[ExtRevision] == "" {
		v.fault("%s: carries no revision for Check", where)
	}
	hosts, domains := map[string]bool{}, map[string]bool{}
	for _, vh := range t.GetVirtualHosts() {
		if hosts[vh.GetName()] {
			v.fault("%s: virtual host %q stands twice", where, vh.GetName())
		}
		hosts[vh.GetName()] = true
		v.virtualHost(where+": host "+vh.GetName(), vh, domains)
	}
}

func (v *verifier) virtualHost(where string, vh *routev3.VirtualHost, domains map[string]bool) {
	v.perRoute(where, vh.GetTypedPerFilterConfig())
	v.plain(where, vh.GetTypedPerFilterConfig())
	for _, d := range vh.GetDomains() {
		if !domain(d) {
			v.fault("%s: %q is no host", where, d)
		}
		if domains[strings.ToLower(d)] {
			v.fault("%s: %q stands twice", where, d)
		}
		domains[strings.ToLower(d)] = true
	}
	for i, r := range vh.GetRoutes() {
		v.route(where+": route "+r.GetName(), r)
		v.shadow(where, vh.GetRoutes()[:i], r)
	}
}

// domain accepts "*" and whole host names: Envoy takes anything, and what it
// can't match never matches.
func domain(d string) bool {
	if d == "*" {
		return true
	}
	for i := range len(d) {
		c := d[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != ':' && c != '[' && c != ']' {
			return false
		}
	}
	return d != ""
}

func (v *verifier) route(where string, r *routev3.Route) {
	v.path(where, r.GetMatch())
	v.perRoute(where, r.GetTypedPerFilterConfig())
	v.checked(where, r)
	v.exchange(where, r)
	for _, h := range r.GetRequestHeadersToRemove() {
		if !headerName(h) {
			v.fault("%s: %q is no header name", where, h)
		}
	}
	action := r.GetRoute()
	if action == nil {
		v.fault("%s: has no cluster to go to", where)
		return
	}
	if v.res.Clusters[action.GetCluster()] == nil {
		v.fault("%s: its cluster %q is missing", where, action.GetCluster())
	}
	if action.GetRetryPolicy() != nil {
		v.fault("%s: retries are off: Check and holds are made once", where)
	}
}

// path refuses what never matches: Envoy compares with a path that begins
// with a slash and has no query.
func (v *verifier) path(where string, m *routev3.RouteMatch) {
	p := m.GetPath() + m.GetPrefix() + m.GetPathSeparatedPrefix()
	if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "?#") {
		v.fault("%s: %q is no path that a request can have", where, p)
	}
}

// checked demands that Check runs and knows the route, or that the route is
// exempt in every way an exempt route must be.
func (v *verifier) checked(where string, r *routev3.Route) {
	if r.GetMetadata().GetFilterMetadata()[MetadataNamespace].GetFields()[KeyExempt] != nil {
		v.exempt(where, r)
		return
	}
	ext := v.extensions(where, r.GetTypedPerFilterConfig())
	if ext[ExtRoute] != r.GetName() || ext[ExtRoute] == "" || ext[ExtShape] == "" {
		v.fault("%s: Check would not know it", where)
	}
}

func (v *verifier) exempt(where string, r *routev3.Route) {
	removed := r.GetRequestHeadersToRemove()
	for _, h := range CredentialHeaders() {
		if !slices.Contains(removed, h) {
			v.fault("%s: exempt, but %s is not removed", where, h)
		}
	}
	if r.GetMatch().GetPath() == "" || !readsOnly(r.GetMatch()) {
		v.fault("%s: exempt, but not an exact path for GET and HEAD", where)
	}
}

func readsOnly(m *routev3.RouteMatch) bool {
	methods := methodsOf(m)
	return len(methods) > 0 && !slices.ContainsFunc(methods, func(s string) bool { return s != "GET" && s != "HEAD" })
}

// methodsOf lists the methods a match names; none means any.
func methodsOf(m *routev3.RouteMatch) []string {
	for _, h := range m.GetHeaders() {
		if h.GetName() != ":method" {
			continue
		}
		if re := h.GetStringMatch().GetSafeRegex().GetRegex(); re != "" {
			return strings.Split(re, "|")
		}
		return []string{h.GetStringMatch().GetExact()}
	}
	return nil
}

func (v *verifier) extensions(where string, per map[string]*anypb.Any) map[string]string {
	packed := per[filterAuthz]
	if packed == nil {
		return nil
	}
	var cfg authzv3.ExtAuthzPerRoute
	if err := packed.UnmarshalTo(&cfg); err != nil {
		v.fault("%s: %w", where, err)
		return nil
	}
	return cfg.GetCheckSettings().GetContextExtensions()
}

func (v *verifier) perRoute(where string, per map[string]*anypb.Any) {
	types := perRouteTypes()
	for filter, packed := range per {
		want, known := types[filter]
		switch {
		case !known:
			v.fault("%s: no filter reads a per-route configuration named %q", where, filter)
		case !packed.MessageIs(want):
			v.fault("%s: the per-route configuration of %s is a %s", where, filter, packed.GetTypeUrl())
		}
	}
}

// shadow refuses a route whose every request an earlier one takes.
func (v *verifier) shadow(where string, earlier []*routev3.Route, r *routev3.Route) {
	for _, e := range earlier {
		if covers(e.GetMatch(), r.GetMatch()) {
			v.fault("%s: route %s never matches: route %s stands before it", where, r.GetName(), e.GetName())
			return
		}
	}
}

func covers(a, b *routev3.RouteMatch) bool {
	am, bm := methodsOf(a), methodsOf(b)
	for _, m := range bm {
		if len(am) > 0 && !slices.Contains(am, m) {
			return false
		}
	}
	if len(am) > 0 && len(bm) == 0 {
		return false
	}
	return coversPath(a, b)
}

func coversPath(a, b *routev3.RouteMatch) bool {
	p := b.GetPath() + b.GetPrefix() + b.GetPathSeparatedPrefix()
	switch {
	case a.GetPath() != "":
		return b.GetPath() == a.GetPath()
	case a.GetPrefix() != "":
		return strings.HasPrefix(p, a.GetPrefix())
	default:
		s := a.GetPathSeparatedPrefix()
		return p == s || strings.HasPrefix(p, s+"/")
	}
}

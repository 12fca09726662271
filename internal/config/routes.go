package config

import (
	"fmt"
	"slices"
	"time"
)

const (
	// maxRouteLimits is how many limits one route may name.
	maxRouteLimits = 16
	// maxBody is the largest body that Check may wait for.
	maxBody = mib
)

func routeSchema() schema {
	return schema{
		"name": required, "match": required, "upstream": required,
		"exempt": optional, "principal": optional, "permission": optional, "limits": optional, "mode": optional,
		"timeout": optional, "idle_timeout": optional, "connect_timeout": optional, "body": optional, "forward_token": optional,
		"llm": optional, "budget": optional, "max_stream": optional, "learning": later, "dead_letter": later,
	}
}

// draft is one route on its way into the set.
type draft struct {
	Route
	o     object
	whole bool // the match has no fault
}

func readRoutes(set object, out *PolicySet) {
	taken := names{}
	nodes := set.list("routes", maxRoutes)
	set.notEmpty("routes")
	routes := make([]draft, len(nodes))
	for i, n := range nodes {
		o := decode(set.report, n, routeSchema())
		routes[i] = newRoute(o, out)
		routes[i].Name = taken.claim(o)
		routes[i].checkUpstream(out)
		out.Routes = append(out.Routes, routes[i].Route)
		out.places.routes = append(out.places.routes, n.at)
	}
	checkShadows(routes)
}

// newRoute reads all of a route but its name, and the rules that need no other route.
func newRoute(o object, out *PolicySet) draft {
	r := draft{o: o}
	r.Match, r.whole = readMatch(o)
	r.Upstream = text(o, "upstream", "", keep(checkName))
	r.Exempt = o.boolean("exempt")
	r.Mode = text(o, "mode", out.Policy.Mode, parseMode)
	r.Timeout = o.duration("timeout", 15*time.Second, time.Millisecond, time.Hour)
	r.IdleTimeout = o.duration("idle_timeout", 60*time.Second, time.Second, time.Hour)
	r.ConnectTimeout = o.duration("connect_timeout", 2*time.Second, 10*time.Millisecond, 60*time.Second)
	r.Limits = o.texts("limits", maxRouteLimits, out.checkLimit)
	r.Body = o.size("body", 0, 1, maxBody)
	r.ForwardToken = o.boolean("forward_token")
	r.Permission = readPermission(o, out.Policy.Entry, r.Match.Methods)
	r.readPrincipal()
	r.demandPermission()
	r.readLLM()
	if r.ForwardToken && r.Match.Listener == Outbound {
		o.fault("forward_token", "is for inbound routes only")
	}
	if r.Exempt {
		r.checkExempt()
	}
	return r
}

// readPrincipal fills in the principal's mode. An exempt route has none, since
// nobody is asked who calls.
func (r *draft) readPrincipal() {
	missing := PrincipalToken
	switch {
	case r.Exempt:
		missing = PrincipalNone
	case r.Match.Listener == Outbound:
		missing = PrincipalTokenOrWorkload
	}
	r.Principal = text(r.o, "principal", missing, parsePrincipal)
	if r.Principal.needsWorkload() && r.Match.Listener == Inbound {
		r.o.fault("principal", "%s is for outbound routes only", r.Principal)
	}
}

// demandPermission reports a route of which policy would be asked nothing.
func (r *draft) demandPermission() {
	if !r.o.has("permission") && r.Principal != PrincipalNone {
		r.o.report.add(r.o.at, r.o.path, `"permission" is missing; only exempt routes and principal: none go without`)
	}
}

func parsePrincipal(s string) (PrincipalMode, error) {
	return PrincipalMode(s), oneOf(string(PrincipalToken), string(PrincipalWorkload),
		string(PrincipalTokenOrWorkload), string(PrincipalNone))(s)
}

// needsWorkload reports whether a route of this mode calls as the sidecar's workload.
func (p PrincipalMode) needsWorkload() bool {
	return p == PrincipalWorkload || p == PrincipalTokenOrWorkload
}

// checkExempt refuses on an exempt route what would have no effect there, and
// what would let more through unchecked than a probe.
func (r *draft) checkExempt() {
	if r.Match.Listener == Outbound {
		r.o.fault("exempt", "is for inbound routes only")
	}
	if r.Match.Prefix != "" {
		r.o.fault("exempt", "needs an exact path")
	}
	if !containsAll(r.takes(), r.Match.Methods) {
		r.o.fault("exempt", "takes GET and HEAD only")
	}
	for _, key := range []string{"principal", "permission", "limits", "mode", "body", "forward_token", "llm", "budget", "max_stream"} {
		if r.o.has(key) {
			r.o.fault(key, "has no effect on an exempt route")
		}
	}
}

// takes returns the methods that a route takes; nil means all.
func (r *draft) takes() []string {
	if !r.Exempt {
		return r.Match.Methods
	}
	probes := []string{"GET", "HEAD"}
	if len(r.Match.Methods) == 0 || !containsAll(probes, r.Match.Methods) {
		return probes
	}
	return r.Match.Methods
}

// checkUpstream reports an upstream that the set does not have, and one that
// the route must not lead to.
func (r *draft) checkUpstream(out *PolicySet) {
	u, ok := out.Upstreams[r.Upstream]
	switch {
	case !ok && r.Upstream != "" && len(out.Upstreams) > 0: // none at all is a fault of its own
		r.o.fault("upstream", "there is no upstream %s", quote(r.Upstream))
	case r.Exempt && u.Credential != "":
		r.o.fault("upstream", "an exempt route must not lead to an upstream with a credential")
	}
	if ok {
		r.checkFormat(u)
	}
}

// checkLimit checks that the set has a limit of that name.
func (p *PolicySet) checkLimit(name string) error {
	if !slices.ContainsFunc(p.Limits, func(l Limit) bool { return l.Name == name }) {
		return fmt.Errorf("there is no limit %s", quote(name))
	}
	return nil
}

package config

import "fmt"

// CheckPair checks that a set can be served by a sidecar: its listeners exist,
// its upstreams' credentials are configured, and the routes that call as the
// workload have one and can be reached by nobody else. Both are as ParseSet
// and ParseSidecar return them. The error, if any, is Faults in the set's
// file, with positions where the set was read from one.
func CheckPair(set *PolicySet, sc *Sidecar) error {
	r := &report{file: set.places.file}
	checkControl(r, set, sc)
	reported := map[string]bool{}
	for i, route := range set.Routes {
		p := pair{report: r, at: set.places.route(i), path: fmt.Sprintf("routes[%d]", i)}
		p.checkListener(route, sc)
		p.checkWorkload(route, sc)
		// A credential is a fault of its upstream, once for all routes to it.
		if name := set.Upstreams[route.Upstream].Credential; name != "" && !reported[route.Upstream] {
			reported[route.Upstream] = true
			checkCredential(r, set, route.Upstream, sc)
		}
	}
	return r.err()
}

// checkControl reports what only a control service provides, where the sidecar
// has none.
func checkControl(r *report, set *PolicySet, sc *Sidecar) {
	if sc.Control != nil {
		return
	}
	for i, is := range set.Issuers {
		if is.JWKS.Control {
			r.add(place{}, fmt.Sprintf("issuers[%d].jwks", i), "control needs control in sidecar.yaml")
		}
	}
	for i, l := range set.Limits {
		if l.Scope == ScopeMesh {
			r.add(place{}, fmt.Sprintf("limits[%d].scope", i), "mesh needs control in sidecar.yaml")
		}
	}
}

// pair is one route that is compared with the sidecar.
type pair struct {
	report *report
	at     place
	path   string
}

func (p pair) fault(format string, args ...any) {
	p.report.add(p.at, p.path, format, args...)
}

func (p pair) checkListener(route Route, sc *Sidecar) {
	if sc.listener(route.Match.Listener) == nil {
		p.fault("listener %s is not configured in sidecar.yaml", route.Match.Listener)
	}
}

// checkWorkload holds the rule that only the workload itself can speak as the
// workload: whoever else reaches the listener would be taken for it.
func (p pair) checkWorkload(route Route, sc *Sidecar) {
	if !route.Principal.needsWorkload() {
		return
	}
	if sc.Principal == nil && sc.Control == nil {
		p.fault("principal: %s needs a principal in sidecar.yaml", route.Principal)
	}
	if l := sc.Listeners.Outbound; l != nil && !loopbackAddress(l.Address) {
		p.fault("principal: %s needs a loopback address; sidecar.yaml has listeners.outbound at %s", route.Principal, l.Address)
	}
}

func checkCredential(r *report, set *PolicySet, upstream string, sc *Sidecar) {
	name := set.Upstreams[upstream].Credential
	if _, ok := sc.Credentials[name]; !ok {
		r.add(set.places.credentials[upstream], join("upstreams", upstream)+".credential",
			"credential %s is not configured in sidecar.yaml", quote(name))
	}
}

// listener returns a listener by name, or nil.
func (sc *Sidecar) listener(name string) *Listener {
	switch name {
	case Inbound:
		return sc.Listeners.Inbound
	case Outbound:
		return sc.Listeners.Outbound
	}
	return nil
}

// Package snapshot owns what a request is decided by: an immutable Snapshot
// for each revision of the policy set, and the Table of the revisions that
// requests can still match, behind one atomic pointer.
//
// It reads a policy set from a folder (Read), compiles it (Builder) and keeps
// the last two accepted sets on disk, with what signed them (Store). A set is accepted whole or refused whole.
package snapshot

import (
	"gatehouse/internal/config"
	"gatehouse/internal/envoyconf"
	"gatehouse/internal/revision"
	"gatehouse/internal/token"
	"gatehouse/policies"
	"gatehouse/proxy/llm"
)

// Snapshot is one revision, compiled. It is immutable and safe for concurrent use.
type Snapshot struct {
	Revision  string
	Set       *config.PolicySet
	Files     revision.Files
	Policy    *policies.Engine
	Tokens    *token.Verifier
	Resources *envoyconf.Resources
	routes    map[string]*Route
	release   []func()
}

// Route is one route with what Check needs of it.
type Route struct {
	config.Route
	Upstream config.Upstream
	Shape    string
	Limits   []config.Limit // instead of their names

	// Of LLM routes.
	Format     llm.Format  // of the upstream; "" on plain routes
	Sanitizers *Sanitizers // nil where no text is judged
}

// Route finds a route by name and by the shape that Envoy's configuration gave
// it. A name that stood for something else when Envoy matched is unknown.
func (s *Snapshot) Route(name, shape string) (*Route, bool) {
	r, ok := s.routes[name]
	if !ok || r.Shape != shape || r.Exempt {
		return nil, false
	}
	return r, true
}

// FromControl reports whether the tokens of an issuer, by its configured name,
// are control's own.
func (s *Snapshot) FromControl(issuer string) bool {
	for i := range s.Set.Issuers {
		if s.Set.Issuers[i].Name == issuer {
			return s.Set.Issuers[i].JWKS.Control
		}
	}
	return false
}

// close gives back what the snapshot shares with others.
func (s *Snapshot) close() {
	for _, f := range s.release {
		f()
	}
}

func routesOf(set *config.PolicySet) map[string]*Route {
	limits := make(map[string]config.Limit, len(set.Limits))
	for _, l := range set.Limits {
		limits[l.Name] = l
	}
	out := make(map[string]*Route, len(set.Routes))
	for _, r := range set.Routes {
		up := set.Upstreams[r.Upstream]
		compiled := &Route{Route: r, Upstream: up, Shape: envoyconf.Shape(&r, up), Format: llm.Format(up.Format)}
		for _, name := range r.Limits {
			compiled.Limits = append(compiled.Limits, limits[name])
		}
		out[r.Name] = compiled
	}
	return out
}

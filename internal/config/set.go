package config

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"gatehouse/internal/ratelimit"
)

// Bounds of one policy set.
const (
	maxIssuers   = 50
	maxUpstreams = 500
	maxLimits    = 200
	maxRoutes    = 2000
	// maxListed is how many entries a list of names within one entry may have.
	maxListed = 100
)

// LimitKeys lists what a limit can count by.
func LimitKeys() []string {
	return []string{"principal", "tenant", "project", "agent", "role", "route", "address"}
}

// places remembers where a set's parts stand in its file.
type places struct {
	file        string
	routes      []place          // by index
	credentials map[string]place // by upstream
}

// route returns where the route with index i stands.
func (p places) route(i int) place {
	if i < len(p.routes) {
		return p.routes[i]
	}
	return place{}
}

// ParseSet reads gatehouse.yaml. file is the name that faults carry; data is
// at most 1 MiB. The error, if any, is Faults with everything that is wrong.
func ParseSet(file string, data []byte) (*PolicySet, error) {
	r := newReport(file, data)
	root := parseDocument(r, data)
	if root == nil {
		return nil, r.err()
	}
	set := readSet(r, newNode(root, ""))
	if err := r.err(); err != nil {
		return nil, err
	}
	return set, nil
}

func readSet(r *report, root node) *PolicySet {
	o := decode(r, root, schema{
		"policy": optional, "issuers": optional, "upstreams": required, "limits": optional, "routes": required,
	})
	set := &PolicySet{
		Policy:  readPolicy(o),
		Issuers: readIssuers(o),
		Limits:  readLimits(o),
		places:  places{file: r.file},
	}
	readUpstreams(o, set)
	readRoutes(o, set)
	return set
}

// entryPattern is a reference that Rego can evaluate as it stands.
var entryPattern = regexp.MustCompile(`^data(\.[A-Za-z_][A-Za-z0-9_]{0,63}){1,10}$`)

func checkEntry(s string) error {
	if !entryPattern.MatchString(s) {
		return fmt.Errorf("%s is not a reference such as %s", quote(s), ShippedEntry)
	}
	return nil
}

func readPolicy(set object) Policy {
	o := object{report: set.report}
	if set.has("policy") {
		o = set.object("policy", schema{
			"entry": optional, "mode": optional, "expose_token": optional, "show_reasons": optional, "timeout": optional,
		})
	}
	return Policy{
		Entry:       text(o, "entry", ShippedEntry, keep(checkEntry)),
		Mode:        text(o, "mode", Enforce, parseMode),
		ExposeToken: o.boolean("expose_token"),
		ShowReasons: o.boolean("show_reasons"),
		Timeout:     o.duration("timeout", 50*time.Millisecond, time.Millisecond, 400*time.Millisecond),
	}
}

func parseMode(s string) (Mode, error) {
	return Mode(s), oneOf(string(Enforce), string(Observe))(s)
}

// names finds names that stand twice in a list of objects.
type names map[string]place

// claim reads the name of an object and reports it if another has it already.
func (n names) claim(o object) string {
	name := text(o, "name", "", keep(checkName))
	if name == "" {
		return ""
	}
	n.once(o, "name", name)
	return name
}

// once reports a value of a key that an earlier object has already.
func (n names) once(o object, key, value string) {
	if first, taken := n[value]; taken {
		o.fault(key, "%s is taken in line %d", quote(value), first.line)
		return
	}
	n[value] = o.valuePlace(key)
}

func readLimits(set object) []Limit {
	var limits []Limit
	taken := names{}
	for _, n := range set.list("limits", maxLimits) {
		o := decode(set.report, n, schema{
			"name": required, "key": required, "rate": required, "burst": optional, "scope": optional, "on_error": optional,
		})
		limits = append(limits, readLimit(o, taken))
	}
	return limits
}

func readLimit(o object, taken names) Limit {
	l := Limit{
		Name:  taken.claim(o),
		Key:   o.texts("key", len(LimitKeys()), oneOf(LimitKeys()...)),
		Rate:  text(o, "rate", Rate{}, parseRate),
		Scope: Scope(text(o, "scope", string(ScopeSidecar), keep(oneOf(string(ScopeSidecar), string(ScopeMesh))))),
	}
	l.OnError = readOnError(o, l.Scope)
	o.notEmpty("key")
	l.Burst = o.integer("burst", l.Rate.Count, 1, maxRate)
	if l.Scope == ScopeMesh {
		checkMeshLimit(o, l)
	}
	return l
}

// checkMeshLimit refuses a limit that control would not count. What is wrong
// with the rate or the burst alone was said already.
func checkMeshLimit(o object, l Limit) {
	a := ratelimit.Ask{Count: l.Rate.Count, Per: l.Rate.Per, Burst: l.Burst}
	if errors.Is(a.CheckMesh(), ratelimit.ErrMeshSpan) {
		o.fault("burst", "%d at %d in %s are free again after more than %d days, the most with scope: %s",
			l.Burst, l.Rate.Count, l.Rate.Per, ratelimit.MaxMeshSpan/(24*time.Hour), ScopeMesh)
	}
}

// readOnError reads what only a limit of the mesh can need: whoever counts for
// himself asks nobody.
func readOnError(o object, scope Scope) OnError {
	if scope != ScopeMesh {
		if o.has("on_error") {
			o.fault("on_error", "is for limits with scope: %s", ScopeMesh)
		}
		return ""
	}
	return OnError(text(o, "on_error", string(OnErrorLocal), keep(oneOf(string(OnErrorLocal), string(OnErrorDeny)))))
}

func readIssuers(set object) []Issuer {
	var issuers []Issuer
	taken, values := names{}, names{}
	for _, n := range set.list("issuers", maxIssuers) {
		o := decode(set.report, n, schema{
			"name": required, "issuer": required, "jwks": required, "audience": required, "algorithms": required,
			"symmetric": optional, "tenants": optional, "roles": optional, "claims": optional,
		})
		is := readIssuer(o)
		is.Name = taken.claim(o)
		if is.Issuer != "" {
			values.once(o, "issuer", is.Issuer)
		}
		issuers = append(issuers, is)
	}
	return issuers
}

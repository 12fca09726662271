package policies

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// reachesOut lists the built-ins that leave the process or tell about it. A
// decision must not wait for, or leak to, anything outside.
func reachesOut() []string {
	return []string{"http.send", "net.lookup_ip_addr", "opa.runtime"}
}

// readsClock lists the built-ins that depend on the time of day without OPA
// marking them as such: they check validity dates of certificates.
func readsClock() []string {
	return []string{
		"crypto.x509.parse_and_verify_certificates",
		"crypto.x509.parse_and_verify_certificates_with_options",
	}
}

// capabilities is what Rego may use here: everything of this version but what
// reaches out. The empty list of hosts keeps JSON schemas from fetching $refs.
func capabilities() *ast.Capabilities {
	caps := ast.CapabilitiesForThisVersion()
	refused := reachesOut()
	caps.Builtins = slices.DeleteFunc(caps.Builtins, func(b *ast.Builtin) bool {
		return slices.Contains(refused, b.Name)
	})
	caps.AllowNet = []string{}
	return caps
}

// refusedCalls finds every mention of a built-in that reaches out, as a call,
// in a with, or passed on. The compiler, which doesn't know these names, would
// only say that they are undefined.
func refusedCalls(m *ast.Module) []Fault {
	refused := reachesOut()
	var faults []Fault
	ast.WalkTerms(m, func(t *ast.Term) bool {
		ref, ok := t.Value.(ast.Ref)
		if ok && slices.Contains(refused, ref.String()) {
			faults = append(faults, faultAt(t.Location,
				"built-in %s is not allowed: a policy must not reach outside the sidecar", ref))
		}
		return false
	})
	return faults
}

// unrepeatable is the set of built-ins whose result is not a function of their
// arguments.
func unrepeatable(caps *ast.Capabilities) map[string]bool {
	names := map[string]bool{}
	for _, b := range caps.Builtins {
		if b.Nondeterministic {
			names[b.Name] = true
		}
	}
	for _, name := range readsClock() {
		names[name] = true
	}
	return names
}

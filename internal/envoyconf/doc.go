// Package envoyconf turns configuration into Envoy's resources.
//
// It is a pure function: the same sidecar, policy set and revision give the
// same bytes, so that an Envoy that reconnects is sent nothing anew. It owns
// every message that configures Envoy; package ads only moves them.
//
// Two rules shape it. What depends on a policy set stands in routes and
// clusters, never in a listener: changing a listener drains its connections.
// And whatever Envoy would accept in silence and then not enforce is refused
// here, by Verify, before Envoy sees it.
//
// Reference: Envoy API v3, https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/api
package envoyconf

// Names that both sides of the gate agree on.
const (
	// GateCluster is the static cluster of the sidecar's socket.
	GateCluster = "gate"

	// CurrentRevision stands in static renderings only: Check resolves it to
	// the newest loaded revision.
	CurrentRevision = "current"

	// MetadataNamespace is the namespace of our route and Exchange metadata.
	MetadataNamespace = "gatehouse"

	// AuthzNamespace is where Envoy puts Check's dynamic metadata.
	AuthzNamespace = "envoy.filters.http.ext_authz"

	// KeyHeld, KeyNoHold and KeyExempt are the hold guard's three rules. The
	// Exchange sets KeyHeld once it has done its part: to "true", or to
	// "observed" on routes of mode observe, where it may hold nothing. The guard
	// asks only whether it is there.
	KeyHeld   = "held"
	KeyNoHold = "nohold"
	KeyExempt = "exempt"

	// keyFormat marks a cluster by the wire format of its upstream.
	keyFormat = "format"

	// ExtRevision, ExtRoute and ExtShape are Check's context extensions.
	ExtRevision = "rev"
	ExtRoute    = "route"
	ExtShape    = "shape"
)

// Filter names. Verify holds each per-route configuration against them.
const (
	filterBodyMax   = "gatehouse.body_limit_max"
	filterBodyPlain = "gatehouse.body_limit_plain"
	filterAuthz     = "envoy.filters.http.ext_authz"
	filterProc      = "envoy.filters.http.ext_proc"
	filterGuard     = "gatehouse.hold_guard"
	filterRouter    = "envoy.filters.http.router"
)

// CredentialHeaders are the header slots in which a token may stand.
func CredentialHeaders() []string {
	return []string{"authorization", "x-api-key", "api-key", "x-goog-api-key"}
}

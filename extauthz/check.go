package extauthz

import (
	"context"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse/internal/breaker"
	"gatehouse/internal/config"
	"gatehouse/internal/envoyconf"
	"gatehouse/internal/inflight"
	"gatehouse/internal/live"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/rawgrpc"
	"gatehouse/internal/request"
	"gatehouse/internal/snapshot"
	"gatehouse/policies"
)

// Options are what a Server needs.
type Options struct {
	Table   *snapshot.Table
	Limiter *ratelimit.Limiter
	Mesh    MeshLimits // nil where there is no control
	Log     *slog.Logger
	Observe func(*Event)     // called once at the end of each check; must not block
	Now     func() time.Time // time.Now outside of tests

	// Live says whom the sidecar serves, and who is revoked or blocked.
	Live *live.Data

	// Keys and Breakers are of plain routes here; nil asks nobody. Who knows how a
	// request ended, tells them.
	Keys     *inflight.Set
	Breakers *breaker.Set

	// Credentials are the upstreams' credentials by name.
	Credentials map[string]request.Secret
}

// Server answers Check. It is safe for concurrent use.
type Server struct {
	opts Options
}

// New makes a server.
func New(o Options) *Server { return &Server{opts: o} }

// Check decides one request. Its steps, in this order because each relies on
// the ones before and the last have effects:
//
//	locate    the revision and route that Envoy matched, or 503
//	hygiene   canonical path, sane headers, or 400
//	identify  token, workload or anonymous, neither revoked nor blocked, or 400, 401, 403, 503
//	permit    the method's permission, or 405; 503 where that needs a control heard lately
//	decide    policy, or 403
//	limit     rate limits, or 429; takes from the limits only when all allow
//	unused    the idempotency key is in no request under way, or 409
//	reachable the upstream's breaker, or 503; takes the probe
//	allow     credentials, identity headers, metadata; on an LLM route the
//	          Exchange's to finish
//
// An error is returned only for what is no refusal but a fault: Envoy then
// answers 503 and the upstream is not reached.
func (s *Server) Check(ctx context.Context, message rawgrpc.Message) (resp *rawgrpc.Message, err error) {
	c := &check{}
	c.Start, c.DecisionID, c.Principal = s.opts.Now(), newDecisionID(), request.Anonymous()
	defer s.end(c, &resp, &err)
	if c.in, err = readRequest(message); err != nil {
		c.Refusal = &Refusal{Class: ClassFault, Rule: "message_malformed", Cause: err}
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	c.begin()
	return s.decide(ctx, c).message(), nil
}

// decide takes the steps.
func (s *Server) decide(ctx context.Context, c *check) *answer {
	if r := s.locate(c); r != nil {
		c.Route = strings.Clone(c.Route) // in metrics it outlives the message
		return c.refuse(r)
	}
	if r := c.hygiene(); r != nil {
		return c.refuse(r)
	}
	if r := s.identify(ctx, c); r != nil && !c.observed(r) {
		return c.refuse(r)
	}
	if r := c.permit(); r != nil && !c.observed(r) {
		return c.refuse(r)
	}
	if r := s.heard(c); r != nil && !c.observed(r) {
		return c.refuse(r)
	}
	if r := c.policyDecides(ctx); r != nil && !c.observed(r) {
		return c.refuse(r)
	}
	if r := s.limit(c); r != nil && !c.observed(r) {
		return c.refuse(r)
	}
	if r := s.unused(c); r != nil && !c.observed(r) {
		return c.refuse(r)
	}
	if r := s.reachable(c); r != nil && !c.observed(r) {
		return c.refuse(r)
	}
	return s.allow(c)
}

// check is one request on its way through the steps. It belongs to one call.
type check struct {
	Event
	in        *envoyRequest
	snap      *snapshot.Snapshot
	route     *snapshot.Route
	slots     []slot // the values in the token slots
	policy    policies.Decision
	limits    ratelimit.Result
	observing bool
	withheld  bool // identity or policy would have refused: no credential is added
}

// begin names the request.
func (c *check) begin() {
	c.RequestID = c.in.Headers.first("x-request-id")
	c.Method = c.in.Method
	c.Path = pathOnly(c.in.Path)
}

// observed reports whether a refusal is only recorded, and records it.
func (c *check) observed(r *Refusal) bool {
	if !c.observing || r.hygiene {
		return false
	}
	c.Would = append(c.Would, r)
	if r.Class == ClassIdentity {
		c.Principal = request.Anonymous()
	}
	c.withheld = c.withheld || !spends(r.Class)
	return true
}

// spends reports whether a refusal is one of a request that identity and policy
// let pass.
func spends(c Class) bool { return c == ClassLimit || c == ClassConflict || c == ClassBreaker }

// end makes a panic an error, so that Envoy refuses, and tells what became of
// the request.
func (s *Server) end(c *check, resp **rawgrpc.Message, err *error) {
	if p := recover(); p != nil {
		s.opts.Log.Error("check panicked", "request_id", c.RequestID, "panic", p, "stack", string(debug.Stack()))
		*resp, *err = nil, status.Error(codes.Internal, "internal error")
		c.Refusal, c.Allowed = &Refusal{Class: ClassFault, Rule: "panic"}, false
	}
	c.Duration = s.opts.Now().Sub(c.Start)
	s.opts.Observe(&c.Event)
}

// locate finds the revision and route by what the route that matched carries.
// An unknown one is never answered with nohold: Envoy has a configuration that
// this process did not give it.
func (s *Server) locate(c *check) *Refusal {
	c.Revision, c.Route = c.in.extension(envoyconf.ExtRevision), c.in.extension(envoyconf.ExtRoute)
	snap, ok := s.opts.Table.Lookup(c.Revision)
	if !ok {
		return unavailable("unknown_revision", "the request's policy revision is not loaded")
	}
	c.Revision = snap.Revision
	route, ok := snap.Route(c.Route, c.in.extension(envoyconf.ExtShape))
	if !ok {
		return unavailable("unknown_route", "the request's route is not known in its policy revision")
	}
	if !c.in.RawHeaders {
		return unavailable("headers_not_raw", "Envoy must send raw headers (encode_raw_headers)")
	}
	c.snap, c.route, c.Route = snap, route, route.Name
	c.observing = route.Mode == config.Observe
	c.Listener, c.Mode, c.Limits = route.Match.Listener, route.Mode, route.Limits
	return nil
}

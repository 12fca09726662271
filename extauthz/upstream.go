package extauthz

import (
	"math"
	"strconv"
	"time"

	"gatehouse/internal/apierr"
	"gatehouse/internal/breaker"
	"gatehouse/internal/inflight"
	"gatehouse/policies"
)

// keyMargin is how long a key outlives the longest request of its route, for an
// access log entry that never comes.
const keyMargin = 10 * time.Second

// unused refuses a request whose idempotency key is in flight. An Exchange does
// so itself, since it knows when its request ends.
func (s *Server) unused(c *check) *Refusal {
	key, found := c.in.Headers.lookup("idempotency-key")
	if !found || c.route.LLM != nil || s.opts.Keys == nil {
		return nil
	}
	if err := inflight.CheckKey(key); err != nil {
		return malformed("idempotency_key_malformed", err.Error())
	}
	if s.opts.Keys.Enter(inflight.Scope(&c.Principal, c.Route, key), c.RequestID, c.route.Timeout+keyMargin) {
		return nil
	}
	return &Refusal{Class: ClassConflict, Rule: "idempotency_key_in_flight", Reason: "a request with this idempotency key is under way",
		err: apierr.Conflict("in_flight", nil)}
}

// reachable asks the upstream's breaker, last, so that a probe is never lost to
// a refusal after it. One that refuses frees the key.
func (s *Server) reachable(c *check) *Refusal {
	b := c.route.Upstream.Breaker
	if b == nil || c.route.LLM != nil || s.opts.Breakers == nil {
		return nil
	}
	ok, after := s.opts.Breakers.Allow(c.route.Route.Upstream, breaker.Config(*b), c.RequestID)
	if ok {
		return nil
	}
	if s.opts.Keys != nil {
		s.opts.Keys.Leave(c.RequestID)
	}
	return &Refusal{Class: ClassBreaker, Rule: "breaker_open", Reason: "the upstream has failed several times in a row",
		err:     apierr.New(apierr.UpstreamUnavailable, apierr.Options{}),
		headers: []policies.Header{{Name: "retry-after", Value: strconv.Itoa(int(max(1, math.Ceil(after.Seconds()))))}},
	}
}

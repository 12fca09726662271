package extauthz

import (
	"context"
	"net/netip"
	"time"

	"gatehouse/internal/apierr"
	"gatehouse/internal/config"
	"gatehouse/internal/meshlimit"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/request"
	"gatehouse/policies"
)

// MeshLimits decide by limits that the whole mesh counts.
type MeshLimits interface {
	// Take decides a request at now by all of asks and consumes their costs if
	// it passes every one. It always decides, and within a time of its own.
	Take(ctx context.Context, now time.Time, tenant string, anonymous bool, asks []meshlimit.Ask) ratelimit.Result
}

// limit takes from all limits of the route or from none. It is the last step
// that can refuse, so that a denied request costs nothing; nothing after it
// gives back what it took.
func (s *Server) limit(c *check) *Refusal {
	if len(c.route.Limits) == 0 {
		return nil
	}
	own, mesh := s.asks(c)
	c.limits = s.opts.Limiter.Take(c.Start, own)
	if c.limits.Allowed && len(mesh) > 0 {
		s.limitByMesh(c, own, mesh)
	}
	if c.limits.Allowed {
		return nil
	}
	return c.limitReached()
}

// asks are the route's limits, by who counts them. Without control this
// sidecar is the whole mesh.
func (s *Server) asks(c *check) (own []ratelimit.Ask, mesh []meshlimit.Ask) {
	own = make([]ratelimit.Ask, 0, len(c.route.Limits))
	for _, l := range c.route.Limits {
		a := ratelimit.Ask{Rule: l.Name, Key: c.limitKey(l), Count: l.Rate.Count, Per: l.Rate.Per, Burst: l.Burst}
		if l.Scope == config.ScopeMesh && s.opts.Mesh != nil {
			mesh = append(mesh, meshlimit.Ask{Ask: a, OnError: l.OnError})
		} else {
			own = append(own, a)
		}
	}
	return own, mesh
}

// limitByMesh asks the others once our own limits have allowed, which is
// cheap, and gives back what those took if the others don't.
func (s *Server) limitByMesh(c *check, own []ratelimit.Ask, mesh []meshlimit.Ask) {
	p := &c.Principal
	// Without the call's context: a caller that leaves would make the decision
	// one of those without control, and Take has a bound of its own.
	r := s.opts.Mesh.Take(context.Background(), c.Start, p.Tenant, p.Kind == request.KindAnonymous, mesh)
	if !r.Allowed {
		s.opts.Limiter.Refund(c.Start, s.opts.Now(), own)
	}
	c.limits = ratelimit.Binding(c.limits, r)
}

// limitReached refuses by the limit that binds.
func (c *check) limitReached() *Refusal {
	var headers []policies.Header
	for _, h := range ratelimit.Headers(c.limits) {
		headers = append(headers, policies.Header(h))
	}
	return &Refusal{
		Class: ClassLimit, Rule: c.limits.Limit, Reason: "the rate limit " + c.limits.Limit + " is reached",
		err: apierr.New(apierr.RateLimitExceeded, apierr.Options{Details: []apierr.Detail{
			apierr.Text("limit", c.limits.Limit),
			apierr.Number("retry_after_ms", c.limits.RetryAfter.Milliseconds()),
		}}),
		headers: headers,
	}
}

// network is whom an address stands for: one IPv4 address, or the /64 that one
// IPv6 site has to itself.
func network(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil || a.Unmap().Is4() {
		return address
	}
	return netip.PrefixFrom(a, siteBits).Masked().String()
}

const siteBits = 64

// limitKey names the counter: the limit, and the value of each thing it
// counts by.
func (c *check) limitKey(l config.Limit) string {
	parts := make([]string, 0, 1+3*len(l.Key))
	parts = append(parts, l.Name)
	for _, by := range l.Key {
		parts = append(parts, by)
		parts = c.appendKey(parts, by)
	}
	return ratelimit.Key(parts...)
}

func (c *check) appendKey(parts []string, by string) []string {
	p := &c.Principal
	switch by {
	case "principal":
		if p.Kind == request.KindAnonymous {
			return append(parts, string(p.Kind), network(c.in.Source.Address))
		}
		return append(parts, string(p.Kind), p.Issuer, p.Subject)
	case "tenant":
		return append(parts, p.Tenant)
	case "project":
		return append(parts, p.Tenant, p.Project)
	case "agent":
		return append(parts, p.Tenant, p.Agent)
	case "role":
		return append(parts, string(p.Role))
	case "route":
		return append(parts, c.Route)
	case "address":
		return append(parts, network(c.in.Source.Address))
	}
	panic("extauthz: limit key " + by + " is not one that the configuration accepts")
}

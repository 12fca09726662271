package extauthz

import (
	"net/netip"

	"gatehouse/internal/apierr"
	"gatehouse/internal/config"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/request"
	"gatehouse/policies"
)

// limit takes from all limits of the route or from none. It is the last step
// that can refuse, so that a denied request costs nothing; nothing after it
// gives back what it took.
func (s *Server) limit(c *check) *Refusal {
	if len(c.route.Limits) == 0 {
		return nil
	}
	asks := make([]ratelimit.Ask, len(c.route.Limits))
	for i, l := range c.route.Limits {
		asks[i] = ratelimit.Ask{
			Rule: l.Name, Key: c.limitKey(l), Count: l.Rate.Count, Per: l.Rate.Per, Burst: l.Burst,
		}
	}
	c.limits = s.opts.Limiter.Take(c.Start, asks)
	if c.limits.Allowed {
		return nil
	}
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

package httpapi

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"gatehouse/control/httpapi/spec"
	"gatehouse/internal/apierr"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/request"
)

// Limits are requests a minute, and as many at once. Each replica counts for
// itself.
type Limits struct {
	Admin     int // by principal
	Operator  int
	Developer int
	Observer  int
	Anonymous int // by address, bad tokens included

	Probe        int // health and stats, by principal or address
	Sessions     int // logins, refreshes and tokens of clients, by address
	FailedLogins int // of these, refused credentials
	Budget       int // holds of tokens that are asked for, by principal
	Breaker      int // resets of circuit breakers, by principal
}

// DefaultLimits are the limits of an API that people and scripts use.
func DefaultLimits() Limits {
	return Limits{Admin: 100, Operator: 50, Developer: 30, Observer: 20, Anonymous: 5, Probe: 60, Sessions: 120, FailedLogins: 20, Budget: 30, Breaker: 5}
}

// maxLimit keeps a limit to what a minute can hold.
const maxLimit = 1_000_000

// Validate joins all that is out of range: each limit is 1 to 1,000,000.
func (l Limits) Validate() error {
	var faults []error
	for _, v := range []struct {
		name string
		n    int
	}{
		{"Admin", l.Admin}, {"Operator", l.Operator}, {"Developer", l.Developer}, {"Observer", l.Observer},
		{"Anonymous", l.Anonymous}, {"Probe", l.Probe}, {"Sessions", l.Sessions}, {"FailedLogins", l.FailedLogins},
		{"Budget", l.Budget}, {"Breaker", l.Breaker},
	} {
		if v.n < 1 || v.n > maxLimit {
			faults = append(faults, fmt.Errorf("limit %s is %d, want 1 to %d", v.name, v.n, maxLimit))
		}
	}
	return errors.Join(faults...)
}

// of is the limit of a role. A role that is not known has the least.
func (l Limits) of(r request.Role) int {
	switch r {
	case request.RoleAdmin:
		return l.Admin
	case request.RoleOperator:
		return l.Operator
	case request.RoleDeveloper:
		return l.Developer
	case request.RoleObserver:
		return l.Observer
	}
	return l.Anonymous
}

// limit takes from the limits that count requests of the operation: all, or
// none where one is reached.
func (a *api) limit(c *call) error {
	asks := make([]ratelimit.Ask, 0, 3)
	if slices.Contains(c.op.Limits, spec.LimitRole) || slices.Contains(c.op.Limits, spec.LimitToken) && c.principal.Kind == request.KindToken {
		asks = append(asks, a.ask("role_"+string(c.principal.Role), a.opts.Limits.of(c.principal.Role), c))
	}
	if slices.Contains(c.op.Limits, spec.LimitProbe) {
		asks = append(asks, a.ask("probe", a.opts.Limits.Probe, c))
	}
	if slices.Contains(c.op.Limits, spec.LimitBudget) {
		asks = append(asks, a.ask("budget", a.opts.Limits.Budget, c))
	}
	if slices.Contains(c.op.Limits, spec.LimitBreaker) {
		asks = append(asks, a.ask("breaker", a.opts.Limits.Breaker, c))
	}
	return a.take(c, asks)
}

// limitStranger counts a request whose token is no good as one without a
// token, so that guessing is as slow as it can be.
func (a *api) limitStranger(c *call) error {
	c.principal = request.Anonymous()
	return a.take(c, []ratelimit.Ask{a.ask("role_anonymous", a.opts.Limits.Anonymous, c)})
}

// limitSessions counts an attempt of an address to begin or go on with a
// session. No header tells the state: answers to credentials are all alike.
func (a *api) limitSessions(now time.Time, from string) error {
	n := a.opts.Limits.Sessions
	r := a.limiter.Take(now, []ratelimit.Ask{{Rule: "sessions", Key: ratelimit.Key(from), Count: n, Per: time.Minute, Burst: n}})
	if r.Allowed {
		return nil
	}
	return exceeded(r.Limit, r.RetryAfter)
}

func (a *api) take(c *call, asks []ratelimit.Ask) error {
	r := a.limiter.Take(c.start, asks)
	for _, h := range ratelimit.Headers(r) {
		c.out.Header().Set(h.Name, h.Value)
	}
	if r.Allowed {
		return nil
	}
	return exceeded(r.Limit, r.RetryAfter)
}

func (a *api) ask(name string, count int, c *call) ratelimit.Ask {
	return ratelimit.Ask{Rule: name, Key: c.counter(), Count: count, Per: time.Minute, Burst: count}
}

// counter names whose requests are counted.
func (c *call) counter() string {
	p := &c.principal
	if p.Kind == request.KindAnonymous {
		return ratelimit.Key(string(p.Kind), network(c.address))
	}
	return ratelimit.Key(string(p.Kind), p.Issuer, p.Tenant, p.Subject)
}

func exceeded(name string, wait time.Duration) error {
	return apierr.New(apierr.RateLimitExceeded, apierr.Options{
		Details: []apierr.Detail{apierr.Text("limit", name), apierr.Number("retry_after_ms", wait.Milliseconds())},
		Cause:   waiting{name, wait},
	})
}

// waiting is the cause of an error that ends by itself.
type waiting struct {
	limit string
	wait  time.Duration
}

func (w waiting) Error() string             { return fmt.Sprintf("limit %s: wait %v", w.limit, w.wait) }
func (w waiting) RetryAfter() time.Duration { return w.wait }

// networkBits6 is what one subscriber has of IPv6: counting single addresses
// would give each 2^64 counters.
const networkBits6 = 64

// network is the part of an address that stands for one caller.
func network(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	if !addr.Is6() {
		return addr.String()
	}
	p, err := addr.Prefix(networkBits6)
	if err != nil {
		return addr.String()
	}
	return p.String()
}

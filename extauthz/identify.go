package extauthz

import (
	"context"
	"errors"

	"gatehouse/internal/apierr"
	"gatehouse/internal/config"
	"gatehouse/internal/request"
	"gatehouse/internal/token"
	"gatehouse/policies"
)

// identify finds the principal: the one token of ours, the workload where the
// route allows it and no value of ours is there, or anonymous where the route
// says so. A value of ours that is refused is never passed over.
func (s *Server) identify(ctx context.Context, c *check) *Refusal {
	if r := c.readSlots(c.snap.Tokens); r != nil {
		return r
	}
	ours := oursOf(c.slots)
	switch {
	case len(ours) > 1:
		return identityRefusal(apierr.ValidationMalformed, "several_tokens", "the request carries more than one token", nil)
	case len(ours) == 1 && c.route.Principal == config.PrincipalWorkload:
		return identityRefusal(apierr.ValidationMalformed, "token_not_expected", "the route does not take a token", nil)
	case len(ours) == 1:
		return s.verify(ctx, c, ours[0].raw)
	}
	return s.withoutToken(c)
}

func (s *Server) verify(ctx context.Context, c *check, raw string) *Refusal {
	p, err := c.snap.Tokens.Verify(ctx, c.Start, raw)
	if err != nil {
		return c.tokenRefusal(err)
	}
	c.Token = "accepted"
	if r := s.bound(p); r != nil {
		return r
	}
	c.Principal = p
	return nil
}

// tokenRefusal answers every bad token alike: what is wrong with it is for the
// log, not for whoever is trying.
func (c *check) tokenRefusal(err error) *Refusal {
	code := apierr.AuthInvalidToken
	if e, ok := errors.AsType[*token.Error](err); ok {
		code = apierr.Code(e.Code)
	}
	c.Token = string(code)
	r := identityRefusal(code, "token_refused", "the token was refused", err)
	if code != apierr.AuthUnavailable {
		r.headers = []policies.Header{{Name: "www-authenticate", Value: `Bearer error="invalid_token"`}}
	}
	return r
}

// bound refuses the tokens of other tenants at a sidecar that has one. Those
// that cross tenants need system.admin, which only the role admin has.
func (s *Server) bound(p request.Principal) *Refusal {
	switch {
	case p.Tenant == request.AnyTenant && p.Role != request.RoleAdmin:
		return identityRefusal(apierr.AuthForbidden, "tenant_crossing", "a token for every tenant needs the role admin", nil)
	case s.opts.Tenant != "" && p.Tenant != s.opts.Tenant && p.Tenant != request.AnyTenant:
		return identityRefusal(apierr.AuthForbidden, "tenant_not_served", "the token's tenant is not served here", nil)
	}
	return nil
}

func (s *Server) withoutToken(c *check) *Refusal {
	switch c.route.Principal {
	case config.PrincipalNone:
		return nil
	case config.PrincipalWorkload, config.PrincipalTokenOrWorkload:
		if s.opts.Workload == nil {
			return identityRefusal(apierr.AuthMissingToken, "no_workload", "the sidecar has no workload principal", nil)
		}
		c.Principal = *s.opts.Workload
		return nil
	}
	r := identityRefusal(apierr.AuthMissingToken, "no_token", "the request carries no token", nil)
	r.headers = []policies.Header{{Name: "www-authenticate", Value: "Bearer"}}
	return r
}

func identityRefusal(code apierr.Code, rule, reason string, cause error) *Refusal {
	return &Refusal{Class: ClassIdentity, Rule: rule, Reason: reason, Cause: cause,
		err: apierr.New(code, apierr.Options{Cause: cause})}
}

package extauthz

import (
	"context"
	"errors"
	"strings"

	"gatehouse/internal/apierr"
	"gatehouse/internal/config"
	"gatehouse/internal/live"
	"gatehouse/internal/request"
	"gatehouse/internal/token"
	"gatehouse/policies"
)

// identify finds the principal, and refuses one that is revoked or blocked.
func (s *Server) identify(ctx context.Context, c *check) *Refusal {
	if r := s.principal(ctx, c); r != nil {
		return r
	}
	return s.accepted(c)
}

// accepted asks the live data, as it is now: a token that was good a moment
// ago may be revoked, also one that the cache remembers.
func (s *Server) accepted(c *check) *Refusal {
	if s.opts.Live.Lost() {
		return unheard()
	}
	refusal, refused := s.opts.Live.State().Refuse(&c.Principal, c.snap.FromControl(c.Principal.Issuer))
	switch {
	case !refused:
		return nil
	case refusal.Rule == live.RuleTokenRevoked:
		r := c.tokenRefusal(errors.New(refusal.Reason))
		r.Rule, r.Reason = refusal.Rule, refusal.Reason
		return r
	}
	return identityRefusal(apierr.AuthForbidden, refusal.Rule, refusal.Reason, nil)
}

// heard refuses what administers or resolves while nobody knows whether the
// caller still may: control has not been heard for a while.
func (s *Server) heard(c *check) *Refusal {
	guarded := c.Permission == "system.admin" || strings.HasSuffix(c.Permission, ".resolve")
	if guarded && s.opts.Live.Guarded() {
		return unheard()
	}
	return nil
}

func unheard() *Refusal {
	return identityRefusal(apierr.AuthUnavailable, live.RuleStale, "control has not been heard for too long", nil)
}

// principal finds it: the one token of ours, the workload where the route
// allows it and no value of ours is there, or anonymous where the route says
// so. A value of ours that is refused is never passed over.
func (s *Server) principal(ctx context.Context, c *check) *Refusal {
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
	tenant := s.opts.Live.Binding().Tenant
	switch {
	case p.Tenant == request.AnyTenant && p.Role != request.RoleAdmin:
		return identityRefusal(apierr.AuthForbidden, "tenant_crossing", "a token for every tenant needs the role admin", nil)
	case tenant != "" && p.Tenant != tenant && p.Tenant != request.AnyTenant:
		return identityRefusal(apierr.AuthForbidden, "tenant_not_served", "the token's tenant is not served here", nil)
	}
	return nil
}

func (s *Server) withoutToken(c *check) *Refusal {
	switch c.route.Principal {
	case config.PrincipalNone:
		return nil
	case config.PrincipalWorkload, config.PrincipalTokenOrWorkload:
		workload := s.opts.Live.Binding().Workload
		if workload == nil {
			return identityRefusal(apierr.AuthMissingToken, "no_workload", "the sidecar has no workload principal", nil)
		}
		c.Principal = *workload
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

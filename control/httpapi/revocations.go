package httpapi

import (
	"context"

	apiv1 "gatehouse/api/v1"
	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
)

// RevokeTokens refuses one token, or those of a subject.
func (a *api) RevokeTokens(ctx context.Context, r apiv1.RevokeTokensRequestObject) (apiv1.RevokeTokensResponseObject, error) {
	c := callOf(ctx)
	if (r.Body.Subject == nil) == (r.Body.TokenId == nil) {
		return nil, apierr.Unfit(nil, apierr.Field{Pointer: "/subject", Code: "one_of", Message: "want one of subject and token_id"})
	}
	tenant, err := c.within(r.Body.TenantId)
	if err != nil {
		return nil, err
	}
	rev := account.Revocation{Tenant: tenant}
	set(&rev.Subject, r.Body.Subject)
	set(&rev.TokenID, r.Body.TokenId)
	set(&rev.Reason, r.Body.Reason)
	if rev.Subject == "" {
		rev, err = a.opts.Revocations.RevokeToken(ctx, c.principal, rev)
	} else {
		rev, err = a.opts.Revocations.RevokeSubject(ctx, c.principal, rev)
	}
	if err != nil {
		return nil, err
	}
	if err := c.sees(rev.Tenant); err != nil {
		return nil, errForeign
	}
	return apiv1.RevokeTokens200JSONResponse(showRevocation(rev)), nil
}

func showRevocation(r account.Revocation) apiv1.Revocation {
	out := apiv1.Revocation{TenantId: r.Tenant, Reason: r.Reason, IssuedBefore: known(r.IssuedBefore), ExpiresAt: r.ExpiresAt.UTC()}
	if r.Subject != "" {
		out.Subject = &r.Subject
	}
	if r.TokenID != "" {
		out.TokenId = &r.TokenID
	}
	return out
}

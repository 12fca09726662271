package httpapi

import (
	"context"
	"net/http"

	apiv1 "gatehouse/api/v1"
	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/request"
)

// Login proves a user.
func (a *api) Login(ctx context.Context, r apiv1.LoginRequestObject) (apiv1.LoginResponseObject, error) {
	s, err := a.prove(ctx, func(c *call) (account.Session, error) {
		return a.opts.Auth.Login(ctx, r.Body.Username, r.Body.Password, c.address)
	})
	if err != nil {
		return nil, err
	}
	return apiv1.Login200JSONResponse(token(s)), nil
}

// Refresh changes a refresh token for new tokens.
func (a *api) Refresh(ctx context.Context, r apiv1.RefreshRequestObject) (apiv1.RefreshResponseObject, error) {
	s, err := a.prove(ctx, func(*call) (account.Session, error) {
		return a.opts.Auth.Refresh(ctx, r.Body.RefreshToken)
	})
	if err != nil {
		return nil, err
	}
	return apiv1.Refresh200JSONResponse(token(s)), nil
}

// IssueToken proves a client.
func (a *api) IssueToken(ctx context.Context, r apiv1.IssueTokenRequestObject) (apiv1.IssueTokenResponseObject, error) {
	s, err := a.prove(ctx, func(c *call) (account.Session, error) {
		return a.opts.Auth.ClientToken(ctx, r.Body.ClientId, r.Body.ClientSecret, c.address)
	})
	if err != nil {
		return nil, err
	}
	return apiv1.IssueToken200JSONResponse(token(s)), nil
}

// Logout ends a session; that there was none is no error, nor told. The access
// token that comes with it ends too, last, as there may be no room for one more.
// If one of the two fails, doing it again does what is left.
func (a *api) Logout(ctx context.Context, r apiv1.LogoutRequestObject) (apiv1.LogoutResponseObject, error) {
	if err := a.opts.Auth.Logout(ctx, r.Body.RefreshToken); err != nil {
		return nil, err
	}
	if p := callOf(ctx).principal; p.Kind == request.KindToken && p.TokenID != "" {
		rev := account.Revocation{Tenant: p.Tenant, TokenID: p.TokenID, Reason: "logout"}
		if _, err := a.opts.Revocations.RevokeToken(ctx, p, rev); err != nil {
			return nil, err
		}
	}
	return apiv1.Logout204Response{}, nil
}

// prove runs one attempt under the limits of the address: on failures, and on
// all attempts, as each success is one more token that can be revoked. An
// attempt that panics counts as failed.
func (a *api) prove(ctx context.Context, attempt func(*call) (account.Session, error)) (account.Session, error) {
	c := callOf(ctx)
	from := network(c.address)
	if ok, wait := a.failures.begin(c.start, from); !ok {
		return account.Session{}, exceeded("failed_logins", wait)
	}
	failed := false
	defer func() { a.failures.end(from, failed) }()
	if err := a.limitSessions(c.start, from); err != nil {
		return account.Session{}, err
	}
	failed = true
	s, err := attempt(c)
	if err != nil {
		err = level(err)
		failed = apierr.From(err).Code() == apierr.AuthInvalidCredentials
		return account.Session{}, err
	}
	failed = false
	return s, nil
}

// level makes all refusals of credentials one, so that no answer tells whether
// a name exists, is disabled, or belongs to a suspended tenant. The wait of a
// lock-out stays; which limit it is of does not.
func level(err error) error {
	e := classify(err)
	switch status := e.HTTP(); {
	case status == http.StatusTooManyRequests:
		return exceeded("failed_logins", retryAfter(e))
	case status < http.StatusInternalServerError:
		return apierr.New(apierr.AuthInvalidCredentials, apierr.Options{Cause: err})
	}
	return e
}

func token(s account.Session) apiv1.Token {
	t := apiv1.Token{
		AccessToken: s.AccessToken, TokenType: apiv1.Bearer, ExpiresIn: int64(s.ExpiresIn.Seconds()),
		Role: apiv1.Role(s.Role), TenantId: s.Tenant,
	}
	if s.RefreshToken != "" {
		t.RefreshToken = &s.RefreshToken
	}
	return t
}

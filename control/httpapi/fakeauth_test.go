package httpapi

import (
	"cmp"
	"context"
	"net/netip"
	"sync"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/request"
)

// auth knows the tokens of the tests and one user.
type auth struct {
	store *store

	mu       sync.Mutex // guards all below
	err      error      // answered to credentials
	attempts int
	hold     chan struct{} // an attempt waits for it, if not nil

	ended    int              // sessions
	refusals map[string]error // of tokens that were good
	others   map[string]string

	life time.Duration // of tokens, from seeded on; set before the first request
}

// principals are the callers of the tests by their tokens.
func principals() map[string]request.Principal {
	out := map[string]request.Principal{"admin-all": {Role: request.RoleAdmin, Tenant: request.AnyTenant}}
	for _, role := range request.Roles() {
		out[string(role)] = request.Principal{Role: role, Tenant: "org1"}
	}
	out["admin-proj1"] = request.Principal{Role: request.RoleAdmin, Tenant: "org1", Project: "proj1"}
	out["operator-all"] = request.Principal{Role: request.RoleOperator, Tenant: request.AnyTenant}
	out["admin-none"] = request.Principal{Role: request.RoleAdmin}
	for token, p := range out {
		p.Kind, p.Issuer, p.Subject, p.TokenID = request.KindToken, "control", token, "jti-"+token
		p.Expires = seeded // at once, so that no tail lasts
		out[token] = p
	}
	return out
}

func (a *auth) Verify(_ context.Context, token string) (request.Principal, error) {
	switch token {
	case "expired":
		return request.Principal{}, apierr.New(apierr.AuthExpiredToken, apierr.Options{})
	case "keyless":
		return request.Principal{}, apierr.New(apierr.AuthUnavailable, apierr.Options{})
	case "panic":
		panic("a defect with a secret")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.refusals[token]; err != nil {
		return request.Principal{}, err
	}
	if p, ok := principals()[cmp.Or(a.others[token], token)]; ok {
		p.Expires = p.Expires.Add(a.life)
		return p, nil
	}
	return request.Principal{}, apierr.New(apierr.AuthInvalidToken, apierr.Options{})
}

func (a *auth) prove(ok bool) (account.Session, error) {
	a.mu.Lock()
	a.attempts++
	err, hold := a.err, a.hold
	a.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if err == nil && !ok {
		err = apierr.New(apierr.AuthInvalidCredentials, apierr.Options{})
	}
	if err != nil {
		return account.Session{}, err
	}
	return account.Session{AccessToken: "a.b.c", ExpiresIn: 10 * time.Minute, RefreshToken: "r_1", Role: request.RoleDeveloper, Tenant: "org1"}, nil
}

func (a *auth) Login(_ context.Context, _, password string, _ netip.Addr) (account.Session, error) {
	return a.prove(password == goodPassword)
}

func (a *auth) Refresh(_ context.Context, token string) (account.Session, error) {
	return a.prove(token != "bad")
}

func (a *auth) Logout(ctx context.Context, _ string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended++
	return a.store.Ping(ctx)
}

// become lets a token be another's from now on.
func (a *auth) become(token, other string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.others == nil {
		a.others = map[string]string{}
	}
	a.others[token] = other
}

// refuse refuses a token from now on.
func (a *auth) refuse(token string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refusals == nil {
		a.refusals = map[string]error{}
	}
	a.refusals[token] = err
}

func (a *auth) ClientToken(_ context.Context, _, secret string, _ netip.Addr) (account.Session, error) {
	s, err := a.prove(secret != "bad")
	s.RefreshToken = ""
	return s, err
}

func (a *auth) KeySet(ctx context.Context) ([]byte, error) {
	if err := a.store.Ping(ctx); err != nil {
		return nil, apierr.New(apierr.AuthUnavailable, apierr.Options{Cause: err})
	}
	return []byte(`{"keys":[{"kty":"OKP","kid":"k1","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`), nil
}

const goodPassword = "a long enough password"

package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"

	"gatehouse/control/httpapi/spec"
	"gatehouse/internal/apierr"
	"gatehouse/internal/request"
	"gatehouse/policies"
)

// serve decides about a request and hands it on.
func (a *api) serve(w http.ResponseWriter, r *http.Request) {
	if err := a.admit(w, r); err != nil {
		a.fail(w, r, err)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// admit goes through all that stands before a handler, the cheap and the
// telling first: who is unknown learns nothing about operations' bodies, and
// nothing is read for whoever may not call.
func (a *api) admit(w http.ResponseWriter, r *http.Request) error {
	c := callOf(r.Context())
	c.request = r
	var err error
	if c.op, err = a.route(w, r); err != nil {
		return err
	}
	if err = bound(w, r, c.op); err != nil {
		return err
	}
	if c.principal, err = a.authenticate(r, c.op); err != nil {
		if limited := a.limitStranger(c); limited != nil {
			return limited
		}
		return err
	}
	if err = a.limit(c); err != nil {
		return err
	}
	if c.tenant, err = a.authorize(r, c); err != nil {
		return err
	}
	if c.op.IfMatch {
		if c.match, err = readPrecondition(r.Header); err != nil {
			return err
		}
	}
	return inspect(r, c.op)
}

// readmit asks again, for an answer that goes on, whether the caller may have
// what it has been admitted to.
func (a *api) readmit(ctx context.Context, c *call) error {
	r := c.request.WithContext(ctx)
	now := call{id: c.id, start: a.opts.Now(), op: c.op}
	var err error
	if now.principal, err = a.authenticate(r, c.op); err != nil {
		return err
	}
	if now.tenant, err = a.authorize(r, &now); err != nil {
		return err
	}
	if now.tenant != c.tenant {
		return forbidden("tenant_scope", "the caller acts within another tenant now")
	}
	return nil
}

// route finds the operation. The multiplexer would answer 404, 405 and paths
// that it cleans in its own words, so that it is asked first.
func (a *api) route(w http.ResponseWriter, r *http.Request) (*spec.Operation, error) {
	if p := r.URL.Path; p != "/" && path.Clean(p) != p {
		return nil, apierr.Missing()
	}
	h, pattern := a.mux.Handler(r)
	if op := a.operations[pattern]; op != nil {
		return op, nil
	}
	refusal := refusedRoute{header: http.Header{}}
	h.ServeHTTP(&refusal, r)
	if allow := refusal.header.Get("Allow"); refusal.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", allow)
		return nil, apierr.New(apierr.ValidationMethodNotAllowed, apierr.Options{})
	}
	return nil, apierr.Missing()
}

// bound refuses a body that is announced as too large, and ends one that turns
// out to be.
func bound(w http.ResponseWriter, r *http.Request, op *spec.Operation) error {
	if r.ContentLength > op.MaxBody {
		return apierr.New(apierr.ValidationTooLarge, apierr.Options{})
	}
	r.Body = http.MaxBytesReader(w, r.Body, op.MaxBody)
	return nil
}

// refusedRoute takes the multiplexer's refusal for its status and Allow.
type refusedRoute struct {
	header http.Header
	status int
}

func (w *refusedRoute) Header() http.Header         { return w.header }
func (w *refusedRoute) Write(b []byte) (int, error) { return len(b), nil }
func (w *refusedRoute) WriteHeader(status int)      { w.status = status }

// authenticate finds out who calls. A token that is given counts, also where
// none is needed; only operations of TokenNone don't look, so that a probe
// with a stale token still tells the truth. A lenient one takes a token that is
// no good for none.
func (a *api) authenticate(r *http.Request, op *spec.Operation) (request.Principal, error) {
	values := r.Header.Values("Authorization")
	if op.Token == spec.TokenNone || op.Token == spec.TokenOptional && len(values) == 0 {
		return request.Anonymous(), nil
	}
	if len(values) == 0 {
		return request.Principal{}, apierr.New(apierr.AuthMissingToken, apierr.Options{})
	}
	p, err := a.verify(r.Context(), values)
	if err != nil && op.Lenient && apierr.From(err).HTTP() == http.StatusUnauthorized {
		return request.Anonymous(), nil
	}
	return p, err
}

func (a *api) verify(ctx context.Context, values []string) (request.Principal, error) {
	token, ok := bearer(values)
	if !ok {
		return request.Principal{}, apierr.New(apierr.AuthInvalidToken, apierr.Options{Cause: errors.New("authorization is not one bearer token")})
	}
	return a.opts.Auth.Verify(ctx, token)
}

// maxToken bounds the bytes of a token.
const maxToken = 8 << 10

// bearer takes the token out of the one Authorization header (RFC 6750, 2.1).
func bearer(values []string) (string, bool) {
	if len(values) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimLeft(token, " ")
	return token, strings.EqualFold(scheme, "Bearer") && token != "" && len(token) <= maxToken && !strings.ContainsAny(token, " ,\t")
}

// authorize asks the shipped policy, and says what the caller may see.
func (a *api) authorize(r *http.Request, c *call) (tenant string, err error) {
	if err := a.permit(r, c, c.op.Permission); err != nil {
		return "", err
	}
	if c.op.Tenancy == spec.TenancyNone {
		return "", nil
	}
	own := c.principal.Tenant
	if own == request.AnyTenant && a.permit(r, c, "system.admin") == nil {
		return request.AnyTenant, nil
	}
	if c.op.Tenancy == spec.TenancyAll {
		return "", forbidden("tenant_scope", `only callers of tenant "*" with system.admin act on all tenants`)
	}
	// INVARIANT: a store takes "*" for all tenants; it never gets a caller's.
	if own == "" || own == request.AnyTenant {
		return "", forbidden("no_tenant", "the caller has no tenant of its own")
	}
	return own, nil
}

func (a *api) permit(r *http.Request, c *call, permission string) error {
	d := a.policy.Decide(r.Context(), &policies.Input{
		ID: c.id, Method: r.Method, Path: r.URL.Path, Host: r.Host, Protocol: r.Proto, Time: c.start,
		Principal: c.principal, Route: c.op.ID, Permission: permission,
	})
	if d.Allowed {
		return nil
	}
	if err := r.Context().Err(); err != nil {
		return err
	}
	if d.Class != policies.Decided {
		return apierr.New(apierr.AuthForbidden, apierr.Options{Cause: fmt.Errorf("%s: %w", d.Class, d.Cause)})
	}
	return forbidden(d.RuleID, d.Reason)
}

// inspect checks path, query and body against the document.
func inspect(r *http.Request, op *spec.Operation) error {
	for name, value := range op.PathValues(r.URL.EscapedPath()) {
		if code, _ := op.InPath[name].CheckText(value); code != "" {
			return apierr.Missing() // nothing can have such a name
		}
	}
	faults := inspectQuery(r.URL.RawQuery, op)
	if op.Body != nil {
		more, err := inspectBody(r, op.Body)
		if err != nil {
			return err
		}
		faults = append(faults, more...)
	}
	if len(faults) > 0 {
		return apierr.Unfit(nil, faults...)
	}
	return nil
}

func inspectQuery(raw string, op *spec.Operation) []apierr.Field {
	if !op.Refuses || raw == "" && len(op.InQuery) == 0 {
		return nil
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return []apierr.Field{{Pointer: "/query", Code: "malformed", Message: "the query can't be read"}}
	}
	return op.CheckQuery(query)
}

// inspectBody reads the body whole and puts it back for the handler, which
// decodes what has been checked.
func inspectBody(r *http.Request, s *spec.Schema) ([]apierr.Field, error) {
	if !plainJSON(r.Header) {
		return nil, apierr.New(apierr.ValidationUnsupportedMediaType, apierr.Options{})
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, readFault(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	faults, err := s.CheckJSON(body)
	if err != nil {
		return nil, apierr.New(apierr.ValidationMalformed, apierr.Options{Message: "The body is not one JSON value in UTF-8.", Cause: err})
	}
	return faults, nil
}

// readFault is what a body that ends early is: too large, too slow, or broken.
func readFault(err error) error {
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return apierr.New(apierr.ValidationTooLarge, apierr.Options{Cause: err})
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return apierr.New(apierr.ValidationTimeout, apierr.Options{Cause: err})
	}
	return apierr.New(apierr.ValidationMalformed, apierr.Options{Message: "The body ended early.", Cause: err})
}

// plainJSON reports whether the body is JSON in UTF-8, not compressed.
func plainJSON(h http.Header) bool {
	if e := h.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return false
	}
	t, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || t != "application/json" || len(h.Values("Content-Type")) != 1 {
		return false
	}
	for name, value := range params {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return false
		}
	}
	return true
}

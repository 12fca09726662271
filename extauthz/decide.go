package extauthz

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"gatehouse/internal/apierr"
	"gatehouse/policies"
)

// permit finds the permission that the method needs. A method that the route
// does not list is refused, OPTIONS included.
func (c *check) permit() *Refusal {
	p := c.route.Permission
	if p.ByMethod == nil {
		c.Permission = p.Name
		return nil
	}
	name, ok := p.ByMethod[c.in.Method]
	if !ok && c.in.Method == http.MethodHead {
		name, ok = p.ByMethod[http.MethodGet]
	}
	if ok {
		c.Permission = name
		return nil
	}
	return &Refusal{
		Class: ClassMethod, Rule: "method_not_listed", Reason: "the route does not list the method",
		err:     apierr.New(apierr.ValidationMethodNotAllowed, apierr.Options{}),
		headers: []policies.Header{{Name: "allow", Value: allowed(p.ByMethod)}},
	}
}

func allowed(byMethod map[string]string) string {
	methods := make([]string, 0, len(byMethod)+1)
	for m := range byMethod {
		methods = append(methods, m)
	}
	if byMethod[http.MethodGet] != "" && byMethod[http.MethodHead] == "" {
		methods = append(methods, http.MethodHead)
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

// policyDecides asks the policy. Every way of not getting an answer is a denial.
func (c *check) policyDecides(ctx context.Context) *Refusal {
	d := c.snap.Policy.Decide(ctx, c.input())
	c.policy = d
	c.Rule, c.Reason, c.Cached = d.RuleID, d.Reason, d.Cached
	if d.Allowed {
		return nil
	}
	r := &Refusal{
		Class: ClassPolicy, Rule: d.RuleID, Reason: d.Reason, Cause: d.Cause, explains: true, body: d.Body, headers: d.Headers,
	}
	code, hygiene := denialCode(d.Class)
	r.hygiene = hygiene
	r.err = apierr.New(code, apierr.Options{Status: d.HTTPStatus, Cause: d.Cause})
	return r
}

// denialCode is the error code of a denial, and whether it is one that mode
// observe carries out too: a body that can't be judged is not let through.
func denialCode(class policies.Class) (apierr.Code, bool) {
	switch class {
	case policies.InputMalformed, policies.BodyMissing, policies.BodyMalformed:
		return apierr.ValidationMalformed, true
	case policies.BodyTruncated:
		return apierr.ValidationTooLarge, true
	case policies.BodyEncoded, policies.BodyType:
		return apierr.ValidationUnsupportedMediaType, true
	}
	return apierr.AuthForbidden, false
}

func (c *check) input() *policies.Input {
	return &policies.Input{
		ID:                c.in.ID,
		Method:            c.in.Method,
		Path:              c.in.Path,
		Host:              c.in.Host,
		Scheme:            c.in.Scheme,
		Protocol:          c.in.Protocol,
		Size:              c.in.Size,
		Time:              c.in.Time,
		Headers:           c.in.Headers,
		BodyWanted:        c.route.Body > 0,
		BodyTruncated:     c.in.Headers.first("x-envoy-auth-partial-body") == "true",
		Body:              c.in.Body,
		Source:            c.in.Source,
		Destination:       c.in.Destination,
		ContextExtensions: c.in.Extensions,
		Principal:         c.Principal,
		Route:             c.Route,
		Listener:          c.Listener,
		Permission:        c.Permission,
		UpstreamPath:      upstreamPath(c.in.Path, c.route.Match.Base),
	}
}

// upstreamPath is the target that the upstream gets: without the route's base,
// and never without a slash at its beginning. Tokens are the policy's to hide.
func upstreamPath(sent, base string) string {
	rest := strings.TrimPrefix(sent, base)
	if rest == "" || rest[0] != '/' {
		return "/" + rest
	}
	return rest
}

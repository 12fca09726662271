package extauthz

import (
	"slices"
	"strings"

	"gatehouse/internal/apierr"
	"gatehouse/internal/config"
	"gatehouse/internal/ratelimit"
	"gatehouse/proxy/llm"
)

const decisionHeader = "x-gatehouse-decision-id"

// allow lets the request go on: tokens out, identity or credential in, and
// nohold for the guard where the route is known and plain. On an LLM route
// credential and passage are the Exchange's to give, with the hold.
func (s *Server) allow(c *check) *answer {
	c.Allowed = true
	a := &answer{allowed: true, set: make([]field, 0, 6), response: make([]field, 0, 7)}
	c.removeTokens(a)
	c.policyMutations(a)
	if c.route.Match.Listener == config.Inbound {
		c.identityHeaders(a)
	} else if secret, found := s.opts.Credentials[c.route.Upstream.Credential]; found && !c.withheld && c.route.LLM == nil {
		a.setHeader("authorization", "Bearer "+string(secret))
	}
	a.keepWhatIsSet()
	a.respond(decisionHeader, c.DecisionID)
	for _, h := range ratelimit.Headers(c.limits) {
		a.respond(h.Name, h.Value)
	}
	a.metadata = c.metadata(true)
	return a
}

// removeTokens takes the token out of the request, and on a route whose
// upstream gets a credential everything that stands in a token slot. Under
// observe, where a refused identity passes, every value of ours goes.
func (c *check) removeTokens(a *answer) {
	all := c.route.Upstream.Credential != "" && !c.withheld
	var members []int
	for _, s := range c.slots {
		switch {
		case !all && (!s.ours || (c.route.ForwardToken && !c.withheld)):
		case s.name[0] == '?':
			members = append(members, s.member)
		default:
			a.remove = append(a.remove, s.name)
		}
	}
	if len(members) > 0 {
		// Asked to remove a member, Envoy would write the query anew: sorted.
		a.setHeader(":path", withoutMembers(c.in.Path, members))
	}
	for _, h := range c.in.Headers {
		// Envoy has removed these; one that is not configured by us may not have.
		if strings.HasPrefix(h.Name, "x-gatehouse-") {
			a.remove = append(a.remove, h.Name)
		}
	}
}

// keepWhatIsSet takes back the removal of headers that are set: Envoy removes
// after it sets, and setting has replaced the client's value already.
func (a *answer) keepWhatIsSet() {
	a.remove = slices.DeleteFunc(a.remove, func(name string) bool {
		return slices.ContainsFunc(a.set, func(f field) bool { return strings.EqualFold(f.Name, name) })
	})
}

// policyMutations carries out what the policy's decision asks for.
func (c *check) policyMutations(a *answer) {
	if !c.policy.Allowed {
		return
	}
	a.setAll(c.policy.Headers)
	a.respondAll(c.policy.ResponseHeaders)
	a.remove = append(a.remove, c.policy.RemoveHeaders...)
	a.setQuery = c.policy.SetQuery
	a.removeQuery = append(a.removeQuery, c.policy.RemoveQuery...)
}

// identityHeaders tell the app who calls. None can come from the client.
func (c *check) identityHeaders(a *answer) {
	p := &c.Principal
	a.setHeader("x-gatehouse-subject", p.Subject)
	a.setHeader("x-gatehouse-role", string(p.Role))
	a.setHeader("x-gatehouse-tenant", p.Tenant)
	a.setHeader("x-gatehouse-project", p.Project)
	a.setHeader(decisionHeader, c.DecisionID)
}

// refuse answers the caller; the upstream is not reached.
func (c *check) refuse(r *Refusal) *answer {
	c.Refusal = r
	a := &answer{status: r.err.HTTP(), body: r.body, metadata: c.metadata(false)}
	a.denyWith(r.headers)
	if c.route != nil && c.route.LLM != nil {
		c.denyAsProvider(a, c.explained(r))
	} else if r.body == "" {
		a.denyPlainly(c, c.explained(r))
	}
	a.respond(decisionHeader, c.DecisionID)
	return a
}

// denyPlainly says a denial in the form that the caller accepts.
func (a *answer) denyPlainly(c *check, e *apierr.Error) {
	contentType, body := e.Render(c.in.Headers.first("accept"), c.RequestID)
	a.respond("content-type", contentType)
	a.body = string(body)
}

// denyAsProvider says a denial as the route's provider would, so that its own
// clients show it, and do not repeat what no repetition changes. A policy's own
// answer stays.
func (c *check) denyAsProvider(a *answer, e *apierr.Error) {
	d := llm.Denial{Code: string(e.Code()), Message: e.Message(), RequestID: c.RequestID, Details: e.Details()}
	if d.NoRetry() && !a.responds(llm.ShouldRetry) {
		a.respond(llm.ShouldRetry, "false")
	}
	if a.body != "" {
		return
	}
	body, err := llm.AppendDenial(nil, c.route.Format, d)
	if err != nil {
		a.denyPlainly(c, e)
		return
	}
	a.respond("content-type", apierr.JSONType)
	a.body = string(body)
}

// explained adds to a policy's denial the id that opens its record and, where
// the policy set says so, rule and reason.
func (c *check) explained(r *Refusal) *apierr.Error {
	if !r.explains {
		return r.err
	}
	details := []apierr.Detail{apierr.Text("decision_id", c.DecisionID)}
	if c.snap.Set.Policy.ShowReasons {
		details = append(details, apierr.Text("rule_id", r.Rule), apierr.Text("reason", r.Reason))
	}
	return apierr.New(r.err.Code(), apierr.Options{Details: details, Status: r.err.HTTP()})
}

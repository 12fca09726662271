package httpapi

import (
	"context"
	"net/url"
	"strconv"

	apiv1 "gatehouse/api/v1"
	"gatehouse/internal/mesh"
)

const decisionsPath = "/api/v1/decisions"

// ListDecisions lists the decision records that the caller may see.
func (a *api) ListDecisions(ctx context.Context, r apiv1.ListDecisionsRequestObject) (apiv1.ListDecisionsResponseObject, error) {
	c, p := callOf(ctx), r.Params
	tenant, err := c.within(p.TenantId)
	if err != nil {
		return nil, err
	}
	f, query := decisionFilter(p.Allowed, p.Subject, p.Route, p.RuleId, p.SidecarId)
	add(query, "tenant_id", p.TenantId)
	l, err := a.filtered(decisionsPath, tenant, query, p.Limit, p.Cursor)
	if err != nil {
		return nil, err
	}
	page, err := a.opts.Decisions.Decisions(ctx, tenant, f, l.after, l.limit)
	if err != nil {
		return nil, err
	}
	var out apiv1.ListDecisions200JSONResponse
	show := func(d mesh.Decision) apiv1.Decision { return a.showDecision(d, tenant) }
	out.Body.Items, err = shown(c, page.Items, tenantOfDecision, show)
	if err != nil {
		return nil, err
	}
	out.Body.Next, out.Headers.Link, err = a.next(l, page.Next)
	return out, err
}

// GetDecision returns one decision record.
func (a *api) GetDecision(ctx context.Context, r apiv1.GetDecisionRequestObject) (apiv1.GetDecisionResponseObject, error) {
	c := callOf(ctx)
	d, err := a.opts.Decisions.Decision(ctx, c.tenant, r.DecisionId)
	if err != nil {
		return nil, err
	}
	if err := c.sees(d.Tenant); err != nil {
		return nil, err
	}
	return apiv1.GetDecision200JSONResponse(a.showDecision(d, c.tenant)), nil
}

func tenantOfDecision(d mesh.Decision) string { return d.Tenant }

// decisionFilter reads what records are asked for, and gives it back as the
// query that asks for the same.
func decisionFilter(allowed *bool, subject, route, rule, sidecar *string) (mesh.DecisionFilter, url.Values) {
	f, query := mesh.DecisionFilter{Allowed: allowed}, url.Values{}
	if allowed != nil {
		query.Set("allowed", strconv.FormatBool(*allowed))
	}
	for _, part := range []struct {
		name  string
		to    *string
		given *string
	}{
		{"subject", &f.Subject, subject}, {"route", &f.Route, route}, {"rule_id", &f.RuleID, rule}, {"sidecar_id", &f.Sidecar, sidecar},
	} {
		set(part.to, part.given)
		add(query, part.name, part.given)
	}
	return f, query
}

// showDecision shows a record and its place for those who see what tenant
// bounds.
func (a *api) showDecision(d mesh.Decision, tenant string) apiv1.Decision {
	out := apiv1.Decision{Id: d.ID, TenantId: d.Tenant, SidecarId: d.SidecarID, At: d.At.UTC(), Record: d.Record}
	if d.Cursor != "" {
		out.Place = new(a.sealCursor(tailOf(tenant), d.Cursor))
	}
	return out
}

// tailOf is the list of all records in the order in which they were stored. No
// filter is part of it: a place is good with any.
func tailOf(tenant string) list { return list{name: decisionsPath + "/tail", tenant: tenant} }

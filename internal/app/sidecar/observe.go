package sidecar

import (
	"context"
	"log/slog"
	"slices"

	"gatehouse/extauthz"
	"gatehouse/internal/config"
	"gatehouse/internal/telemetry"
)

// observe turns one check into its log event, metrics and decision record.
func (a *App) observe(e *extauthz.Event) {
	class, code, rule := outcome(e)
	a.metrics.Check(telemetry.Check{
		Route: e.Route, Class: class, Mode: string(e.Mode), Allowed: e.Allowed, WouldDeny: len(e.Would) > 0,
	}, e.Duration)
	if e.Token != "" {
		a.metrics.TokenVerified(e.Token)
	}
	if e.Rule != "" {
		a.metrics.PolicyDecided(policyResult(e), e.Cached)
	}
	if class == string(extauthz.ClassLimit) {
		a.metrics.RateLimited(rule)
	}
	a.records.Decision(record(e, class, code, rule))
	a.logCheck(e, class, code, rule)
}

// outcome is the class, code and rule of what refused the request, or would
// have: the first that observe let pass.
func outcome(e *extauthz.Event) (class, code, rule string) {
	r := e.Refusal
	if r == nil && len(e.Would) > 0 {
		r = e.Would[0]
	}
	if r == nil {
		return "", "", e.Rule
	}
	return string(r.Class), r.Code(), r.Rule
}

func policyResult(e *extauthz.Event) string {
	byPolicy := func(r *extauthz.Refusal) bool { return r != nil && r.Class == extauthz.ClassPolicy }
	if byPolicy(e.Refusal) || slices.ContainsFunc(e.Would, byPolicy) {
		return "denied"
	}
	return "allowed"
}

func record(e *extauthz.Event, class, code, rule string) telemetry.Decision {
	return telemetry.Decision{
		Time: e.Start, DecisionID: e.DecisionID, RequestID: e.RequestID, Revision: e.Revision,
		Route: e.Route, Listener: e.Listener, Method: e.Method, Path: e.Path,
		Principal: e.Principal, Permission: e.Permission,
		Allowed: e.Allowed, WouldDeny: len(e.Would) > 0, Mode: string(e.Mode),
		Class: class, ErrorCode: code, RuleID: rule, Reason: reason(e), Latency: e.Duration, Limits: limitNames(e.Limits),
	}
}

func limitNames(limits []config.Limit) []string {
	if len(limits) == 0 {
		return nil
	}
	names := make([]string, len(limits))
	for i, l := range limits {
		names[i] = l.Name
	}
	return names
}

func reason(e *extauthz.Event) string {
	switch {
	case e.Refusal != nil:
		return e.Refusal.Reason
	case len(e.Would) > 0:
		return e.Would[0].Reason
	}
	return e.Reason
}

func (a *App) logCheck(e *extauthz.Event, class, code, rule string) {
	level := slog.LevelInfo
	var cause error
	if e.Refusal != nil {
		cause = e.Refusal.Cause
	}
	if class == string(extauthz.ClassFault) || class == string(extauthz.ClassUnknown) {
		level = slog.LevelError
	}
	if !a.log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", e.RequestID), slog.String("decision_id", e.DecisionID),
		slog.String("policy_revision", e.Revision), slog.String("route", e.Route),
		slog.String("method", e.Method), slog.String("path", e.Path),
		slog.Bool("allowed", e.Allowed), slog.String("rule_id", rule),
		slog.String("tenant", e.Principal.Tenant), slog.String("subject", e.Principal.Subject),
		slog.String("role", string(e.Principal.Role)), slog.Int64("took_us", e.Duration.Microseconds()),
	}
	if class != "" {
		attrs = append(attrs, slog.String("class", class), slog.String("error_code", code), slog.Bool("observed", e.Allowed))
	}
	if cause != nil {
		attrs = append(attrs, slog.String("cause", cause.Error()))
	}
	a.log.LogAttrs(context.Background(), level, "check", attrs...)
}

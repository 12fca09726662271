package sidecar

import (
	"context"
	"log/slog"

	"gatehouse/internal/breaker"
	"gatehouse/internal/telemetry"
	"gatehouse/proxy"
	"gatehouse/proxy/sanitize"
)

// outcomes takes the access log's outcomes to all who need them.
type outcomes struct{ app *App }

// Outcome implements accesslog.Sink.
func (o outcomes) Outcome(e telemetry.Outcome) {
	a := o.app
	a.exchanges.Logged(e.RequestID, e.UpstreamReached)
	a.inFlight.Leave(e.RequestID)
	switch breaker.Judge(e.Status, e.ResponseFlags, e.CodeDetailsClass) {
	case breaker.Nothing:
		a.breakers.Release(e.RequestID)
	case breaker.Success:
		a.breakers.Done(e.RequestID, false)
	case breaker.Failure:
		a.breakers.Done(e.RequestID, true)
	}
	a.records.Outcome(e)
}

// observeExchange turns one exchange into its log event, metrics and record. What
// was only passed through was Check's or Envoy's, and is recorded there.
func (a *App) observeExchange(e *proxy.Event) {
	if e.Outcome == proxy.Foreign {
		return
	}
	x := exchangeOf(e)
	a.metrics.Exchange(x)
	if e.Held > 0 {
		a.metrics.Hold(telemetry.HoldGranted)
	}
	class, code, rule, reason := refusalOf(e)
	if class == string(proxy.ClassBudget) {
		a.metrics.Hold(holdRefused(code))
	}
	a.records.Decision(telemetry.Decision{
		Time: e.Start, DecisionID: e.DecisionID, RequestID: e.RequestID, Revision: e.Revision, Route: e.Route, Listener: e.Listener,
		Principal: e.Principal, Allowed: e.Refusal == nil, WouldDeny: len(e.Would) > 0, Mode: e.Mode,
		Class: class, ErrorCode: code, RuleID: rule, Reason: reason, Latency: e.Duration, Exchange: x,
	})
	a.logExchange(e, class, code, rule)
}

func exchangeOf(e *proxy.Event) *telemetry.Exchange {
	class, _, _, _ := refusalOf(e)
	return &telemetry.Exchange{
		Route: e.Route, Outcome: string(e.Outcome), Class: class, WouldRefuse: e.Refusal == nil && len(e.Would) > 0,
		Held: e.Held, Charged: e.Charged, Reported: e.Usage.Total(), FirstEvent: e.FirstEvent, Findings: countFindings(e.Findings),
		CheckID: e.CheckID, Model: e.Model, Stream: e.Streamed, Settled: e.Settled, Flagged: e.Flagged,
	}
}

// refusalOf is what refused or cut the exchange, or would have: the first that
// observe let pass.
func refusalOf(e *proxy.Event) (class, code, rule, reason string) {
	r := e.Refusal
	if r == nil && len(e.Would) > 0 {
		r = e.Would[0]
	}
	if r == nil {
		return "", "", "", ""
	}
	return string(r.Class), r.Code, r.Rule, r.Reason
}

func holdRefused(code string) string {
	if code == "budget.unavailable" {
		return telemetry.HoldFailed
	}
	return telemetry.HoldDenied
}

// countFindings sums findings by what they are.
func countFindings(list []sanitize.Finding) []telemetry.Finding {
	var out []telemetry.Finding
next:
	for _, f := range list {
		class, action := f.Class.String(), f.Action.String()
		for i := range out {
			if out[i].Class == class && out[i].Action == action {
				out[i].Count++
				continue next
			}
		}
		out = append(out, telemetry.Finding{Class: class, Action: action, Count: 1})
	}
	return out
}

func (a *App) logExchange(e *proxy.Event, class, code, rule string) {
	level := slog.LevelInfo
	if class == string(proxy.ClassFault) {
		level = slog.LevelError
	}
	if !a.log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", e.RequestID), slog.String("decision_id", e.DecisionID), slog.String("check_id", e.CheckID),
		slog.String("policy_revision", e.Revision), slog.String("route", e.Route), slog.String("model", e.Model),
		slog.String("outcome", string(e.Outcome)), slog.Int64("held", e.Held), slog.Int64("charged", e.Charged), slog.String("settled", e.Settled),
		slog.String("tenant", e.Principal.Tenant), slog.String("subject", e.Principal.Subject),
		slog.Int("findings", e.Found), slog.Int64("took_us", e.Duration.Microseconds()),
	}
	if class != "" {
		attrs = append(attrs, slog.String("class", class), slog.String("error_code", code), slog.String("rule_id", rule), slog.Bool("observed", e.Refusal == nil))
	}
	if e.Refusal != nil && e.Refusal.Cause != nil {
		attrs = append(attrs, slog.String("cause", e.Refusal.Cause.Error()))
	}
	a.log.LogAttrs(context.Background(), level, "exchange", attrs...)
}

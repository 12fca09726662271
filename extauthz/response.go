package extauthz

import (
	"log/slog"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"gatehouse/internal/apierr"
	"gatehouse/internal/config"
	"gatehouse/internal/envoyconf"
	"gatehouse/internal/ratelimit"
	"gatehouse/policies"
)

const (
	extRevision = envoyconf.ExtRevision
	extRoute    = envoyconf.ExtRoute
	extShape    = envoyconf.ExtShape

	decisionHeader = "x-gatehouse-decision-id"
)

// Secret is a credential. It prints as redacted everywhere.
type Secret string

// String implements fmt.Stringer.
func (Secret) String() string { return "[redacted]" }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return "[redacted]" }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// MarshalText implements encoding.TextMarshaler.
func (Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// allow lets the request go on: tokens out, identity or credential in, and
// nohold for the guard, because the route is known and plain.
func (s *Server) allow(c *check) *authv3.CheckResponse {
	c.Allowed = true
	ok := &authv3.OkHttpResponse{}
	c.removeTokens(ok)
	c.policyMutations(ok)
	if c.route.Match.Listener == config.Inbound {
		c.identityHeaders(ok)
	} else if secret, found := s.opts.Credentials[c.route.Upstream.Credential]; found && !c.withheld {
		ok.Headers = append(ok.Headers, set("authorization", "Bearer "+string(secret)))
	}
	keepWhatIsSet(ok)
	ok.ResponseHeadersToAdd = append(ok.ResponseHeadersToAdd, set(decisionHeader, c.DecisionID))
	for _, h := range ratelimit.Headers(c.limits) {
		ok.ResponseHeadersToAdd = append(ok.ResponseHeadersToAdd, set(h.Name, h.Value))
	}
	return &authv3.CheckResponse{
		Status:          &rpcstatus.Status{Code: int32(codes.OK)},
		HttpResponse:    &authv3.CheckResponse_OkResponse{OkResponse: ok},
		DynamicMetadata: c.metadata(true),
	}
}

// removeTokens takes the token out of the request, and on a route whose
// upstream gets a credential everything that stands in a token slot. Under
// observe, where a refused identity passes, every value of ours goes.
func (c *check) removeTokens(ok *authv3.OkHttpResponse) {
	all := c.route.Upstream.Credential != "" && !c.withheld
	for _, s := range c.slots {
		if !all && (!s.ours || (c.route.ForwardToken && !c.withheld)) {
			continue
		}
		if name, isQuery := strings.CutPrefix(s.name, "?"); isQuery {
			ok.QueryParametersToRemove = append(ok.QueryParametersToRemove, name)
		} else {
			ok.HeadersToRemove = append(ok.HeadersToRemove, s.name)
		}
	}
	for _, h := range c.headers {
		// Envoy has removed these; one that is not configured by us may not have.
		if strings.HasPrefix(h.Name, "x-gatehouse-") && !slices.Contains(identityNames(), h.Name) {
			ok.HeadersToRemove = append(ok.HeadersToRemove, h.Name)
		}
	}
}

// keepWhatIsSet takes back the removal of headers that are set: Envoy removes
// after it sets, and setting has replaced the client's value already.
func keepWhatIsSet(ok *authv3.OkHttpResponse) {
	ok.HeadersToRemove = slices.DeleteFunc(ok.HeadersToRemove, func(name string) bool {
		return slices.ContainsFunc(ok.Headers, func(h *corev3.HeaderValueOption) bool {
			return strings.EqualFold(h.GetHeader().GetKey(), name)
		})
	})
}

// policyMutations carries out what the policy's decision asks for.
func (c *check) policyMutations(ok *authv3.OkHttpResponse) {
	if !c.policy.Allowed {
		return
	}
	for _, h := range c.policy.Headers {
		ok.Headers = append(ok.Headers, set(h.Name, h.Value))
	}
	for _, h := range c.policy.ResponseHeaders {
		ok.ResponseHeadersToAdd = append(ok.ResponseHeadersToAdd, set(h.Name, h.Value))
	}
	ok.HeadersToRemove = append(ok.HeadersToRemove, c.policy.RemoveHeaders...)
	ok.QueryParametersToRemove = append(ok.QueryParametersToRemove, c.policy.RemoveQuery...)
	for _, q := range c.policy.SetQuery {
		ok.QueryParametersToSet = append(ok.QueryParametersToSet, &corev3.QueryParameter{Key: q.Name, Value: q.Value})
	}
}

func identityNames() []string {
	return []string{
		"x-gatehouse-subject", "x-gatehouse-role", "x-gatehouse-tenant", "x-gatehouse-project", decisionHeader,
	}
}

// identityHeaders tell the app who calls. Each is set or, when empty, removed:
// none can come from the client.
func (c *check) identityHeaders(ok *authv3.OkHttpResponse) {
	p := &c.Principal
	values := []string{p.Subject, string(p.Role), p.Tenant, p.Project, c.DecisionID}
	for i, name := range identityNames() {
		if values[i] != "" {
			ok.Headers = append(ok.Headers, set(name, values[i]))
		} else if c.headers.has(name) {
			ok.HeadersToRemove = append(ok.HeadersToRemove, name)
		}
	}
}

// set replaces a header. Envoy reads value in Check's replies; raw_value would
// give an empty header.
func set(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// refuse answers the caller; the upstream is not reached.
func (c *check) refuse(r *Refusal) *authv3.CheckResponse {
	c.Refusal = r
	contentType, body := "", []byte(r.body)
	if r.body == "" {
		contentType, body = c.explained(r).Render(c.headers.first("accept"), c.RequestID)
	}
	denied := &authv3.DeniedHttpResponse{
		Status: &typev3.HttpStatus{Code: typev3.StatusCode(r.err.HTTP())},
		Body:   string(body),
	}
	if contentType != "" {
		denied.Headers = append(denied.Headers, set("content-type", contentType))
	}
	denied.Headers = append(denied.Headers, set(decisionHeader, c.DecisionID))
	for _, h := range r.headers {
		denied.Headers = append(denied.Headers, set(h.Name, h.Value))
	}
	return &authv3.CheckResponse{
		Status:          &rpcstatus.Status{Code: int32(codes.PermissionDenied)},
		HttpResponse:    &authv3.CheckResponse_DeniedResponse{DeniedResponse: denied},
		DynamicMetadata: c.metadata(false),
	}
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

// metadata goes with the request through Envoy: to the guard, the Exchange
// and the access log.
func (c *check) metadata(allowed bool) *structpb.Struct {
	fields := map[string]*structpb.Value{
		"decision_id": structpb.NewStringValue(c.DecisionID),
		"route":       structpb.NewStringValue(c.Route),
		"revision":    structpb.NewStringValue(c.Revision),
	}
	if allowed {
		// INVARIANT: only here, for a route that locate found in its revision.
		fields[envoyconf.KeyNoHold] = structpb.NewBoolValue(true)
		fields["principal"] = structpb.NewStructValue(principalStruct(c))
		if o := obligations(c.policy); o != nil {
			fields["obligations"] = structpb.NewStructValue(o)
		}
		for k, v := range policyMetadata(c.policy) {
			if fields[k] == nil {
				fields[k] = v
			}
		}
	}
	return &structpb.Struct{Fields: fields}
}

func principalStruct(c *check) *structpb.Struct {
	p := &c.Principal
	fields := map[string]*structpb.Value{"kind": structpb.NewStringValue(string(p.Kind))}
	for name, v := range map[string]string{"subject": p.Subject, "role": string(p.Role), "tenant": p.Tenant, "project": p.Project, "agent": p.Agent} {
		if v != "" {
			fields[name] = structpb.NewStringValue(strings.ToValidUTF8(v, "�"))
		}
	}
	return &structpb.Struct{Fields: fields}
}

func obligations(d policies.Decision) *structpb.Struct { return jsonStruct(d.Obligations) }

func policyMetadata(d policies.Decision) map[string]*structpb.Value {
	return jsonStruct(d.DynamicMetadata).GetFields()
}

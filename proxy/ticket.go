package proxy

import (
	"errors"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"gatehouse/internal/envoyconf"
	"gatehouse/internal/request"
)

var errNoTicket = errors.New("the request carries nothing of Check")

// ticket is what Check said of a request that it let pass. Only the ext_authz
// filter writes where it stands, so that no client can make one.
type ticket struct {
	decision  string
	revision  string
	route     string
	shape     string
	principal request.Principal
	// withheld: identity or policy would have refused it, which mode observe
	// let pass. No credential is added.
	withheld    bool
	obligations map[string]any
}

// readTicket reads Check's metadata. Those of a request that Check refused have
// no principal, and those of a plain route say so.
func readTicket(m *corev3.Metadata) (ticket, error) {
	fields := m.GetFilterMetadata()[envoyconf.AuthzNamespace].GetFields()
	p := fields["principal"].GetStructValue()
	t := ticket{
		decision: text(fields, "decision_id"), revision: text(fields, "revision"),
		route: text(fields, "route"), shape: text(fields, "shape"),
		withheld:    fields["withheld"].GetBoolValue(),
		obligations: fields["obligations"].GetStructValue().AsMap(),
	}
	if p == nil || t.decision == "" || fields[envoyconf.KeyNoHold] != nil {
		return ticket{}, errNoTicket
	}
	t.principal = readPrincipal(p.GetFields())
	return t, nil
}

func readPrincipal(f map[string]*structpb.Value) request.Principal {
	p := request.Principal{
		Kind: request.Kind(text(f, "kind")), Role: request.Role(text(f, "role")), Issuer: text(f, "issuer"),
		Subject: text(f, "subject"), Tenant: text(f, "tenant"), Project: text(f, "project"),
		Agent: text(f, "agent"), Run: text(f, "run"), TokenID: text(f, "token_id"),
	}
	if at := f["issued"].GetNumberValue(); at > 0 {
		p.Issued = time.Unix(int64(at), 0)
	}
	return p
}

func text(f map[string]*structpb.Value, name string) string { return f[name].GetStringValue() }

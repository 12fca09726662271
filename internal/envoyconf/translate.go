package envoyconf

import (
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"gatehouse/internal/config"
)

// Resources is what one sidecar's Envoy is given for one revision, by name.
// It is immutable once made: switches share its members.
type Resources struct {
	Revision  string
	Listeners map[string]*listenerv3.Listener
	Clusters  map[string]*clusterv3.Cluster
	Routes    map[string]*routev3.RouteConfiguration
}

// Translate makes the resources of a policy set on a sidecar. Its error says
// what Envoy would have accepted without enforcing it, or would have refused.
func Translate(sc *config.Sidecar, set *config.PolicySet, revision string) (*Resources, error) {
	res := &Resources{
		Revision:  revision,
		Listeners: map[string]*listenerv3.Listener{},
		Clusters:  map[string]*clusterv3.Cluster{},
		Routes:    map[string]*routev3.RouteConfiguration{},
	}
	for name, l := range Listeners(sc) {
		res.Listeners[name] = listener(name, l, sc.Limits)
		res.Routes[name] = routeTable(name, set, revision, res.Clusters)
	}
	if err := Verify(res); err != nil {
		return nil, fmt.Errorf("revision %s: %w", revision, err)
	}
	return res, nil
}

// Listeners are the sidecar's listeners by name.
func Listeners(sc *config.Sidecar) map[string]*config.Listener {
	out := map[string]*config.Listener{}
	if sc.Listeners.Inbound != nil {
		out[config.Inbound] = sc.Listeners.Inbound
	}
	if sc.Listeners.Outbound != nil {
		out[config.Outbound] = sc.Listeners.Outbound
	}
	return out
}

// Material is what a listener's TLS files hold, in PEM.
type Material struct {
	Certificate, Key, ClientCA []byte
}

// Secrets are the resources of a listener's TLS material.
func Secrets(listener string, m Material) map[string]*tlsv3.Secret {
	inline := func(b []byte) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
	}
	return secrets(listener, inline(m.Certificate), inline(m.Key), len(m.ClientCA) > 0, inline(m.ClientCA))
}

func secrets(listener string, cert, key *corev3.DataSource, clientCA bool, ca *corev3.DataSource) map[string]*tlsv3.Secret {
	out := map[string]*tlsv3.Secret{}
	name := listener + secretCertificate
	out[name] = &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{
		TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: cert, PrivateKey: key},
	}}
	if clientCA {
		name := listener + secretClientCA
		out[name] = &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{
			ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: ca},
		}}
	}
	return out
}

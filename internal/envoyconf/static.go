package envoyconf

import (
	"fmt"
	"maps"
	"slices"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"gatehouse/internal/config"
)

// Static renders a complete configuration, as YAML, for an Envoy that is not
// served by its sidecar. Its routes say `rev: current`; certificates are read
// from their files by Envoy itself.
func Static(sc *config.Sidecar, set *config.PolicySet) ([]byte, error) {
	res, err := Translate(sc, set, CurrentRevision)
	if err != nil {
		return nil, err
	}
	b := bootstrap(sc)
	b.DynamicResources = nil
	for _, name := range slices.Sorted(maps.Keys(res.Clusters)) {
		b.StaticResources.Clusters = append(b.StaticResources.Clusters, res.Clusters[name])
	}
	for _, name := range slices.Sorted(maps.Keys(res.Listeners)) {
		l, err := inlined(res.Listeners[name], res.Routes[name])
		if err != nil {
			return nil, err
		}
		b.StaticResources.Listeners = append(b.StaticResources.Listeners, l)
		appendFileSecrets(b, name, Listeners(sc)[name].TLS)
	}
	if err := b.ValidateAll(); err != nil {
		return nil, fmt.Errorf("static rendering: %w", err)
	}
	return render(b)
}

// inlined is a listener with its routes and its secrets' names in place of the
// discovery services.
func inlined(l *listenerv3.Listener, routes *routev3.RouteConfiguration) (*listenerv3.Listener, error) {
	out := proto.CloneOf(l)
	chain := out.GetFilterChains()[0]
	for _, f := range chain.GetFilters() {
		if f.GetName() != connectionManager {
			continue
		}
		var m hcmv3.HttpConnectionManager
		if err := f.GetTypedConfig().UnmarshalTo(&m); err != nil {
			return nil, fmt.Errorf("static rendering: %w", err)
		}
		m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: routes}
		f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(&m)}
	}
	return out, inlineSecrets(chain)
}

func inlineSecrets(chain *listenerv3.FilterChain) error {
	if chain.GetTransportSocket() == nil {
		return nil
	}
	var ctx tlsv3.DownstreamTlsContext
	if err := chain.GetTransportSocket().GetTypedConfig().UnmarshalTo(&ctx); err != nil {
		return fmt.Errorf("static rendering: %w", err)
	}
	for _, s := range ctx.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs() {
		s.SdsConfig = nil
	}
	if s := ctx.GetCommonTlsContext().GetValidationContextSdsSecretConfig(); s != nil {
		s.SdsConfig = nil
	}
	chain.TransportSocket = transportSocket(&ctx)
	return nil
}

func appendFileSecrets(b *bootstrapv3.Bootstrap, listener string, t *config.TLS) {
	if t == nil {
		return
	}
	all := secrets(listener, fileSource(t.CertFile), fileSource(t.KeyFile), t.ClientCAFile != "", fileSource(t.ClientCAFile))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b.StaticResources.Secrets = append(b.StaticResources.Secrets, all[name])
	}
}

// render writes a message as YAML with sorted keys: the same bytes each time.
func render(m proto.Message) ([]byte, error) {
	js, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("rendering %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return yaml.JSONToYAML(js)
}

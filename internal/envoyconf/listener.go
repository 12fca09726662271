package envoyconf

import (
	"net/netip"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	connlimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"gatehouse/internal/config"
)

// Bounds of one listener. RequestTimeout is part of what a retired revision
// must outlive: Check of a route with a body comes after the upload.
const (
	RequestTimeout = 60 * time.Second

	headersTimeout     = 10 * time.Second
	streamIdleTimeout  = 300 * time.Second
	connIdleTimeout    = 300 * time.Second
	delayedClose       = time.Second
	maxHeadersKiB      = 32
	maxHeadersCount    = 100
	bufferBytes        = 1 << 20
	acceptsPerEvent    = 16
	streamWindowBytes  = 1 << 20
	connWindowBytes    = 4 << 20
	maxOutboundFrames  = 10000
	accessLogFlush     = time.Second
	secretCertificate  = "-certificate"
	secretClientCA     = "-client-ca"
	requestIDHeader    = "x-request-id"
	connectionManager  = "envoy.filters.network.http_connection_manager"
	connectionLimiter  = "envoy.filters.network.connection_limit"
	earlyHeaderRemoval = "envoy.http.early_header_mutation.header_mutation"
)

// listener builds one listener. It depends on sidecar.yaml alone.
func listener(name string, l *config.Listener, limits config.SidecarLimits) *listenerv3.Listener {
	addr := netip.MustParseAddrPort(l.Address) // the configuration accepts nothing else
	chain := &listenerv3.FilterChain{Filters: []*listenerv3.Filter{
		networkFilter(connectionLimiter, &connlimitv3.ConnectionLimit{
			StatPrefix:     name,
			MaxConnections: wrapperspb.UInt64(uint64(limits.Connections)),
		}),
		networkFilter(connectionManager, manager(name, limits)),
	}}
	if l.TLS != nil {
		chain.TransportSocket = downstreamTLS(name, l.TLS)
	}
	return &listenerv3.Listener{
		Name:                                 name,
		Address:                              socketAddress(addr.Addr().String(), int(addr.Port())),
		PerConnectionBufferLimitBytes:        u32(bufferBytes),
		MaxConnectionsToAcceptPerSocketEvent: u32(acceptsPerEvent),
		FilterChains:                         []*listenerv3.FilterChain{chain},
	}
}

// manager is the HTTP connection manager, hardened: the request id is Envoy's
// own, nobody is internal, paths are normalised or refused, and headers that
// only we may set are gone before the first filter sees the request.
func manager(name string, limits config.SidecarLimits) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix: name,
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			ConfigSource: adsSource(), RouteConfigName: name,
		}},
		HttpFilters: filters(),

		UseRemoteAddress:              boolean(true),
		InternalAddressConfig:         nobodyInternal(),
		GenerateRequestId:             boolean(true),
		AlwaysSetRequestIdInResponse:  true,
		EarlyHeaderMutationExtensions: earlyRemoval(),

		NormalizePath:                boolean(true),
		MergeSlashes:                 true,
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_REJECT_REQUEST,
		MaxRequestHeadersKb:          u32(maxHeadersKiB),
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_REJECT_REQUEST,
			MaxHeadersCount:              u32(maxHeadersCount),
			IdleTimeout:                  duration(connIdleTimeout),
		},
		HttpProtocolOptions:  &corev3.Http1ProtocolOptions{},
		Http2ProtocolOptions: http2Options(limits),

		RequestHeadersTimeout:      duration(headersTimeout),
		RequestTimeout:             duration(RequestTimeout),
		StreamIdleTimeout:          duration(streamIdleTimeout),
		DelayedCloseTimeout:        duration(delayedClose),
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,

		AccessLog:        accessLog(),
		LocalReplyConfig: localReplies(),
	}
}

func http2Options(limits config.SidecarLimits) *corev3.Http2ProtocolOptions {
	return &corev3.Http2ProtocolOptions{
		MaxConcurrentStreams:                    u32(limits.Streams),
		InitialStreamWindowSize:                 u32(streamWindowBytes),
		InitialConnectionWindowSize:             u32(connWindowBytes),
		MaxOutboundFrames:                       u32(maxOutboundFrames),
		OverrideStreamErrorOnInvalidHttpMessage: boolean(true),
	}
}

// nobodyInternal names one address that no client has: Envoy keeps the request
// id of internal clients, and ours must not be chosen by anyone.
func nobodyInternal() *hcmv3.HttpConnectionManager_InternalAddressConfig {
	return &hcmv3.HttpConnectionManager_InternalAddressConfig{CidrRanges: []*corev3.CidrRange{{
		AddressPrefix: "255.255.255.255", PrefixLen: u32(32),
	}}}
}

// strippedPrefixes are header names that a client may not send: what we add,
// what Envoy obeys, and what applications take for the client's identity.
func strippedPrefixes() []string { return []string{"x-gatehouse-", "x-envoy-", "x-forwarded-"} }

// strippedNames are further headers by which applications know the client, or
// take another path or method than the one that was decided on.
func strippedNames() []string {
	return []string{
		"forwarded", "x-real-ip", "x-original-url", "x-original-uri", "x-rewrite-url",
		"x-http-method", "x-http-method-override", "x-method-override",
	}
}

func earlyRemoval() []*corev3.TypedExtensionConfig {
	var mutations []*mutationv3.HeaderMutation
	for _, name := range strippedNames() {
		mutations = append(mutations, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}})
	}
	for _, prefix := range strippedPrefixes() {
		mutations = append(mutations, &mutationv3.HeaderMutation{
			Action: &mutationv3.HeaderMutation_RemoveOnMatch_{RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{
				KeyMatcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}},
			}},
		})
	}
	return []*corev3.TypedExtensionConfig{{
		Name: earlyHeaderRemoval, TypedConfig: pack(&earlyv3.HeaderMutation{Mutations: mutations}),
	}}
}

// accessLog sends each request's end over the gate without batching, so that
// it arrives within a millisecond.
func accessLog() []*accesslogv3.AccessLog {
	cfg := &grpclogv3.HttpGrpcAccessLogConfig{
		CommonConfig: &grpclogv3.CommonGrpcAccessLogConfig{
			LogName:                 MetadataNamespace,
			TransportApiVersion:     corev3.ApiVersion_V3,
			GrpcService:             gateService(0),
			BufferSizeBytes:         u32(0),
			BufferFlushInterval:     duration(accessLogFlush),
			FilterStateObjectsToLog: []string{filterProc},
		},
		AdditionalRequestHeadersToLog: []string{requestIDHeader},
	}
	return []*accesslogv3.AccessLog{{
		Name:       "envoy.access_loggers.http_grpc",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(cfg)},
	}}
}

// downstreamTLS takes certificate and client roots over SDS, so that they
// rotate without a change of the listener.
func downstreamTLS(name string, t *config.TLS) *corev3.TransportSocket {
	common := &tlsv3.CommonTlsContext{
		TlsParams:                      tlsParams(),
		AlpnProtocols:                  []string{"h2", "http/1.1"},
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: name + secretCertificate, SdsConfig: adsSource()}},
	}
	ctx := &tlsv3.DownstreamTlsContext{CommonTlsContext: common}
	if t.ClientCAFile != "" {
		ctx.RequireClientCertificate = boolean(true)
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{
			ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: name + secretClientCA, SdsConfig: adsSource()},
		}
	}
	return transportSocket(ctx)
}

func adsSource() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		// Never "give up": without its routes a listener must stay closed.
		InitialFetchTimeout: duration(0),
	}
}

// gateService is a gRPC service at the gate; a time-out of 0 means none here.
func gateService(timeout time.Duration) *corev3.GrpcService {
	s := &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
		EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: GateCluster, SkipEnvoyHeaders: true},
	}}
	if timeout > 0 {
		s.Timeout = duration(timeout)
	}
	return s
}

package envoyconf

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gatehouse/internal/config"
)

const (
	// systemCAs is where Envoy finds the roots that the system trusts.
	systemCAs = "/etc/ssl/certs/ca-certificates.crt"

	// upstreamConnections and upstreamRequests bound what one upstream holds.
	upstreamConnections = 1024
	upstreamRequests    = 1024

	httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
)

// cluster builds the cluster of an upstream as one route's connect time-out
// wants it. It is named by its content, because a cluster that changes in
// place acts before the routes of its revision do.
func cluster(name string, u config.Upstream, connect time.Duration) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		ConnectTimeout:  duration(connect),
		CircuitBreakers: breakers(),
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			httpOptions: pack(protocolOptions(u)),
		},
	}
	resolve(c, u)
	if u.Scheme == "https" {
		c.TransportSocket = upstreamTLS(u)
	}
	if u.Format != "" {
		exchangeCluster(c, u.Format)
	}
	c.Name = name + "~" + contentHash(c)
	c.LoadAssignment.ClusterName = c.Name
	return c
}

// resolve says how the upstream's address is found. A name is not waited for:
// a DNS server that does not answer would block every later cluster update.
func resolve(c *clusterv3.Cluster, u config.Upstream) {
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	if _, err := netip.ParseAddr(u.Host); err != nil {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
		c.DnsLookupFamily = clusterv3.Cluster_V4_PREFERRED
		c.WaitForWarmOnInit = boolean(false)
	}
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{
		Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
					Endpoint: &endpointv3.Endpoint{Address: socketAddress(u.Host, u.Port)},
				},
			}},
		}},
	}
}

// breakers bound an upstream's connections and requests; retries are off.
func breakers() *clusterv3.CircuitBreakers {
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections:     u32(upstreamConnections),
		MaxPendingRequests: u32(upstreamRequests),
		MaxRequests:        u32(upstreamRequests),
		MaxRetries:         u32(0),
	}}}
}

// protocolOptions lets TLS negotiate HTTP/2; clear text stays HTTP/1.1.
func protocolOptions(u config.Upstream) *httpv3.HttpProtocolOptions {
	if u.Scheme == "https" {
		return &httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_AutoConfig{
			AutoConfig: &httpv3.HttpProtocolOptions_AutoHttpConfig{},
		}}
	}
	return &httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
				HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
			},
		},
	}}
}

// upstreamTLS verifies the upstream's certificate for exactly the URL's host.
// There is no way to switch that off.
func upstreamTLS(u config.Upstream) *corev3.TransportSocket {
	ca, san, sni := u.CAFile, tlsv3.SubjectAltNameMatcher_DNS, u.Host
	if ca == "" {
		ca = systemCAs
	}
	if _, err := netip.ParseAddr(u.Host); err == nil {
		san, sni = tlsv3.SubjectAltNameMatcher_IP_ADDRESS, ""
	}
	validation := &tlsv3.CertificateValidationContext{
		TrustedCa: fileSource(ca),
		MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
			SanType: san,
			Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: u.Host}},
		}},
	}
	return transportSocket(&tlsv3.UpstreamTlsContext{
		Sni: sni,
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams:             tlsParams(),
			ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: validation},
		},
	})
}

func tlsParams() *tlsv3.TlsParameters {
	return &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2}
}

func transportSocket(m proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(m)},
	}
}

func fileSource(path string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
}

func socketAddress(host string, port int) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       host,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

func pipeAddress(path string, mode uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path, Mode: mode}}}
}

// contentHash names a message by its bytes: 48 bits, of which a collision
// inside one set is refused by Verify as a duplicate name.
func contentHash(m proto.Message) string {
	sum := sha256.Sum256(pack(m).Value)
	return hex.EncodeToString(sum[:6])
}

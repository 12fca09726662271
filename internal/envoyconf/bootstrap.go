package envoyconf

import (
	"path/filepath"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	heapv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gatehouse/internal/config"
)

const (
	// NodeID is the one node that a sidecar's discovery server knows.
	NodeID = "gatehouse-sidecar"

	ownerOnly = 0o600

	// gateStreams bounds the requests under way at the gate; each open
	// Exchange is one, and Envoy's default of 1024 would refuse the next.
	gateStreams     = 10000
	gateConnections = 1024
	gateConnect     = 250 * time.Millisecond
	gateBackoff     = 100 * time.Millisecond
	gateBackoffMax  = time.Second
	gateKeepalive   = 10 * time.Second
	gateKeepTimeout = 3 * time.Second

	overloadRefresh = 250 * time.Millisecond
	heapMonitor     = "envoy.resource_monitors.fixed_heap"
	connMonitor     = "envoy.resource_monitors.global_downstream_max_connections"
)

// AdminSocket is where Envoy's admin interface listens: beside the gate, in a
// folder that only Envoy's uid may enter, never on TCP next to a workload.
func AdminSocket(sc *config.Sidecar) string {
	return filepath.Join(filepath.Dir(sc.Socket), "admin.sock")
}

// Bootstrap is the small fixed part of Envoy's configuration, as YAML:
// where the sidecar is, and what bounds the process. All else comes over the gate.
func Bootstrap(sc *config.Sidecar) ([]byte, error) { return render(bootstrap(sc)) }

func bootstrap(sc *config.Sidecar) *bootstrapv3.Bootstrap {
	return &bootstrapv3.Bootstrap{
		Node:  &corev3.Node{Id: NodeID, Cluster: "gatehouse"},
		Admin: &bootstrapv3.Admin{Address: pipeAddress(AdminSocket(sc), ownerOnly)},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			AdsConfig: adsService(), CdsConfig: adsSource(), LdsConfig: adsSource(),
		},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{
			Clusters: []*clusterv3.Cluster{gateCluster(sc)},
		},
		OverloadManager: overload(sc.Limits),
	}
}

// adsService reconnects within a second; Envoy's default waits up to 30.
func adsService() *corev3.ApiConfigSource {
	service := gateService(0)
	service.GetEnvoyGrpc().SkipEnvoyHeaders = false
	service.GetEnvoyGrpc().RetryPolicy = &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
		BaseInterval: duration(gateBackoff), MaxInterval: duration(gateBackoffMax),
	}}
	return &corev3.ApiConfigSource{
		ApiType:                   corev3.ApiConfigSource_DELTA_GRPC,
		TransportApiVersion:       corev3.ApiVersion_V3,
		SetNodeOnFirstMessageOnly: true,
		GrpcServices:              []*corev3.GrpcService{service},
	}
}

func gateCluster(sc *config.Sidecar) *clusterv3.Cluster {
	http2 := &httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
				Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
					MaxConcurrentStreams: u32(gateStreams),
					ConnectionKeepalive: &corev3.KeepaliveSettings{
						Interval: duration(gateKeepalive), Timeout: duration(gateKeepTimeout),
					},
				},
			},
		},
	}}
	return &clusterv3.Cluster{
		Name:                 GateCluster,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       duration(gateConnect),
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: u32(gateConnections), MaxPendingRequests: u32(gateStreams), MaxRequests: u32(gateStreams),
		}}},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{httpOptions: pack(http2)},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: GateCluster,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
					Endpoint: &endpointv3.Endpoint{Address: pipeAddress(sc.Socket, 0)},
				},
			}}}},
		},
	}
}

// overload sheds before the kernel kills: shrink, stop keep-alive, reset the
// largest streams, refuse requests, refuse connections.
func overload(limits config.SidecarLimits) *overloadv3.OverloadManager {
	return &overloadv3.OverloadManager{
		RefreshInterval:     duration(overloadRefresh),
		BufferFactoryConfig: &overloadv3.BufferFactoryConfig{MinimumAccountToTrackPowerOfTwo: 20},
		ResourceMonitors: []*overloadv3.ResourceMonitor{
			monitor(heapMonitor, &heapv3.FixedHeapConfig{MaxHeapSizeBytes: uint64(limits.EnvoyHeap)}),
			monitor(connMonitor, &connectionsv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: int64(limits.Connections)}),
		},
		Actions: []*overloadv3.OverloadAction{
			action("envoy.overload_actions.shrink_heap", above(0.85)),
			action("envoy.overload_actions.disable_http_keepalive", above(0.90)),
			action("envoy.overload_actions.reset_high_memory_stream", between(0.90, 0.98)),
			action("envoy.overload_actions.stop_accepting_requests", above(0.95)),
			action("envoy.overload_actions.stop_accepting_connections", above(0.98)),
		},
	}
}

func monitor(name string, m proto.Message) *overloadv3.ResourceMonitor {
	return &overloadv3.ResourceMonitor{
		Name: name, ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: pack(m)},
	}
}

func action(name string, t *overloadv3.Trigger) *overloadv3.OverloadAction {
	return &overloadv3.OverloadAction{Name: name, Triggers: []*overloadv3.Trigger{t}}
}

func above(share float64) *overloadv3.Trigger {
	return &overloadv3.Trigger{Name: heapMonitor, TriggerOneof: &overloadv3.Trigger_Threshold{
		Threshold: &overloadv3.ThresholdTrigger{Value: share},
	}}
}

func between(from, to float64) *overloadv3.Trigger {
	return &overloadv3.Trigger{Name: heapMonitor, TriggerOneof: &overloadv3.Trigger_Scaled{
		Scaled: &overloadv3.ScaledTrigger{ScalingThreshold: from, SaturationThreshold: to},
	}}
}

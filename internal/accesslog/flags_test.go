package accesslog

import (
	"testing"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// shortNames are Envoy's, by the fields of ResponseFlags.
func shortNames() map[protoreflect.Name]string {
	return map[protoreflect.Name]string{
		"failed_local_healthcheck": "LH", "no_healthy_upstream": "UH", "upstream_request_timeout": "UT", "local_reset": "LR",
		"upstream_remote_reset": "UR", "upstream_connection_failure": "UF", "upstream_connection_termination": "UC",
		"upstream_overflow": "UO", "no_route_found": "NR", "delay_injected": "DI", "fault_injected": "FI", "rate_limited": "RL",
		"unauthorized_details": "UAEX", "rate_limit_service_error": "RLSE", "downstream_connection_termination": "DC",
		"upstream_retry_limit_exceeded": "URX", "stream_idle_timeout": "SI", "invalid_envoy_request_headers": "IH",
		"downstream_protocol_error": "DPE", "upstream_max_stream_duration_reached": "UMSDR", "response_from_cache_filter": "RFCF",
		"no_filter_config_found": "NFCF", "duration_timeout": "DT", "upstream_protocol_error": "UPE", "no_cluster_found": "NC",
		"overload_manager": "OM", "dns_resolution_failure": "DF", "downstream_remote_reset": "DR",
	}
}

// TestEveryFlagHasItsName walks the message type, so that a flag added by a
// later Envoy API fails here instead of being lost.
func TestEveryFlagHasItsName(t *testing.T) {
	t.Parallel()
	fields := (&datav3.ResponseFlags{}).ProtoReflect().Descriptor().Fields()
	want := shortNames()
	for i := range fields.Len() {
		e, fd := plain(), fields.Get(i)
		set := e.CommonProperties.ResponseFlags.ProtoReflect()
		if fd.Kind() == protoreflect.MessageKind {
			set.Set(fd, set.NewField(fd))
		} else {
			set.Set(fd, protoreflect.ValueOfBool(true))
		}
		if o, _ := read(t, e); o.ResponseFlags != want[fd.Name()] || o.ResponseFlags == "" {
			t.Errorf("%s has the name %q, want %q", fd.Name(), o.ResponseFlags, want[fd.Name()])
		}
	}
	if fields.Len() != len(want) || len(want) != len(flagNames)-1 {
		t.Errorf("%d flags, %d names, want %d", fields.Len(), len(flagNames)-1, len(want))
	}
}

package envoyconf

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	procv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"gatehouse/internal/config"
)

const (
	// ExchangeBuffer is what Envoy buffers of a request with an Exchange: the
	// largest body, and what the Exchange may add to it. Over it, Envoy would
	// answer 413 after the hold was made. Bytes.
	ExchangeBuffer = MaxBody + 1<<20

	// streamGrace is how much longer than a route's max_stream Envoy waits: the
	// Exchange is to end a stream first, with a last event and a settlement.
	streamGrace = 5 * time.Second
)

// exchanged makes an LLM route of a plain one: bodies of its own size, no limit
// of the whole answer but that of the stream, and all of it through the Exchange.
func exchanged(r *config.Route, format string, out *routev3.Route) {
	out.Metadata = formatMetadata(format) // by which Envoy's own replies have the format's form
	action := out.GetRoute()
	action.Timeout = duration(0)
	action.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: duration(r.MaxStream + streamGrace)}
	out.RequestBodyBufferLimit = wrapperspb.UInt64(ExchangeBuffer)
	out.TypedPerFilterConfig[filterProc] = pack(exchangeOn())
	out.TypedPerFilterConfig[filterBodyPlain] = pack(plainLimitOff())
}

// exchangeOn switches the Exchange on. One static mode serves JSON and event
// streams: an answer's header reply may wait until its body is judged.
func exchangeOn() *procv3.ExtProcPerRoute {
	return &procv3.ExtProcPerRoute{Override: &procv3.ExtProcPerRoute_Overrides{Overrides: &procv3.ExtProcOverrides{
		ProcessingMode: &procv3.ProcessingMode{
			RequestHeaderMode:   procv3.ProcessingMode_SEND,
			RequestBodyMode:     procv3.ProcessingMode_BUFFERED,
			RequestTrailerMode:  procv3.ProcessingMode_SKIP,
			ResponseHeaderMode:  procv3.ProcessingMode_SEND,
			ResponseBodyMode:    procv3.ProcessingMode_FULL_DUPLEX_STREAMED,
			ResponseTrailerMode: procv3.ProcessingMode_SEND,
		},
	}}}
}

func plainLimitOff() *routev3.FilterConfig { return &routev3.FilterConfig{Disabled: true} }

// exchangeCluster marks the cluster of an upstream that only LLM routes may lead
// to, so that Verify can hold each route against it.
func exchangeCluster(c *clusterv3.Cluster, format string) {
	c.Metadata = formatMetadata(format)
}

func formatMetadata(format string) *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		MetadataNamespace: {Fields: map[string]*structpb.Value{keyFormat: structpb.NewStringValue(format)}},
	}}
}

// exchange demands an Exchange, in its one mode, on every route to an upstream
// with a format, and refuses all that is similar elsewhere.
func (v *verifier) exchange(where string, r *routev3.Route) {
	per := r.GetTypedPerFilterConfig()
	format := v.res.Clusters[r.GetRoute().GetCluster()].GetMetadata().GetFilterMetadata()[MetadataNamespace].GetFields()[keyFormat]
	if format == nil {
		v.plain(where, per)
		return
	}
	if !same(per[filterProc], exchangeOn()) {
		v.fault("%s: leads to a language model, but its configuration of %s is not the one that an Exchange needs", where, filterProc)
	}
	if !same(per[filterBodyPlain], plainLimitOff()) {
		v.fault("%s: %s would refuse bodies that the Exchange is to judge", where, filterBodyPlain)
	}
	if got := r.GetRequestBodyBufferLimit().GetValue(); got < ExchangeBuffer {
		v.fault("%s: buffers %d bytes of a body, less than %d: it would refuse some after the hold", where, got, ExchangeBuffer)
	}
	if action := r.GetRoute(); action.GetTimeout() == nil || action.GetTimeout().AsDuration() != 0 || action.GetMaxStreamDuration() == nil {
		v.fault("%s: must not limit the whole answer, but the stream", where)
	}
}

// plain refuses what only LLM routes have. A table and its hosts have none of
// it either: it would hold for all their routes.
func (v *verifier) plain(where string, per map[string]*anypb.Any) {
	for _, filter := range []string{filterProc, filterBodyPlain} {
		if per[filter] != nil {
			v.fault("%s: has a configuration of %s without leading to a language model", where, filter)
		}
	}
}

// same compares whole messages: a further member could undo the rest.
func same(packed *anypb.Any, want proto.Message) bool {
	got := want.ProtoReflect().New().Interface()
	return packed != nil && packed.UnmarshalTo(got) == nil && proto.Equal(got, want)
}

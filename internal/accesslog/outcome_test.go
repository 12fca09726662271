package accesslog

import (
	"math"
	"strings"
	"testing"
	"time"
	"unsafe"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"gatehouse/internal/rawgrpc"
	"gatehouse/internal/telemetry"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// plain is a request that went well.
func plain() *datav3.HTTPAccessLogEntry {
	return &datav3.HTTPAccessLogEntry{
		CommonProperties: &datav3.AccessLogCommon{
			StartTime:               timestamppb.New(start),
			Duration:                durationpb.New(5 * time.Millisecond),
			RouteName:               "envoys-name",
			UpstreamWireBytesSent:   380,
			DownstreamWireBytesSent: 120,
			ResponseFlags:           &datav3.ResponseFlags{},
			AccessLogType:           datav3.AccessLogType_DownstreamEnd,
			Metadata: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
				"envoy.filters.http.ext_authz": {Fields: map[string]*structpb.Value{
					"decision_id": structpb.NewStringValue("d-1"),
					"route":       structpb.NewStringValue("tasks"),
					"revision":    structpb.NewStringValue("abc"),
				}},
			}},
		},
		Request:  &datav3.HTTPRequestProperties{RequestId: "r-1", Path: "/tasks?key=secret", RequestHeaders: map[string]string{"authorization": "secret"}},
		Response: &datav3.HTTPResponseProperties{ResponseCode: wrapperspb.UInt32(200), ResponseCodeDetails: "via_upstream"},
	}
}

// good is the outcome of plain.
func good() telemetry.Outcome {
	return telemetry.Outcome{
		Time: start, DecisionID: "d-1", RequestID: "r-1", Revision: "abc", Route: "tasks", Status: 200,
		CodeDetailsClass: "via_upstream", UpstreamReached: true, UpstreamBytesSent: 380, Bytes: 120, Duration: 5 * time.Millisecond,
	}
}

// wire is a message in wire form.
func wire(t testing.TB, m proto.Message) rawgrpc.Message {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatalf("marshal: %v", err)
	}
	return b
}

// read is what becomes of e.
func read(t testing.TB, e *datav3.HTTPAccessLogEntry) (telemetry.Outcome, kind) {
	t.Helper()
	o, k, err := readOutcome(wire(t, e).Text())
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return o, k
}

func TestOutcome(t *testing.T) {
	t.Parallel()
	type (
		in  = *datav3.HTTPAccessLogEntry
		out = *telemetry.Outcome
	)
	for _, tc := range []struct {
		name string
		edit func(in)
		want func(out)
	}{
		{"plain", func(in) {}, func(out) {}},
		{"no metadata", func(e in) { e.CommonProperties.Metadata = nil },
			func(o out) { o.DecisionID, o.Revision, o.Route = "", "", "envoys-name" }},
		{"metadata of other types", func(e in) {
			f := e.CommonProperties.Metadata.FilterMetadata["envoy.filters.http.ext_authz"].Fields
			f["decision_id"], f["route"], f["revision"] = structpb.NewNumberValue(1), structpb.NewNullValue(), nil
		}, func(o out) { o.DecisionID, o.Revision, o.Route = "", "", "envoys-name" }},
		{"metadata without a struct", func(e in) {
			e.CommonProperties.Metadata.FilterMetadata["envoy.filters.http.ext_authz"] = nil
		}, func(o out) { o.DecisionID, o.Revision, o.Route = "", "", "envoys-name" }},
		{"connect refused", func(e in) {
			e.CommonProperties.UpstreamWireBytesSent = 0
			e.CommonProperties.UpstreamRequestAttemptCount = 1
			e.CommonProperties.ResponseFlags.UpstreamConnectionFailure = true
			e.Response.ResponseCode = wrapperspb.UInt32(503)
			e.Response.ResponseCodeDetails = "upstream_reset_before_response_started{remote_connection_failure|secret}"
		}, func(o out) {
			o.UpstreamReached, o.UpstreamBytesSent, o.ResponseFlags, o.Status = false, 0, "UF", 503
			o.CodeDetailsClass = "upstream_reset_before_response_started"
		}},
		{"client gone", func(e in) {
			e.CommonProperties.ResponseFlags.DownstreamConnectionTermination = true
			e.Response.ResponseCode = nil
			e.Response.ResponseCodeDetails = "downstream_remote_disconnect"
		}, func(o out) { o.Status, o.ResponseFlags, o.CodeDetailsClass = 0, "DC", "downstream_remote_disconnect" }},
		{"denied by Check", func(e in) {
			e.CommonProperties.UpstreamWireBytesSent = 0
			e.CommonProperties.ResponseFlags.UnauthorizedDetails = &datav3.ResponseFlags_Unauthorized{
				Reason: datav3.ResponseFlags_Unauthorized_EXTERNAL_SERVICE}
			e.Response.ResponseCode = wrapperspb.UInt32(403)
			e.Response.ResponseCodeDetails = "ext_authz_denied"
		}, func(o out) {
			o.UpstreamReached, o.UpstreamBytesSent, o.ResponseFlags, o.Status = false, 0, "UAEX", 403
			o.CodeDetailsClass = "ext_authz_denied"
		}},
		{"retries used up", func(e in) {
			e.CommonProperties.ResponseFlags.UpstreamRetryLimitExceeded = true
			e.CommonProperties.ResponseFlags.UpstreamConnectionTermination = true
		}, func(o out) { o.ResponseFlags = "UC,URX" }},
		{"not routed, but named by Check", func(e in) { e.CommonProperties.ResponseFlags.NoRouteFound = true },
			func(o out) { o.ResponseFlags = "NR" }},
		{"no request", func(e in) { e.Request = nil }, func(o out) { o.RequestID = "" }},
		{"no response", func(e in) { e.Response = nil }, func(o out) { o.Status, o.CodeDetailsClass = 0, "" }},
		{"status beyond reason", func(e in) { e.Response.ResponseCode = wrapperspb.UInt32(math.MaxUint32) },
			func(o out) { o.Status = math.MaxInt32 }},
		{"no start", func(e in) { e.CommonProperties.StartTime = nil }, func(o out) { o.Time = time.Time{} }},
		{"start out of range", func(e in) { e.CommonProperties.StartTime.Seconds = math.MaxInt64 },
			func(o out) { o.Time = time.Time{} }},
		{"no duration", func(e in) {
			e.CommonProperties.Duration = nil
			e.CommonProperties.TimeToLastDownstreamTxByte = durationpb.New(time.Second)
		}, func(o out) { o.Duration = time.Second }},
		{"duration out of range", func(e in) { e.CommonProperties.Duration.Seconds = math.MaxInt64 },
			func(o out) { o.Duration = 0 }},
		{"negative duration", func(e in) { e.CommonProperties.Duration = durationpb.New(-1) },
			func(o out) { o.Duration = 0 }},
		{"type unset", func(e in) { e.CommonProperties.AccessLogType = datav3.AccessLogType_NotSet }, func(out) {}},
	} {
		e, want := plain(), good()
		tc.edit(e)
		tc.want(&want)
		got, k := read(t, e)
		if k != finished {
			t.Errorf("%s: kind %d, want finished", tc.name, k)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, d)
		}
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	type in = *datav3.HTTPAccessLogEntry
	for _, tc := range []struct {
		name string
		edit func(in)
		want kind
	}{
		{"no common properties", func(e in) { e.CommonProperties = nil }, malformed},
		{"start", func(e in) { e.CommonProperties.AccessLogType = datav3.AccessLogType_DownstreamStart }, ignored},
		{"periodic", func(e in) { e.CommonProperties.AccessLogType = datav3.AccessLogType_DownstreamPeriodic }, ignored},
		{"one attempt", func(e in) { e.CommonProperties.AccessLogType = datav3.AccessLogType_UpstreamEnd }, ignored},
		{"unknown type", func(e in) { e.CommonProperties.AccessLogType = 99 }, ignored},
		{"intermediate", func(e in) {
			//lint:ignore SA1019 Envoy still sets it beside the type
			e.CommonProperties.IntermediateLogEntry = true
		}, ignored},
		{"no route", func(e in) {
			e.CommonProperties.Metadata, e.CommonProperties.RouteName = nil, ""
			e.CommonProperties.ResponseFlags.NoRouteFound = true
		}, unrouted},
		{"no route, refused by the guard", func(e in) {
			e.CommonProperties.Metadata, e.CommonProperties.RouteName = nil, ""
			e.Response.ResponseCodeDetails = "rbac_access_denied_matched_policy[none]"
		}, unrouted},
		{"refused before routing", func(e in) { e.CommonProperties.Metadata, e.CommonProperties.RouteName = nil, "" }, finished},
		{"only common properties", func(e in) {
			proto.Reset(e)
			e.CommonProperties = &datav3.AccessLogCommon{}
		}, finished},
	} {
		e := plain()
		tc.edit(e)
		if _, got := read(t, e); got != tc.want {
			t.Errorf("%s: kind %d, want %d", tc.name, got, tc.want)
		}
	}
	if _, got := read(t, nil); got != malformed {
		t.Errorf("nil: kind %d, want malformed", got)
	}
}

func TestDetailsClass(t *testing.T) {
	t.Parallel()
	for details, want := range map[string]string{
		"":             "",
		"via_upstream": "via_upstream",
		"upstream_reset_before_response_started{connection_termination}": "upstream_reset_before_response_started",
		"rbac_access_denied_matched_policy[none]":                        "rbac_access_denied_matched_policy",
		"http2.remote_reset":              "http2.remote_reset",
		"ext_proc_error_gRPC_error_14{x}": "ext_proc_error_gRPC_error_14",
		"{all free text}":                 "",
		"späte":                           "sp",
		strings.Repeat("a", 200):          strings.Repeat("a", maxClass),
	} {
		if got := detailsClass(details); got != want {
			t.Errorf("%q: %q, want %q", details, got, want)
		}
	}
}

// TestOutcomeKeepsNoMessage: what waits in a queue is a copy, and no longer
// than the strings that it holds.
func TestOutcomeKeepsNoMessage(t *testing.T) {
	t.Parallel()
	message := wire(t, plain()).Text()
	o, _, err := readOutcome(message)
	if err != nil {
		t.Fatal(err)
	}
	first := uintptr(unsafe.Pointer(unsafe.StringData(message.String())))
	for _, kept := range []string{o.DecisionID, o.RequestID, o.Revision, o.Route, o.CodeDetailsClass} {
		at := uintptr(unsafe.Pointer(unsafe.StringData(kept)))
		if at >= first && at < first+uintptr(len(message.String())) {
			t.Errorf("%q is a part of the message", kept)
		}
	}
}

func BenchmarkOutcome(b *testing.B) {
	e := plain()
	e.CommonProperties.ResponseFlags.UpstreamConnectionFailure = true
	message := wire(b, e)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := readOutcome(message.Text()); err != nil {
			b.Fatal(err)
		}
	}
}

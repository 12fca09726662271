package accesslog

import (
	"math"
	"strings"
	"testing"
	"time"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"gatehouse/internal/rawgrpc"
	"gatehouse/internal/telemetry"
)

// generated is the same reading through the generated messages.
func generated(e *datav3.HTTPAccessLogEntry) (telemetry.Outcome, kind) {
	c, resp := e.GetCommonProperties(), e.GetResponse()
	said := c.GetMetadata().GetFilterMetadata()[checkNamespace].GetFields()
	o := telemetry.Outcome{
		DecisionID:        said["decision_id"].GetStringValue(),
		RequestID:         e.GetRequest().GetRequestId(),
		Revision:          said["revision"].GetStringValue(),
		Route:             said["route"].GetStringValue(),
		Status:            int(min(resp.GetResponseCode().GetValue(), math.MaxInt32)),
		ResponseFlags:     generatedFlags(c.GetResponseFlags()),
		CodeDetailsClass:  detailsClass(resp.GetResponseCodeDetails()),
		UpstreamReached:   c.GetUpstreamWireBytesSent() > 0,
		UpstreamBytesSent: c.GetUpstreamWireBytesSent(),
		Bytes:             c.GetDownstreamWireBytesSent(),
		Duration:          generatedDuration(c),
	}
	if c.GetStartTime().IsValid() {
		o.Time = c.GetStartTime().AsTime()
	}
	if o.Route == "" {
		o.Route = c.GetRouteName()
	}
	if k := generatedKind(c, o); k != finished {
		return telemetry.Outcome{}, k
	}
	return o, finished
}

func generatedKind(c *datav3.AccessLogCommon, o telemetry.Outcome) kind {
	last := c.GetAccessLogType() == datav3.AccessLogType_NotSet || c.GetAccessLogType() == datav3.AccessLogType_DownstreamEnd
	switch {
	case c == nil:
		return malformed
	//lint:ignore SA1019 Envoy still sets it beside the type
	case !last || c.GetIntermediateLogEntry():
		return ignored
	case o.Route == "" && (c.GetResponseFlags().GetNoRouteFound() || strings.HasPrefix(o.CodeDetailsClass, guardDenied)):
		return unrouted
	}
	return finished
}

func generatedDuration(c *datav3.AccessLogCommon) time.Duration {
	for _, d := range []*durationpb.Duration{c.GetDuration(), c.GetTimeToLastDownstreamTxByte()} {
		if d.IsValid() {
			return max(d.AsDuration(), 0)
		}
	}
	return 0
}

func generatedFlags(f *datav3.ResponseFlags) string {
	var set []string
	m := f.ProtoReflect()
	for number := range len(flagNames) {
		if fd := m.Descriptor().Fields().ByNumber(protowire.Number(number)); fd != nil && m.Has(fd) {
			set = append(set, shortNames()[fd.Name()])
		}
	}
	return strings.Join(set, ",")
}

// compare fails where b is read otherwise than protobuf reads it. What
// protobuf refuses may be refused or not: it also refuses text that is not
// UTF-8, and faults in fields that are skipped here.
func compare(t *testing.T, b []byte) {
	t.Helper()
	m := &datav3.HTTPAccessLogEntry{}
	if proto.Unmarshal(b, m) != nil {
		return
	}
	want, wantKind := generated(m)
	got, gotKind, err := readOutcome(rawgrpc.Message(b).Text())
	if err != nil || gotKind != wantKind {
		t.Fatalf("%x: kind %d, error %v, want %d, none", b, gotKind, err, wantKind)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%x: read otherwise than protobuf does (-want +got):\n%s", b, d)
	}
}

// twice are two entries one after the other, which protobuf merges into one.
func twice(t testing.TB) []byte {
	second := plain()
	second.CommonProperties.AccessLogType = datav3.AccessLogType_NotSet
	second.CommonProperties.ResponseFlags = &datav3.ResponseFlags{LocalReset: true, UnauthorizedDetails: &datav3.ResponseFlags_Unauthorized{}}
	second.CommonProperties.Metadata.FilterMetadata[checkNamespace] = &structpb.Struct{Fields: map[string]*structpb.Value{
		"revision": structpb.NewBoolValue(true), "decision_id": structpb.NewStringValue("d-2"),
	}}
	second.CommonProperties.Duration = &durationpb.Duration{Nanos: 7}
	second.Response.ResponseCode.Value = 0
	return append(wire(t, plain()), wire(t, second)...)
}

// backwards is an entry whose map of metadata has values before keys, and two
// kinds of value in one.
func backwards() []byte {
	field := func(number protowire.Number, content ...[]byte) []byte {
		var all []byte
		for _, c := range content {
			all = append(all, c...)
		}
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), all)
	}
	text := func(number protowire.Number, s string) []byte { return field(number, []byte(s)) }
	number := protowire.AppendFixed64(protowire.AppendTag(nil, 2, protowire.Fixed64Type), 1)
	fields := field(2,
		field(1, field(2, text(3, "d-3")), text(1, "decision_id")),
		field(1, field(2, text(3, "r"), number), text(1, "route")),
		field(1, field(2, number, text(3, "abc")), text(1, "revision")),
	)
	return field(1, field(17, field(1, fields, text(1, checkNamespace))))
}

func TestReadAsProtobufDoes(t *testing.T) {
	t.Parallel()
	o, k, err := readOutcome(rawgrpc.Message(backwards()).Text())
	if want := (telemetry.Outcome{DecisionID: "d-3", Revision: "abc"}); err != nil || k != finished || o != want {
		t.Errorf("values before keys: %+v, %d, %v, want %+v, finished, none", o, k, err, want)
	}
	for _, b := range [][]byte{wire(t, plain()), twice(t), backwards()} {
		for n := range len(b) + 1 {
			compare(t, b[:n])
		}
	}
}

// TestTornEntryIsNone cuts an entry at each byte: but for cuts between its
// fields it is an error.
func TestTornEntryIsNone(t *testing.T) {
	t.Parallel()
	b := wire(t, plain())
	whole := map[int]bool{0: true}
	for at := 0; at < len(b); {
		at += fieldSize(t, b[at:])
		whole[at] = true
	}
	for n := range b {
		if _, _, err := readOutcome(b[:n].Text()); (err == nil) != whole[n] {
			t.Errorf("cut at %d of %d: error %v", n, len(b), err)
		}
	}
}

// TestTextNeedNotBeUTF8: an entry is not lost for what a client sent.
func TestTextNeedNotBeUTF8(t *testing.T) {
	t.Parallel()
	e, want := plain(), good()
	b := wire(t, e)
	e.Request.RequestId, want.RequestID = "r-2", "\xff-2"
	b = append(b, []byte(strings.Replace(string(wire(t, &datav3.HTTPAccessLogEntry{Request: e.Request})), "r-2", want.RequestID, 1))...)
	got, k, err := readOutcome(b.Text())
	if d := cmp.Diff(want, got); d != "" || k != finished || err != nil {
		t.Errorf("kind %d, error %v (-want +got):\n%s", k, err, d)
	}
}

func fieldSize(t *testing.T, b []byte) int {
	t.Helper()
	_, _, n := protowire.ConsumeField(b)
	if n < 0 {
		t.Fatalf("%x: %v", b, protowire.ParseError(n))
	}
	return n
}

// FuzzEntry: whatever protobuf reads as an entry is read alike.
func FuzzEntry(f *testing.F) {
	f.Add([]byte(wire(f, plain())))
	f.Add(twice(f))
	f.Add(backwards())
	f.Add([]byte{0x08, 0x01}) // an integer where a message stands
	f.Fuzz(compare)
}

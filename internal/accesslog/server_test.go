package accesslog

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"gatehouse/internal/rawgrpc"
	"gatehouse/internal/telemetry"
)

// heard is a sink that keeps what it hears.
type heard struct {
	mu       sync.Mutex
	outcomes []telemetry.Outcome
}

func (h *heard) Outcome(o telemetry.Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.outcomes = append(h.outcomes, o)
}

func (h *heard) all() []telemetry.Outcome {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.outcomes
}

func message(entries ...*datav3.HTTPAccessLogEntry) *alsv3.StreamAccessLogsMessage {
	return &alsv3.StreamAccessLogsMessage{LogEntries: &alsv3.StreamAccessLogsMessage_HttpLogs{
		HttpLogs: &alsv3.StreamAccessLogsMessage_HTTPAccessLogEntries{LogEntry: entries},
	}}
}

// serve runs s on a real gRPC server and returns a client of it.
func serve(t *testing.T, s *Server) alsv3.AccessLogServiceClient {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawgrpc.Codec()), grpc.MaxRecvMsgSize(64<<10))
	s.Register(server)
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(listener) })
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatalf("client: %v", err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		done.Wait()
	})
	return alsv3.NewAccessLogServiceClient(conn)
}

func send(t *testing.T, c alsv3.AccessLogServiceClient, messages ...*alsv3.StreamAccessLogsMessage) error {
	t.Helper()
	stream, err := c.StreamAccessLogs(t.Context())
	if err != nil {
		t.Fatalf("stream: %v", err)
	}
	for _, m := range messages {
		if err := stream.Send(m); err != nil {
			break // the stream has ended; CloseAndRecv says why
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

// counted reads a counter of m by name and label values.
func counted(t *testing.T, m *telemetry.Metrics, name string, values ...string) float64 {
	t.Helper()
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatalf("gather: %v", err)
	}
	var sum float64
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, s := range f.GetMetric() {
			var got []string
			for _, l := range s.GetLabel() {
				got = append(got, l.GetValue())
			}
			if fmt.Sprint(got) == fmt.Sprint(values) {
				sum += s.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func TestStream(t *testing.T) {
	t.Parallel()
	m, sink := telemetry.NewMetrics("v1"), &heard{}
	c := serve(t, New(m, sink))
	ended, missed, begun, lost := plain(), plain(), plain(), plain()
	missed.CommonProperties.UpstreamWireBytesSent = 0
	missed.CommonProperties.ResponseFlags.UpstreamConnectionFailure = true
	missed.Response.ResponseCode.Value = 503
	begun.CommonProperties.AccessLogType = datav3.AccessLogType_DownstreamStart
	lost.CommonProperties.Metadata, lost.CommonProperties.RouteName = nil, ""
	lost.CommonProperties.ResponseFlags.NoRouteFound = true
	tcp := &alsv3.StreamAccessLogsMessage{LogEntries: &alsv3.StreamAccessLogsMessage_TcpLogs{
		TcpLogs: &alsv3.StreamAccessLogsMessage_TCPAccessLogEntries{LogEntry: []*datav3.TCPAccessLogEntry{{}}},
	}}
	err := send(t, c, &alsv3.StreamAccessLogsMessage{}, message(ended, begun, &datav3.HTTPAccessLogEntry{}), tcp, message(lost, missed))
	if err != nil {
		t.Fatalf("stream: %v", err)
	}
	refused := good()
	refused.UpstreamReached, refused.UpstreamBytesSent, refused.ResponseFlags, refused.Status = false, 0, "UF", 503
	if d := cmp.Diff([]telemetry.Outcome{good(), refused}, sink.all()); d != "" {
		t.Errorf("outcomes (-want +got):\n%s", d)
	}
	for _, tc := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"gatehouse_access_log_entries_total", []string{"ok"}, 3},
		{"gatehouse_access_log_entries_total", []string{"malformed"}, 1},
		{"gatehouse_access_log_entries_total", []string{"ignored"}, 2},
		{"gatehouse_unrouted_total", nil, 1},
		{"gatehouse_requests_total", []string{"2xx", "", "tasks"}, 1},
		{"gatehouse_requests_total", []string{"5xx", "UF", "tasks"}, 1},
		{"gatehouse_upstream_reached_total", []string{"tasks"}, 1},
	} {
		if got := counted(t, m, tc.name, tc.labels...); got != tc.want {
			t.Errorf("%s%v is %v, want %v", tc.name, tc.labels, got, tc.want)
		}
	}
}

func TestMissingStartIsTheTimeOfArrival(t *testing.T) {
	t.Parallel()
	sink := &heard{}
	e := plain()
	e.CommonProperties.StartTime = nil
	now := start.Add(time.Hour)
	if err := New(telemetry.NewMetrics("v1"), sink).message(wire(t, message(e)), now); err != nil {
		t.Fatal(err)
	}
	if got := sink.all()[0].Time; !got.Equal(now) {
		t.Errorf("time %v, want %v", got, now)
	}
}

// TestStreamDoesNotWaitForTheDisk: the sink's writer is not running, its queue
// overflows, and the stream goes on.
func TestStreamDoesNotWaitForTheDisk(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics("v1")
	c := serve(t, New(m, telemetry.NewRecords(filepath.Join(t.TempDir(), "d"), m)))
	batch := message()
	for range 100 {
		batch.GetHttpLogs().LogEntry = append(batch.GetHttpLogs().LogEntry, plain())
	}
	var messages []*alsv3.StreamAccessLogsMessage
	for range 50 {
		messages = append(messages, batch)
	}
	if err := send(t, c, messages...); err != nil {
		t.Fatalf("stream: %v", err)
	}
	if n := counted(t, m, "gatehouse_access_log_entries_total", "ok"); n != 5000 {
		t.Errorf("%v entries, want 5000", n)
	}
	if n := counted(t, m, "gatehouse_decision_records_total", "dropped"); n != 5000-4096 {
		t.Errorf("%v dropped, want %d", n, 5000-4096)
	}
}

func TestTooLargeMessageEndsOnlyItsStream(t *testing.T) {
	t.Parallel()
	sink := &heard{}
	c := serve(t, New(telemetry.NewMetrics("v1"), sink))
	large := plain()
	large.Request.Path = strings.Repeat("a", 100<<10)
	if err := send(t, c, message(plain()), message(large)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("stream ended with %v, want resource exhausted", err)
	}
	if err := send(t, c, message(plain())); err != nil {
		t.Errorf("the next stream: %v", err)
	}
	if n := len(sink.all()); n != 2 {
		t.Errorf("%d outcomes, want 2", n)
	}
}

func TestBrokenStreamReturnsItsError(t *testing.T) {
	t.Parallel()
	server := New(telemetry.NewMetrics("v1"), &heard{})
	broken := status.Error(codes.Canceled, "gone")
	if err := server.StreamAccessLogs(brokenStream{err: broken}); status.Code(err) != codes.Canceled {
		t.Errorf("error %v, want canceled", err)
	}
}

// brokenStream is a stream on which the connection was lost.
type brokenStream struct {
	grpc.ServerStream
	err error
}

func (b brokenStream) RecvMsg(any) error { return b.err }

// TestUnreadableMessageEndsOnlyItsStream: what came before it is taken in.
func TestUnreadableMessageEndsOnlyItsStream(t *testing.T) {
	t.Parallel()
	m, sink := telemetry.NewMetrics("v1"), &heard{}
	c := serve(t, New(m, sink))
	torn := append(wire(t, message(plain())), 0x12, 0x05, 0x0a, 0x03, 0x0a, 0x7f, 0x00) // an entry that is cut
	stream, err := c.StreamAccessLogs(t.Context(), grpc.ForceCodecV2(rawgrpc.Codec()))
	if err != nil {
		t.Fatalf("stream: %v", err)
	}
	if err := stream.SendMsg(&torn); err != nil {
		t.Fatalf("send: %v", err)
	}
	if _, err := stream.CloseAndRecv(); status.Code(err) != codes.Internal {
		t.Errorf("stream ended with %v, want internal", err)
	}
	if err := send(t, c, message(plain())); err != nil {
		t.Errorf("the next stream: %v", err)
	}
	if d := cmp.Diff([]telemetry.Outcome{good(), good()}, sink.all()); d != "" {
		t.Errorf("outcomes (-want +got):\n%s", d)
	}
	if n := counted(t, m, "gatehouse_access_log_entries_total", "malformed"); n != 1 {
		t.Errorf("%v malformed, want 1", n)
	}
}

// mixed reports whether a message has both kinds of entries, of which protobuf
// keeps the last only. Envoy sends one.
func mixed(m rawgrpc.Message) bool {
	var http, tcp bool
	_ = m.Text().Each(func(f rawgrpc.Field) error {
		http, tcp = http || f.Number == 2, tcp || f.Number == 3
		return nil
	})
	return http && tcp
}

// FuzzMessage: of whatever Envoy sends each entry is counted once, and no
// outcome carries text that could hold a header, a path or free details.
func FuzzMessage(f *testing.F) {
	for _, m := range []*alsv3.StreamAccessLogsMessage{{}, message(plain()), message(&datav3.HTTPAccessLogEntry{}, plain()), {
		LogEntries: &alsv3.StreamAccessLogsMessage_TcpLogs{TcpLogs: &alsv3.StreamAccessLogsMessage_TCPAccessLogEntries{
			LogEntry: []*datav3.TCPAccessLogEntry{{}},
		}},
	}} {
		f.Add([]byte(wire(f, m)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		metrics, sink := telemetry.NewMetrics("v1"), &heard{}
		err := New(metrics, sink).message(data, start)
		msg := &alsv3.StreamAccessLogsMessage{}
		if readable := proto.Unmarshal(data, msg) == nil; readable && err != nil {
			t.Fatalf("protobuf reads %x, we do not: %v", data, err)
		} else if readable {
			want := float64(len(msg.GetHttpLogs().GetLogEntry()) + len(msg.GetTcpLogs().GetLogEntry()))
			got := 0.0
			for _, result := range []string{"ok", "malformed", "ignored"} {
				got += counted(t, metrics, "gatehouse_access_log_entries_total", result)
			}
			if got < want || got > want && !mixed(data) {
				t.Errorf("%v entries counted of %v", got, want)
			}
		}
		for _, o := range sink.outcomes {
			if o.Duration < 0 || o.Status < 0 || o.Time.IsZero() || o.UpstreamReached != (o.UpstreamBytesSent > 0) {
				t.Errorf("outcome %+v is out of range", o)
			}
			if len(o.CodeDetailsClass) > maxClass || strings.ContainsAny(o.CodeDetailsClass, "{[ \n") {
				t.Errorf("class %q holds free text", o.CodeDetailsClass)
			}
		}
	})
}

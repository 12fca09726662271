// Package accesslog owns the gRPC service to which Envoy streams its access
// log (envoy.service.accesslog.v3.AccessLogService), and what an entry means:
// how a request ended and whether a byte of it reached the upstream.
//
// Entries are evidence, never a trigger: Envoy loses them silently while the
// sidecar is down. The service refuses nothing and fails on nothing that Envoy
// sends: entries that tell nothing are counted. Only a message that is no
// protobuf ends its stream. The text of strings is not checked, so they need
// not be valid UTF-8. It takes over no header, no path and no raw detail text.
// Message size is bounded by the server that hosts it.
//
// A Server is safe for concurrent use; it starts no goroutine. A stream lives
// as long as Envoy's connection, so a host that stops gracefully has to end it.
package accesslog

import (
	"errors"
	"io"
	"time"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse/internal/rawgrpc"
	"gatehouse/internal/telemetry"
)

// Sink takes outcomes. It must not block: a stream that waits makes Envoy
// buffer entries.
type Sink interface {
	Outcome(telemetry.Outcome)
}

// Server receives Envoy's access log. Make it with New and register it with
// the gRPC server on the gate socket.
type Server struct {
	metrics *telemetry.Metrics
	sink    Sink
}

// New returns a server that counts requests in metrics and hands outcomes of
// routed requests to sink.
func New(metrics *telemetry.Metrics, sink Sink) *Server {
	return &Server{metrics: metrics, sink: sink}
}

// receiver is the service as this package serves it: messages in wire form.
type receiver interface {
	StreamAccessLogs(grpc.ServerStream) error
}

// Register adds the service to a gRPC server, which must use rawgrpc.Codec.
func (s *Server) Register(g grpc.ServiceRegistrar) {
	g.RegisterService(&grpc.ServiceDesc{
		ServiceName: alsv3.AccessLogService_ServiceDesc.ServiceName,
		HandlerType: (*receiver)(nil),
		Streams:     []grpc.StreamDesc{{StreamName: "StreamAccessLogs", Handler: handle, ClientStreams: true}},
		Metadata:    alsv3.AccessLogService_ServiceDesc.Metadata,
	}, s)
}

// handle is grpc's stream handler.
func handle(srv any, stream grpc.ServerStream) error { return srv.(receiver).StreamAccessLogs(stream) }

// StreamAccessLogs reads one stream of entries to its end. Its error is that
// of the stream, or Internal where a message is not well-formed, as with
// gRPC's own codec.
func (s *Server) StreamAccessLogs(stream grpc.ServerStream) error {
	for {
		var m rawgrpc.Message
		err := stream.RecvMsg(&m)
		if errors.Is(err, io.EOF) {
			return stream.SendMsg(&rawgrpc.Message{})
		}
		if err != nil {
			return err
		}
		if err := s.message(m, time.Now()); err != nil {
			s.metrics.AccessLogEntry(telemetry.ResultMalformed)
			return status.Errorf(codes.Internal, "access log: %v", err)
		}
	}
}

// message takes a StreamAccessLogsMessage in. Entries of raw TCP are none of
// ours. At an error the entries before it have been taken in.
func (s *Server) message(m rawgrpc.Message, now time.Time) error {
	return m.Text().Each(func(f rawgrpc.Field) error {
		switch f.Number {
		case 2:
			return entries(f.Text, func(t rawgrpc.Text) error { return s.entry(t, now) })
		case 3:
			return entries(f.Text, func(rawgrpc.Text) error {
				s.metrics.AccessLogEntry(telemetry.ResultIgnored)
				return nil
			})
		}
		return nil
	})
}

// entries visits the entries of HTTPAccessLogEntries or TCPAccessLogEntries.
func entries(t rawgrpc.Text, visit func(rawgrpc.Text) error) error {
	return t.Each(func(f rawgrpc.Field) error {
		if f.Number != 1 {
			return nil
		}
		return visit(f.Text)
	})
}

// entry counts one entry. A request that no route matched had no Check and
// gets no record: whoever scans for paths must not fill the disk.
func (s *Server) entry(t rawgrpc.Text, now time.Time) error {
	o, k, err := readOutcome(t)
	if err != nil {
		return err
	}
	switch k {
	case malformed:
		s.metrics.AccessLogEntry(telemetry.ResultMalformed)
	case ignored:
		s.metrics.AccessLogEntry(telemetry.ResultIgnored)
	case unrouted:
		s.metrics.AccessLogEntry(telemetry.ResultOK)
		s.metrics.Unrouted()
	case finished:
		s.metrics.AccessLogEntry(telemetry.ResultOK)
		s.finished(o, now)
	}
	return nil
}

func (s *Server) finished(o telemetry.Outcome, now time.Time) {
	if o.Time.IsZero() {
		o.Time = now
	}
	s.metrics.Request(telemetry.Request{
		Route: o.Route, Status: o.Status, Flags: o.ResponseFlags, UpstreamReached: o.UpstreamReached,
	})
	s.sink.Outcome(o)
}

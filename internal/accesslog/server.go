// Package accesslog owns the gRPC service to which Envoy streams its access
// log (envoy.service.accesslog.v3.AccessLogService), and what an entry means:
// how a request ended and whether a byte of it reached the upstream.
//
// Entries are evidence, never a trigger: Envoy loses them silently while the
// sidecar is down. The service refuses nothing and fails on nothing that Envoy
// sends: entries that tell nothing are counted. It takes over no header, no
// path and no raw detail text. Message size is bounded by the server that
// hosts it.
//
// A Server is safe for concurrent use; it starts no goroutine. A stream lives
// as long as Envoy's connection, so a host that stops gracefully has to end it.
package accesslog

import (
	"errors"
	"io"
	"time"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"

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
	alsv3.UnimplementedAccessLogServiceServer

	metrics *telemetry.Metrics
	sink    Sink
}

// New returns a server that counts requests in metrics and hands outcomes of
// routed requests to sink.
func New(metrics *telemetry.Metrics, sink Sink) *Server {
	return &Server{metrics: metrics, sink: sink}
}

// StreamAccessLogs reads one stream of entries to its end. Its error is that
// of the stream.
func (s *Server) StreamAccessLogs(stream alsv3.AccessLogService_StreamAccessLogsServer) error {
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&alsv3.StreamAccessLogsResponse{})
		}
		if err != nil {
			return err
		}
		s.message(msg, time.Now())
	}
}

// message takes one message in. Entries of raw TCP are none of ours.
func (s *Server) message(msg *alsv3.StreamAccessLogsMessage, now time.Time) {
	for range msg.GetTcpLogs().GetLogEntry() {
		s.metrics.AccessLogEntry(telemetry.ResultIgnored)
	}
	for _, e := range msg.GetHttpLogs().GetLogEntry() {
		s.entry(e, now)
	}
}

// entry counts one entry. A request that no route matched had no Check and
// gets no record: whoever scans for paths must not fill the disk.
func (s *Server) entry(e *datav3.HTTPAccessLogEntry, now time.Time) {
	o, k := outcome(e)
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

// Package telemetry owns what the sidecar tells its operator: the logger, the
// metrics (in a registry of our own, never the default one), the debug
// listener, and the decision records on disk.
//
// It refuses what would turn telling into a hazard: labels without a bound,
// principals as labels, a debug listener that others can reach, records that
// grow without limit or block a request. Records hold no header value, no
// token, no query, and of a body nothing but the name of the model.
//
// Metrics, Records and DebugServer are safe for concurrent use. Records and
// DebugServer each start one goroutine, which their Stop ends and awaits.
package telemetry

import (
	"context"
	"io"
	"log/slog"
)

// NewLogger returns a logger that writes one JSON object a line with the keys
// time (UTC), level and msg first. Records below level are dropped.
func NewLogger(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(utc{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})})
}

// utc turns a record's own time to UTC. It is a handler and not a ReplaceAttr,
// which would be asked about each attribute of each line.
type utc struct{ slog.Handler }

// Handle implements slog.Handler.
func (h utc) Handle(ctx context.Context, r slog.Record) error {
	r.Time = r.Time.UTC()
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h utc) WithAttrs(attrs []slog.Attr) slog.Handler { return utc{h.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (h utc) WithGroup(name string) slog.Handler { return utc{h.Handler.WithGroup(name)} }

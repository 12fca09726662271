// Package telemetry owns what the sidecar tells its operator: the logger, the
// metrics (in a registry of our own, never the default one), the debug
// listener, and the decision records on disk.
//
// It refuses what would turn telling into a hazard: labels without a bound,
// principals as labels, a debug listener that others can reach, records that
// grow without limit or block a request. Records hold no header value, no
// token, no body and no query.
//
// Metrics, Records and DebugServer are safe for concurrent use. Records and
// DebugServer each start one goroutine, which their Stop ends and awaits.
package telemetry

import (
	"io"
	"log/slog"
)

// NewLogger returns a logger that writes one JSON object a line with the keys
// time (UTC), level and msg first. Records below level are dropped.
func NewLogger(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: utcTime}))
}

// utcTime turns the record's own time to UTC.
func utcTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime {
		a.Value = slog.TimeValue(a.Value.Time().UTC())
	}
	return a
}

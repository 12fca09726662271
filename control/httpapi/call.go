package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"gatehouse/control/httpapi/spec"
	"gatehouse/internal/apierr"
	"gatehouse/internal/request"
)

// call is one request as it is dealt with. Only its own goroutine touches it.
type call struct {
	id      string
	start   time.Time
	head    bool       // nobody wants the body
	address netip.Addr // the peer's
	trace   trace
	out     *writer

	connection context.Context // ends with the caller's connection, not with the time of the work

	request   *http.Request     // as it was admitted
	op        *spec.Operation   // nil where none matches
	principal request.Principal // the zero value until admitted
	tenant    string            // what may be seen: a tenant, request.AnyTenant, or "" for nothing
	match     precondition
	err       *apierr.Error // what was answered instead
}

type callKey struct{}

// callOf returns the call of a context.
// INVARIANT: the outermost layer has put one there; all else lies inside.
func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// RequestID is the id of the call that a context belongs to, "" outside of one.
func RequestID(ctx context.Context) string {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c.id
	}
	return ""
}

func with(r *http.Request, c *call) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), callKey{}, c))
}

// writer remembers what was sent.
type writer struct {
	http.ResponseWriter
	status int // 0 until the header is sent
	bytes  int64
}

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// maxLogged bounds the bytes of a path in the log.
const maxLogged = 256

// log writes the request's one event. It has no header and no query, where
// tokens can stand.
func (c *call) log(log *slog.Logger, r *http.Request, took time.Duration) {
	level := slog.LevelInfo
	if c.out.status >= 500 {
		level = slog.LevelError
	}
	log.LogAttrs(r.Context(), level, "request", append(c.attrs(r),
		slog.Int("status", c.out.status),
		slog.Int64("response_bytes", c.out.bytes),
		slog.Float64("duration_ms", float64(took.Microseconds())/1000),
	)...)
}

func (c *call) attrs(r *http.Request) []slog.Attr {
	path := r.URL.Path
	attrs := make([]slog.Attr, 0, 16)
	attrs = append(attrs,
		slog.String("request_id", c.id), slog.String("method", r.Method),
		slog.String("path", path[:min(len(path), maxLogged)]), slog.String("address", c.address.String()),
	)
	if c.op != nil {
		attrs = append(attrs, slog.String("operation", c.op.ID))
	}
	if c.trace.id != "" {
		attrs = append(attrs, slog.String("trace_id", c.trace.id), slog.String("span_id", c.trace.parent))
	}
	if p := c.principal; p.Kind == request.KindToken {
		attrs = append(attrs, slog.String("subject", p.Subject), slog.String("tenant", p.Tenant), slog.String("role", string(p.Role)))
	}
	if c.err != nil {
		attrs = append(attrs, slog.String("error_code", string(c.err.Code())), slog.String("error", c.err.Error()))
	}
	return attrs
}

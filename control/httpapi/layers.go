package httpapi

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"

	"gatehouse/internal/apierr"
)

// layer wraps a handler.
type layer func(http.Handler) http.Handler

// layers are what each request goes through, outermost first. Then admit.go
// decides, and the operation's handler answers.
func (a *api) layers() []layer {
	return []layer{
		a.begin,  // first: all that follows names the request by its id
		a.record, // outside of whatever answers, so that each answer is one event, those of defects too
		a.secure, // before anything can answer: a refusal needs these headers as well
		a.rescue, // inside the event, which tells of the defect; outside of all that may have one
		a.cors,   // before the token: a preflight has none; before refusals, which pages must be able to read
		a.hurry,  // last: its time is that of the work, and what waits gets its end from the context
	}
}

func (a *api) wrap(h http.Handler) http.Handler {
	for _, l := range slices.Backward(a.layers()) {
		h = l(h)
	}
	return h
}

// begin makes the call and names it.
func (a *api) begin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{
			id: r.Header.Get("X-Request-Id"), start: a.opts.Now(), head: r.Method == http.MethodHead, address: peer(r.RemoteAddr),
			trace: readTrace(r.Header.Get("Traceparent")), out: &writer{ResponseWriter: w},
		}
		if !sane(c.id) {
			c.id = strings.ToLower(rand.Text())
		}
		w.Header().Set("X-Request-Id", c.id)
		next.ServeHTTP(c.out, with(r, c))
	})
}

// maxID bounds the id that a caller may give.
const maxID = 64

// sane reports whether a caller's id can stand in a log and a header.
func sane(id string) bool {
	return id != "" && len(id) <= maxID && !strings.ContainsFunc(id, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	})
}

// peer is the address of the other end. Without one (a unix socket) all share
// the zero address, and so its limits.
func peer(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr()
}

// record logs and counts the request when it has ended, however it ends.
func (a *api) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := callOf(r.Context())
		defer func() {
			took := a.opts.Now().Sub(c.start)
			c.log(a.opts.Log, r, took)
			if a.opts.Metrics != nil {
				a.opts.Metrics.APIRequest(c.operation(), c.out.status, took)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func (c *call) operation() string {
	if c.op == nil {
		return ""
	}
	return c.op.ID
}

// secure sets what keeps an answer from being used as something else.
func (a *api) secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		if r.TLS != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

// rescue turns a panic into internal.error. Where the answer has begun, the
// connection is cut, so that nobody takes half of it for the whole.
func (a *api) rescue(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			err := fmt.Errorf("panic: %v\n%s", v, debug.Stack())
			if c := callOf(r.Context()); c.out.status != 0 {
				c.err = apierr.From(err)
				panic(http.ErrAbortHandler)
			}
			a.fail(w, r, err)
		}()
		next.ServeHTTP(w, r)
	})
}

// Headers of a cross-origin call.
const (
	corsRequestHeaders = "authorization, content-type, if-match, last-event-id, traceparent, x-request-id"
	corsAnswerHeaders  = "etag, idempotent-replayed, link, location, ratelimit, ratelimit-policy, retry-after, x-request-id"
	corsMaxAge         = "600"
)

// cors lets pages of the configured origins call (Fetch, 3.2). Others get the
// answer without these headers, which their browser keeps from them.
func (a *api) cors(next http.Handler) http.Handler {
	if len(a.opts.CORSOrigins) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		if !slices.Contains(a.opts.CORSOrigins, origin) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Expose-Headers", corsAnswerHeaders)
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			preflight(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func preflight(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE")
	h.Set("Access-Control-Allow-Headers", corsRequestHeaders)
	h.Set("Access-Control-Max-Age", corsMaxAge)
	w.WriteHeader(http.StatusNoContent)
}

// hurry gives the work its time. What lasts longer by its nature goes by the
// connection's context, and has bounds of its own.
func (a *api) hurry(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		callOf(r.Context()).connection = r.Context()
		ctx, cancel := context.WithTimeout(r.Context(), a.opts.Timeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

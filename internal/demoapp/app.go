// Package demoapp is an upstream to try things out with: it answers every
// request with an echo of what reached it, and counts. The status is 200, or
// what the request asks for, so that it can be made to fail.
//
// It owns the echo and the counters. The counters stand in a handler of their
// own, for a listener of their own, so that no proxied request can read or
// fake them. It refuses bodies over MaxBody. An App is safe for concurrent use.
package demoapp

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

const (
	// MaxBody is the largest body that is read, in bytes; more is answered 413.
	MaxBody = 2 << 20
	// maxPaths is how many paths are counted by themselves.
	maxPaths = 1000
	// StatusHeader asks for another status than 200, 200 to 599. What is no such
	// number asks for nothing.
	StatusHeader = "x-demo-status"
	// OtherPaths counts together what came after maxPaths paths.
	OtherPaths = "(other)"
)

// Request is one request as the app received it. Header names are lower case.
type Request struct {
	Method  string              `json:"method"`
	Path    string              `json:"path"` // with the query
	Host    string              `json:"host"`
	Headers map[string][]string `json:"headers"`
	Body    string              `json:"body"` // invalid UTF-8 is replaced
}

// Header is the first value of a header, "" where there is none.
func (r Request) Header(name string) string {
	if v := r.Headers[strings.ToLower(name)]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Count is what the app received so far.
type Count struct {
	Total  int64            `json:"total"`
	ByPath map[string]int64 `json:"by_path"` // without the query
}

// App is one demo upstream. Make it with New.
type App struct {
	mu    sync.Mutex // guards all below
	count Count
	last  *Request // nil before the first
}

// New makes an app that has received nothing.
func New() *App {
	return &App{count: Count{ByPath: map[string]int64{}}}
}

// Total is how many requests reached the app, refused bodies included.
func (a *App) Total() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count.Total
}

// Handler answers any request with its echo, and the status that it asks for.
func (a *App) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
		req := received(r, body)
		a.note(r.URL.Path, req)
		switch _, tooLarge := errors.AsType[*http.MaxBytesError](err); {
		case tooLarge:
			http.Error(w, "the body is larger than 2 MiB", http.StatusRequestEntityTooLarge)
		case err != nil:
			http.Error(w, "the body can't be read", http.StatusBadRequest)
		default:
			writeJSON(w, status(req.Header(StatusHeader)), req)
		}
	})
}

// status is the status that a request asks for.
func status(asked string) int {
	if n, err := strconv.Atoi(asked); err == nil && n >= http.StatusOK && n < 600 {
		return n
	}
	return http.StatusOK
}

func received(r *http.Request, body []byte) Request {
	headers := make(map[string][]string, len(r.Header))
	for name, values := range r.Header {
		headers[strings.ToLower(name)] = values
	}
	return Request{
		Method: r.Method, Path: r.RequestURI, Host: r.Host, Headers: headers,
		Body: strings.ToValidUTF8(string(body), "\uFFFD"),
	}
}

func (a *App) note(path string, r Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.count.ByPath[path]; !known && len(a.count.ByPath) >= maxPaths {
		path = OtherPaths
	}
	a.count.Total++
	a.count.ByPath[path]++
	a.last = &r
}

// Counters answers GET /count with a Count, and GET /last with the last
// Request or 404 before the first.
func (a *App) Counters() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /count", func(w http.ResponseWriter, _ *http.Request) {
		a.mu.Lock()
		c := Count{Total: a.count.Total, ByPath: maps.Clone(a.count.ByPath)}
		a.mu.Unlock()
		writeJSON(w, http.StatusOK, c)
	})
	mux.HandleFunc("GET /last", func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		last := a.last // INVARIANT: a Request is never changed once it is noted
		a.mu.Unlock()
		if last == nil {
			http.NotFound(w, r)
			return
		}
		writeJSON(w, http.StatusOK, last)
	})
	return mux
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // a client that is gone needs no answer
}

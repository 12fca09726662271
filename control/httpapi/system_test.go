package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	apiv1 "gatehouse/api/v1"
	"gatehouse/internal/apierr"
)

func TestRoot(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	a := h.do("GET", "/", "", "")
	h.want(a, http.StatusOK, "")
	if a.text(t, "name") != "gatehouse" || a.text(t, "version") != "v1.2.3" {
		t.Errorf("root: %s", a.body)
	}
	links, _ := a.member(t, "links").(map[string]any)
	for name, link := range links {
		method := map[bool]string{true: "POST", false: "GET"}[name == "login"]
		if got := h.do(method, link.(string), "", ""); got.status == http.StatusNotFound || got.status == http.StatusMethodNotAllowed {
			t.Errorf("%s %s: %d", name, link, got.status)
		}
	}
	if len(links) != 5 {
		t.Errorf("links: %v", links)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	check := func(status, database string, ready int) {
		t.Helper()
		for _, path := range []string{"/health", "/api/v1/health"} {
			a := h.do("GET", path, "", "")
			h.want(a, http.StatusOK, "")
			if a.text(t, "status") != status || a.text(t, "database") != database {
				t.Errorf("%s: %s, want %s, %s", path, a.body, status, database)
			}
		}
		if a := h.do("GET", "/readyz", "", ""); a.status != ready {
			t.Errorf("/readyz: %d, want %d: %s", a.status, ready, a.body)
		}
	}
	check("ok", "ok", http.StatusOK)
	h.store.err = errors.New("away")
	check("ok", "ok", http.StatusOK) // kept for a moment
	h.advance(pingKept)
	check("degraded", "unavailable", http.StatusServiceUnavailable)
	h.store.err = nil
	h.advance(pingKept)
	check("ok", "ok", http.StatusOK)
}

type pings struct{ n int }

func (p *pings) Ping(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		return errors.New("no deadline")
	}
	p.n++
	return ctx.Err()
}

func TestProbesAreKept(t *testing.T) {
	t.Parallel()
	p, now := &pings{}, seeded
	h := newHealth(p, func() time.Time { return now })
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if err := h.check(gone); err != nil {
			t.Fatalf("a caller that has gone spoils the answer: %v", err)
		}
	}
	if p.n != 1 {
		t.Errorf("%d questions in no time, want 1", p.n)
	}
	now = now.Add(-time.Hour) // a clock that goes back must not keep it for an hour
	if err := h.check(t.Context()); err != nil || p.n != 2 {
		t.Errorf("after the clock went back: %v, %d questions, want 2", err, p.n)
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.advance(90 * time.Second)
	one := map[string]any{"users": 1.0, "clients": 1.0, "tenants": 1.0, "projects": 1.0, "uptime_seconds": 90.0}
	if diff := cmp.Diff(one, h.do("GET", "/api/v1/stats", "observer", "").member(t)); diff != "" {
		t.Errorf("stats of one tenant (-want +got):\n%s", diff)
	}
	all := map[string]any{"users": 2.0, "clients": 2.0, "tenants": 2.0, "projects": 2.0, "uptime_seconds": 90.0}
	if diff := cmp.Diff(all, h.do("GET", "/api/v1/stats", "admin-all", "").member(t)); diff != "" {
		t.Errorf("stats of all (-want +got):\n%s", diff)
	}
}

func TestDocument(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	a := h.do("GET", "/api/v1/openapi.json", "", "")
	h.want(a, http.StatusOK, "")
	if a.body != string(apiv1.Spec()) || !json.Valid([]byte(a.body)) || a.text(t, "openapi") != "3.1.0" {
		t.Errorf("the document is not the one that the code is made from: %.100s", a.body)
	}
}

// TestCodesAreDocumented holds the error codes of the document to the table of
// docs/API.md, and both to what is known of them.
func TestCodesAreDocumented(t *testing.T) {
	t.Parallel()
	var doc struct {
		Components struct {
			Schemas struct{ ErrorCode struct{ Enum []apierr.Code } }
		}
	}
	if err := json.Unmarshal(apiv1.Spec(), &doc); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/API.md")
	if err != nil {
		t.Fatal(err)
	}
	said := map[apierr.Code]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+\\.[a-z_]+)` \\| ([0-9]{3})").FindAllStringSubmatch(string(text), -1) {
		said[apierr.Code(row[1])] = row[2]
	}
	want := map[apierr.Code]string{}
	for _, code := range doc.Components.Schemas.ErrorCode.Enum {
		want[code] = strconv.Itoa(code.Info().HTTP)
		if !code.Valid() {
			t.Errorf("%s is no code", code)
		}
	}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("codes of docs/API.md (-document +API.md):\n%s", diff)
	}
}

func TestKeySet(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	a := h.do("GET", "/.well-known/jwks.json", "", "")
	h.want(a, http.StatusOK, "")
	if got := a.header.Get("Cache-Control"); got != keysKept || !strings.Contains(a.body, "Ed25519") {
		t.Errorf("Cache-Control %q, body %s", got, a.body)
	}
	h.store.err = errors.New("away")
	a = h.do("GET", "/.well-known/jwks.json", "", "")
	h.want(a, http.StatusServiceUnavailable, apierr.AuthUnavailable)
	if a.header.Get("Cache-Control") != "no-store" {
		t.Error("an error may be kept by others")
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for name, tt := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"no auth":          {func(o *Options) { o.Auth = nil }, "Auth is needed"},
		"no database":      {func(o *Options) { o.Database = nil }, "Database is needed"},
		"no log":           {func(o *Options) { o.Log = nil }, "Log is needed"},
		"short key":        {func(o *Options) { o.CursorKey = make([]byte, 31) }, "31 bytes"},
		"negative timeout": {func(o *Options) { o.Timeout = -1 }, "Timeout"},
		"limit":            {func(o *Options) { o.Limits.Probe = 0 }, "limit Probe"},
		"any origin":       {func(o *Options) { o.CORSOrigins = []string{"*"} }, `origin "*"`},
		"origin with path": {func(o *Options) { o.CORSOrigins = []string{"https://a.example/"} }, "origin"},
		"other scheme":     {func(o *Options) { o.CORSOrigins = []string{"file://a"} }, "origin"},
		"many origins":     {func(o *Options) { o.CORSOrigins = make([]string, maxOrigins+1) }, "65 CORS origins"},
	} {
		o := h.options()
		tt.change(&o)
		if _, err := New(t.Context(), o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, tt.want)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(gone, h.options()); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
}

func BenchmarkGet(b *testing.B) {
	h := newHarness(b, func(o *Options) { o.Log = slog.New(slog.NewJSONHandler(io.Discard, nil)) })
	get(b, h.handler)
	b.ReportAllocs()
	for b.Loop() {
		get(b, h.handler)
	}
}

package token

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/config"
)

// loaderOf returns the loader of a test server's URL, as the configuration would
// give it.
func loaderOf(t *testing.T, s *httptest.Server, roots *x509.CertPool) func(context.Context) ([]byte, error) {
	t.Helper()
	load, err := newFetcher(s.URL+"/jwks.json?v=1", roots)
	if err != nil {
		t.Fatal(err)
	}
	return load
}

func TestFetch(t *testing.T) {
	t.Parallel()
	const doc = `{"keys":[]}`
	write := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); io.WriteString(w, doc) }
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    string // "" means an error
	}{
		"good":           {write(doc), doc},
		"garbage":        {write("<html>"), "<html>"}, // refused by the parser
		"largest":        {write(strings.Repeat(" ", maxSetBytes)), strings.Repeat(" ", maxSetBytes)},
		"one too many":   {write(strings.Repeat(" ", maxSetBytes+1)), ""},
		"500":            {status(500), ""},
		"404":            {status(404), ""},
		"201":            {status(201), ""},
		"304":            {status(304), ""},
		"redirect":       {http.RedirectHandler("/elsewhere", http.StatusFound).ServeHTTP, ""},
		"redirect, kept": {http.RedirectHandler("/elsewhere", http.StatusTemporaryRedirect).ServeHTTP, ""},
		"cut short": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99")
			io.WriteString(w, doc)
		}, ""},
		"huge header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 2*maxHeaderBytes))
		}, ""},
		"no answer":       {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ""},
		"endless":         {endless, ""},
		"gzip, not asked": {zipped, "\x1f\x8b"}, // left as it is, refused by the parser
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mux := http.NewServeMux()
			mux.HandleFunc("GET /jwks.json", c.handler)
			mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") })
			s := httptest.NewServer(mux)
			defer s.Close()
			got, err := loaderOf(t, s, nil)(t.Context())
			if (err != nil) != (c.want == "") || !strings.HasPrefix(string(got), c.want) {
				t.Errorf("got %.40q, %v, want %.40q", got, err, c.want)
			}
		})
	}
}

// endless writes until the client goes away.
func endless(w http.ResponseWriter, _ *http.Request) {
	for block := bytes.Repeat([]byte(" "), 1<<16); ; {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

func zipped(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	defer z.Close()
	io.WriteString(z, `{"keys":[]}`)
}

// A server that never comes to an end is left when the context says so, before
// the header and inside the body.
func TestFetchStopsWithItsContext(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(http.ResponseWriter){
		"before the header": func(http.ResponseWriter) {},
		"inside the body":   func(w http.ResponseWriter) { io.WriteString(w, "{"); w.(http.Flusher).Flush() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				begin(w)
				cancel()
				<-r.Context().Done()
			}))
			defer s.Close()
			if _, err := loaderOf(t, s, nil)(ctx); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestFetchVerifiesTLS(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"keys":[]}`) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	if _, err := loaderOf(t, s, roots)(t.Context()); err != nil {
		t.Errorf("known authority: %v", err)
	}
	if _, err := loaderOf(t, s, x509.NewCertPool())(t.Context()); err == nil {
		t.Error("unknown authority: accepted")
	}
}

// The whole way from an https server to a verified token, and to its end when
// the server rotates.
func TestVerifyWithFetchedKeys(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(is.JWKS()) }))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	keys := NewKeys(KeysOptions{RootCAs: roots})
	v, err := NewVerifier([]config.Issuer{is.Config(config.JWKS{URL: s.URL})}, keys, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	now := time.Now()
	wantCode(t, v, now, mint(is), Unavailable)
	v.issuers[testIss].source.refresh(t.Context())
	wantCode(t, v, now, mint(is), "")
	wantCode(t, v, now.Add(MaxKeyAge+time.Minute), mint(is), Unavailable)
}

package httpapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"gatehouse/api/v1/client"
	"gatehouse/internal/certtest"
)

// get asks for a user as an administrator.
func get(tb testing.TB, h http.Handler) {
	r := httptest.NewRequestWithContext(tb.Context(), "GET", "/api/v1/users/"+uuid(1), http.NoBody)
	r.Header.Set("Authorization", "Bearer admin")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		tb.Fatal(w.Code, w.Body)
	}
}

func start(t *testing.T, o ServerOptions) *Server {
	t.Helper()
	o.Address, o.Log = "127.0.0.1:0", slog.New(slog.DiscardHandler)
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	return s
}

// TestClientOverTLS goes the whole way: generated client, TLS, server, handler.
func TestClientOverTLS(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	pair := certtest.New(t)
	trust := pair.Roots()
	cert, key := pair.Files(t)
	s := start(t, ServerOptions{Handler: h.handler, CertFile: cert, KeyFile: key})
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.NewClientWithResponses("https://"+s.Addr(), client.WithHTTPClient(&http.Client{Transport: transport}),
		client.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
			r.Header.Set("Authorization", "Bearer admin")
			return nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	login, err := c.LoginWithResponse(t.Context(), client.LoginRequest{Username: "ada", Password: goodPassword})
	if err != nil || login.JSON200 == nil || login.JSON200.AccessToken != "a.b.c" {
		t.Fatalf("login: %v, %+v", err, login)
	}
	users, err := c.ListUsersWithResponse(t.Context(), &client.ListUsersParams{Limit: new(5)})
	if err != nil || users.JSON200 == nil || len(users.JSON200.Items) != 1 {
		t.Fatalf("users: %v, %+v", err, users)
	}
	if p := users.HTTPResponse.Proto; p != "HTTP/2.0" {
		t.Errorf("the connection is %s, want HTTP/2.0", p)
	}
	match := `"1"`
	changed, err := c.UpdateUserWithResponse(t.Context(), users.JSON200.Items[0].Id, &client.UpdateUserParams{IfMatch: &match}, client.UserUpdate{Disabled: new(true)})
	if err != nil || changed.JSON200 == nil || !changed.JSON200.Disabled {
		t.Fatalf("change: %v, %+v", err, changed)
	}
}

func TestServerStopWaits(t *testing.T) {
	t.Parallel()
	begun, finish := make(chan struct{}), make(chan struct{})
	s := start(t, ServerOptions{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-finish
		_, _ = io.WriteString(w, "done")
	})})
	got := make(chan string, 1)
	go func() { got <- fetch(t, s.Addr()) }()
	<-begun
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(t.Context()) }()
	<-s.Done() // no longer listening, and the request is still open
	select {
	case err := <-stopped:
		t.Fatalf("Stop did not wait: %v", err)
	default:
	}
	close(finish)
	if body := <-got; body != "done" {
		t.Errorf("the open request got %q", body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	if err := s.Start(t.Context()); err == nil {
		t.Error("a stopped server starts again")
	}
}

func fetch(t *testing.T, addr string) string {
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+addr, nil)
	if err != nil {
		return err.Error()
	}
	transport := &http.Transport{DisableKeepAlives: true}
	res, err := transport.RoundTrip(r)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestServerStopCuts(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	s := start(t, ServerOptions{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	})})
	go fetch(t, s.Addr())
	<-begun
	now, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Stop(now); !errors.Is(err, context.Canceled) {
		t.Errorf("Stop: %v, want that requests were cut", err)
	}
	select {
	case <-s.Done():
	default:
		t.Error("Stop left the serving goroutine")
	}
}

func TestServerRefuses(t *testing.T) {
	t.Parallel()
	log, handler := slog.New(slog.DiscardHandler), http.NotFoundHandler()
	for name, o := range map[string]ServerOptions{
		"no handler": {Log: log}, "no log": {Handler: handler},
		"certificate alone": {Handler: handler, Log: log, CertFile: "c"}, "key alone": {Handler: handler, Log: log, KeyFile: "k"},
	} {
		if _, err := NewServer(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	taken := start(t, ServerOptions{Handler: handler})
	for name, o := range map[string]ServerOptions{
		"no such file":  {Handler: handler, Log: log, Address: "127.0.0.1:0", CertFile: "/no/c.pem", KeyFile: "/no/k.pem"},
		"address taken": {Handler: handler, Log: log, Address: taken.Addr()},
	} {
		s, err := NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context()); err == nil {
			t.Errorf("%s: started", name)
		}
		if s.Addr() != "" {
			t.Errorf("%s: has address %s", name, s.Addr())
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Errorf("%s: Stop: %v", name, err)
		}
	}
	if err := taken.Start(t.Context()); err == nil {
		t.Error("started twice")
	}
}

// caller is a client of a server.
type caller struct {
	*http.Client
	base string
}

// hurried starts a server with hardly any time to read and write, and a client
// of it.
func (h *harness) hurried(t *testing.T, secure bool) (*Server, caller) {
	t.Helper()
	o := ServerOptions{Handler: h.handler, Address: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}
	transport, scheme := &http.Transport{ForceAttemptHTTP2: true}, "http://"
	if secure {
		var trust *x509.CertPool
		pair := certtest.New(t)
		o.CertFile, o.KeyFile = pair.Files(t)
		trust = pair.Roots()
		transport.TLSClientConfig, scheme = &tls.Config{RootCAs: trust}, "https://"
	}
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.server.ReadTimeout, s.server.WriteTimeout = 300*time.Millisecond, 300*time.Millisecond
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	t.Cleanup(transport.CloseIdleConnections)
	return s, caller{&http.Client{Transport: transport}, scheme + s.Addr()}
}

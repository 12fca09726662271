package demoapp

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func do(t *testing.T, h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func decode[T any](t *testing.T, body io.Reader) T {
	t.Helper()
	var v T
	if err := json.NewDecoder(body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestEcho(t *testing.T) {
	t.Parallel()
	a := New()
	r := httptest.NewRequest("PATCH", "http://app.test/a/b?c=d", strings.NewReader("body \xff"))
	r.Header.Set("X-Gatehouse-Role", "observer")
	w := do(t, a.Handler(), r)
	want := Request{
		Method: "PATCH", Path: "http://app.test/a/b?c=d", Host: "app.test",
		Headers: map[string][]string{"x-gatehouse-role": {"observer"}}, Body: "body \uFFFD",
	}
	got := decode[Request](t, w.Body)
	if diff := cmp.Diff(want, got); w.Code != 200 || diff != "" {
		t.Errorf("echo: status %d, -want +got\n%s", w.Code, diff)
	}
	last := decode[Request](t, do(t, a.Counters(), httptest.NewRequest("GET", "/last", nil)).Body)
	if diff := cmp.Diff(want, last); diff != "" {
		t.Errorf("/last: -want +got\n%s", diff)
	}
	if role := last.Header("X-GATEHOUSE-ROLE"); role != "observer" {
		t.Errorf("Header = %q, want observer", role)
	}
	if none := last.Header("x-none"); none != "" {
		t.Errorf("Header of an absent name = %q", none)
	}
}

func TestStatusIsAskedFor(t *testing.T) {
	t.Parallel()
	for asked, want := range map[string]int{"503": 503, "200": 200, "599": 599, "600": 200, "199": 200, "-1": 200, "no": 200, "": 200} {
		r := httptest.NewRequest("GET", "/a", nil)
		r.Header.Set(StatusHeader, asked)
		w := do(t, New().Handler(), r)
		if echo := decode[Request](t, w.Body); w.Code != want || echo.Path != "/a" {
			t.Errorf("asked for %q: %d with %+v, want %d with an echo", asked, w.Code, echo, want)
		}
	}
}

func TestCounters(t *testing.T) {
	t.Parallel()
	a := New()
	if w := do(t, a.Counters(), httptest.NewRequest("GET", "/last", nil)); w.Code != 404 {
		t.Errorf("/last before the first request: %d, want 404", w.Code)
	}
	for _, path := range []string{"/a", "/a?x=1", "/count"} {
		do(t, a.Handler(), httptest.NewRequest("GET", path, nil))
	}
	got := decode[Count](t, do(t, a.Counters(), httptest.NewRequest("GET", "/count", nil)).Body)
	want := Count{Total: 3, ByPath: map[string]int64{"/a": 2, "/count": 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("/count: -want +got\n%s", diff)
	}
	if w := do(t, a.Counters(), httptest.NewRequest("POST", "/count", nil)); w.Code != 405 {
		t.Errorf("POST /count: %d, want 405", w.Code)
	}
	if a.Total() != 3 {
		t.Errorf("asking the counters counted: total %d, want 3", a.Total())
	}
}

func TestPathsAreBounded(t *testing.T) {
	t.Parallel()
	a := New()
	for i := range maxPaths + 5 {
		a.note(fmt.Sprintf("/%d", i), Request{})
	}
	if n := len(a.count.ByPath); n != maxPaths+1 {
		t.Errorf("%d paths are kept, want %d", n, maxPaths+1)
	}
	if n := a.count.ByPath[OtherPaths]; n != 5 {
		t.Errorf("%d requests to other paths, want 5", n)
	}
}

func TestLargeBodyIsRefusedAndCounted(t *testing.T) {
	t.Parallel()
	a := New()
	for size, want := range map[int]int{MaxBody: 200, MaxBody + 1: 413} {
		body := strings.NewReader(strings.Repeat("x", size))
		if w := do(t, a.Handler(), httptest.NewRequest("POST", "/", body)); w.Code != want {
			t.Errorf("body of %d bytes: %d, want %d", size, w.Code, want)
		}
	}
	if a.Total() != 2 {
		t.Errorf("total %d, want 2", a.Total())
	}
}

func TestBrokenBody(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader("x"), brokenReader{}))
	if w := do(t, New().Handler(), r); w.Code != 400 {
		t.Errorf("a body that breaks off: %d, want 400", w.Code)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestServe(t *testing.T) {
	t.Parallel()
	app, counters := listen(t), listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, app, counters) }()
	get := func(l net.Listener, path string) io.ReadCloser {
		resp, err := http.Get("http://" + l.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Body
	}
	_ = get(app, "/count").Close()
	body := get(counters, "/count")
	if c := decode[Count](t, body); c.Total != 1 {
		t.Errorf("total %d, want 1: only the app's listener is counted", c.Total)
	}
	_ = body.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestServeFailsWithItsListener(t *testing.T) {
	t.Parallel()
	app, counters := listen(t), listen(t)
	_ = app.Close()
	if err := Serve(t.Context(), app, counters); err == nil {
		t.Error("Serve on a closed listener: no error")
	}
}

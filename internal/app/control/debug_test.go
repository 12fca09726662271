package control

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"gatehouse/internal/pgtest"
)

// Metrics stand on a listener of their own, and nowhere on the API.
func TestDebugListener(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.URL(t), "DEBUG_ADDRESS", "127.0.0.1:0")
	r.token("developer", "developer123")
	for path, want := range map[string]string{
		"/metrics": `gatehouse_api_requests_total{code_class="2xx",operation="login"} 1`, "/status": `"fresh"`,
	} {
		resp, err := http.Get("http://" + r.app.DebugAddr() + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s has no %s: %v", path, want, err)
		}
	}
	if status, _, _ := r.call("GET", "/metrics", "", nil); status != 404 {
		t.Errorf("the API answers /metrics with %d", status)
	}
	c, err := FromEnvironment(environment(pgtest.URL(t), "DEBUG_ADDRESS", "0.0.0.0:0"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), Options{Config: c, Log: io.Discard}); err == nil || !strings.Contains(err.Error(), "DEBUG_ADDRESS") {
		t.Errorf("a debug listener for everybody: %v", err)
	}
}

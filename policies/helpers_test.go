package policies

import (
	"testing"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/request"
)

// compileText compiles one file, policy.rego, with a time-out that a loaded
// machine does not reach.
func compileText(t testing.TB, entry, text string) *Engine {
	t.Helper()
	return compileWith(t, Options{Entry: entry, Timeout: 10 * time.Second}, text)
}

func compileWith(t testing.TB, opt Options, text string) *Engine {
	t.Helper()
	e, err := Compile(t.Context(), Source{"policy.rego": []byte(text)}, opt)
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return e
}

func shippedSource(t testing.TB) Source {
	t.Helper()
	src, err := ReadSource(Shipped())
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func shippedEngine(t testing.TB) *Engine {
	t.Helper()
	e, err := Compile(t.Context(), shippedSource(t), Options{Entry: config.ShippedEntry, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// typicalInput is a request as an SDK sends it through Envoy.
func typicalInput() *Input {
	return &Input{
		ID:       "6f1b0c4e-6a0d-4d5e-9d69-6d1a3f0d9a51",
		Method:   "POST",
		Path:     "/tasks/17?expand=owner",
		Host:     "app.internal",
		Scheme:   "https",
		Protocol: "HTTP/2",
		Time:     time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC),
		Headers: []Header{
			{":authority", "app.internal"}, {":method", "POST"}, {":path", "/tasks/17?expand=owner"}, {":scheme", "https"},
			{"accept", "application/json"}, {"authorization", "Bearer a.b.c"}, {"content-type", "application/json"},
			{"user-agent", "sdk/1.2"}, {"x-forwarded-proto", "https"}, {"x-request-id", "6f1b0c4e"},
		},
		Source:      Peer{Address: "10.1.2.3", Port: 40000},
		Destination: Peer{Address: "10.1.2.4", Port: 8080},
		Principal: request.Principal{
			Kind: request.KindToken, Issuer: "main", Subject: "alice", Tenant: "org1", Project: "proj1", Role: request.RoleDeveloper,
		},
		Route:        "tasks",
		Listener:     "inbound",
		Permission:   "task.create",
		UpstreamPath: "/tasks/17",
	}
}

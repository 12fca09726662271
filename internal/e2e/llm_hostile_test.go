package e2e

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"gatehouse/internal/envoytest"
)

// hostile is a provider that answers what a test wants, over HTTP/2, and knows
// what it was asked.
type hostile struct {
	*httptest.Server
	ca string // file of its certificate

	mu     sync.Mutex
	answer http.HandlerFunc
	asked  []http.Header
}

func newHostile(t *testing.T) *hostile {
	t.Helper()
	h := &hostile{}
	h.Server = httptest.NewUnstartedServer(h)
	h.EnableHTTP2 = true
	h.StartTLS()
	t.Cleanup(h.Close)
	dir, err := os.MkdirTemp("", "hostile")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	h.ca = filepath.Join(dir, "ca.pem")
	must(t, os.WriteFile(h.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}), 0o644))
	return h
}

func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	h.mu.Lock()
	answer := h.answer
	h.asked = append(h.asked, r.Header.Clone())
	h.mu.Unlock()
	answer(w, r)
}

func (h *hostile) will(answer http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer, h.asked = answer, nil
}

func (h *hostile) calls() []http.Header {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked
}

// hostileRoutes lead to it; the first judges texts, the second observes a policy
// that allows no model.
const hostileRoutes = `
  - {name: hostile, match: {listener: outbound, base: /hostile, path: /v1/chat/completions, methods: [POST]}, upstream: hostile, permission: task.create, budget: none, llm: {sanitize: {content: prose, reasoning: prose, tool_call: tool_call}}}
  - {name: spied, match: {listener: outbound, base: /spied, path: /v1/chat/completions, methods: [POST]}, upstream: hostile, permission: task.create, mode: observe, budget: none, llm: {models: {allow: ["none"]}}}
  - {name: list, match: {listener: outbound, base: /hostile, path: /v1/models, methods: [GET]}, upstream: hostile, permission: task.view, llm: {kind: free}}
`

func withHostile(t *testing.T) (*llmMesh, *hostile) {
	t.Helper()
	h := newHostile(t)
	return newLLM(t, func(set string) string {
		up := fmt.Sprintf("\n  hostile: {url: %q, ca_file: %s, format: openai, credential: openai}\nlimits:\n", h.URL, h.ca)
		return strings.Replace(set, "\nlimits:\n", up, 1) + hostileRoutes[1:]
	}), h
}

// A hostile provider gets no text past what judges texts, whatever it hides it in.
func TestHostileAnswers(t *testing.T) {
	l, h := withHostile(t)
	const bad = "DROP TABLE users;"
	frame := func(text string) string {
		return fmt.Sprintf("data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%q}}]}\n\n", text)
	}
	stop := strings.Replace(frame(""), `"delta":{"content":""}`, `"delta":{},"finish_reason":"stop"`, 1)
	say := func(contentType, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("content-type", contentType)
			_, _ = io.WriteString(w, text)
		}
	}
	for name, answer := range map[string]http.HandlerFunc{
		"an id":                   say("text/event-stream", "id: "+bad+"\n"+frame("x")),
		"an event's name":         say("text/event-stream", "event: "+bad+"\n"+frame("x")),
		"a comment":               say("text/event-stream", ": "+bad+"\n\n"+frame("x")),
		"a document as events":    say("text/event-stream", `{"choices":[{"message":{"content":"`+bad+`"}}]}`),
		"events as a document":    say("application/json", frame(bad)),
		"another type":            say("application/octet-stream", bad),
		"multipart":               say("multipart/mixed; boundary=x", "--x\r\n\r\n"+bad+"\r\n--x--"),
		"halves around an end":    say("text/event-stream", frame("DROP ")+stop+frame("TABLE users;")),
		"halves around the mark":  say("text/event-stream", frame("DROP ")+"data: [DONE]\n\n"+frame("TABLE users;")),
		"names twice":             say("application/json", `{"choices":[{"message":{"content":"x","content":"`+bad+`"}}]}`),
		"a frame that breaks off": say("text/event-stream", strings.TrimSuffix(frame(bad), "\n\n")),
		"a part of a document":    say("application/json", `{"choices":[{"message":{"content":"`+bad+`"`),
		"an error that is HTML": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("content-type", "text/html")
			w.WriteHeader(500)
			_, _ = io.WriteString(w, bad)
		},
		"an error's message": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("content-type", "application/json")
			w.WriteHeader(400)
			_, _ = io.WriteString(w, `{"error":{"message":"`+bad+`","type":"t"}}`)
		},
		"a partial answer": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("content-type", "text/plain")
			w.WriteHeader(206)
			_, _ = io.WriteString(w, bad)
		},
		"an early hint": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("x-note", bad)
			w.WriteHeader(103)
			w.Header().Del("x-note")
			say("text/event-stream", frame("x"))(w, r)
		},
		"a trailer": func(w http.ResponseWriter, r *http.Request) {
			say("text/event-stream", frame("x"))(w, r)
			w.Header().Set(http.TrailerPrefix+"x-note", bad)
		},
		"a trailer of a document": func(w http.ResponseWriter, r *http.Request) {
			say("application/json", `{"choices":[]}`)(w, r)
			w.Header().Set(http.TrailerPrefix+"x-note", bad)
		},
		"another charset": say("application/json; charset=utf-16", `{"choices":[{"message":{"content":"`+bad+`"}}]}`),
		"a type that stands twice": func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Type"] = []string{"application/json", "text/html"}
			_, _ = io.WriteString(w, bad)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h.will(answer)
			c := l.begin("hostile", prompt("m", true))
			text, _ := c.rest()
			if len(h.calls()) != 1 {
				t.Fatalf("the provider was asked %d times: %d %s", len(h.calls()), c.resp.StatusCode, text)
			}
			for _, got := range []string{text, said(text), fmt.Sprint(c.resp.Header), fmt.Sprint(c.resp.Trailer)} {
				if strings.Contains(got, bad) || strings.Contains(said(text), "DROP TABLE users") {
					t.Errorf("the client got %d %s %v %v", c.resp.StatusCode, text, c.resp.Header, c.resp.Trailer)
				}
			}
		})
	}
	envoytest.Eventually(t, "all exchanges have ended", func() bool { return l.settled().Reserved == 0 })
}

// Requests that have no body to hold for, or none that is asked for, reach nobody.
func TestHostileRequests(t *testing.T) {
	l, h := withHostile(t)
	h.will(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "reached") })
	raw := func(lines ...string) string {
		t.Helper()
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.node.outbound)
		must(t, err)
		defer func() { _ = conn.Close() }()
		head := []string{lines[0] + " HTTP/1.1", "host: x", "authorization: Bearer " + l.token, "connection: close", "content-type: application/json"}
		_, err = io.WriteString(conn, strings.Join(append(head, lines[1:]...), "\r\n"))
		must(t, err)
		answer, _ := io.ReadAll(conn)
		return string(answer)
	}
	const chat, list = "/hostile/v1/chat/completions", "/hostile/v1/models"
	body := prompt("m", false)
	sized := fmt.Sprintf("content-length: %d", len(body))
	for name, lines := range map[string][]string{
		"no body":                 {"POST " + chat, "content-length: 0", "", ""},
		"an empty body in chunks": {"POST " + chat, "transfer-encoding: chunked", "", "0", "", ""},
		"GET":                     {"GET " + chat, "", ""},
		"GET with a body":         {"GET " + chat, sized, "", body},
		"HEAD":                    {"HEAD " + chat, "", ""},
		"an upgrade":              {"POST " + chat, "connection: upgrade", "upgrade: websocket", sized, "", body},
		"h2c":                     {"GET " + list, "connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQCAAAAAAIAAAAA", sized, "", body},
		"a free one with a body":  {"GET " + list, sized, "", body},
		"the same in chunks":      {"GET " + list, "transfer-encoding: chunked", "", "2", "{}", "0", "", ""},
		"HEAD of a free one":      {"HEAD " + list, "", ""},
		"POST to a free one":      {"POST " + list, sized, "", body},
		"another method by name":  {"GET " + list, "x-http-method-override: POST", sized, "", body},
		"two lengths":             {"POST " + chat, "content-length: 0", sized, "", body},
		"a length and chunks":     {"POST " + chat, sized, "transfer-encoding: chunked", "", "0", "", ""},
		"a mark of its own":       {"POST " + chat, "x-gatehouse-held: true", "x-envoy-force-trace: 1", "content-length: 0", "", ""},
		"a body in bytes":         {"POST " + chat, "content-encoding: gzip", sized, "", body},
	} {
		answer := raw(lines...)
		if n := len(h.calls()); n != 0 {
			t.Errorf("%s: the provider was reached %d times, the client got %s", name, n, answer)
			h.will(func(http.ResponseWriter, *http.Request) {})
		}
		if strings.Contains(answer, " 200 ") {
			t.Errorf("%s: got %s", name, answer)
		}
	}
	// And what is as it should be does.
	if answer := raw("POST "+chat, "expect: 100-continue", sized, "", body); !strings.Contains(answer, " 200 ") && len(h.calls()) != 1 {
		t.Errorf("a whole request: %s", answer)
	}
}

// Mode observe lets a request of a model that nobody may use go on, without the
// upstream's credential or anything of ours.
func TestObserveSpendsNothing(t *testing.T) {
	l, h := withHostile(t)
	h.will(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("content-type", "application/json")
		_, _ = io.WriteString(w, `{"choices":[]}`)
	})
	status, text, _ := l.ask("spied", prompt("m", false))
	if status != 200 || len(h.calls()) != 1 {
		t.Fatalf("got %d %s", status, text)
	}
	if got := h.calls()[0].Get("authorization"); got != "" {
		t.Errorf("the provider got %q", got)
	}
	l.ask("hostile", prompt("m", false))
	if got := h.calls(); len(got) != 2 || got[1].Get("authorization") != "Bearer "+openaiKey {
		t.Errorf("the provider got %v", got)
	}
}

// A client that leaves while the provider is silent, in any number, leaves nothing
// behind.
func TestClientsThatLeave(t *testing.T) {
	l, h := withHostile(t)
	begun := make(chan struct{}, 64)
	h.will(func(_ http.ResponseWriter, r *http.Request) { begun <- struct{}{}; <-r.Context().Done() })
	ctx, leave := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { _, _ = l.send(ctx, "hostile", prompt("m", true)) })
	}
	for range 20 {
		<-begun
	}
	leave()
	wg.Wait()
	envoytest.Eventually(t, "no exchange is open", func() bool { return l.settled().Reserved == 0 })
}

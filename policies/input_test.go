package policies

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
)

// readsAll is a policy that may look at everything, so that nothing is left out.
const readsAll = "package p\n\nallow if count(input) > 0\n"

// documentOf is the input document as JSON reads it.
func documentOf(t *testing.T, e *Engine, in *Input) map[string]any {
	t.Helper()
	body, fault := e.readBody(in)
	if fault != nil {
		t.Fatal(fault)
	}
	value, err := ast.JSON(e.document(in, body))
	if err != nil {
		t.Fatal(err)
	}
	return value.(map[string]any)
}

func TestDocumentIsThatOfOPAEnvoyPlugin(t *testing.T) {
	t.Parallel()
	in := typicalInput()
	in.BodyWanted, in.Body, in.Size = true, []byte(`{"title": "x", "n": 12345678901234567890}`), 41
	in.Headers = append(in.Headers, Header{"X-Twice", "1"}, Header{"x-twice", "2"}, Header{"content-length", "41"})
	in.Source.Principal = "spiffe://org1/alice"
	in.ContextExtensions = []Header{{Name: "route", Value: "tasks"}}
	var want map[string]any
	dec := json.NewDecoder(strings.NewReader(`{
		"attributes": {
			"source": {"address": {"socketAddress": {"address": "10.1.2.3", "portValue": 40000}}, "principal": "spiffe://org1/alice"},
			"destination": {"address": {"socketAddress": {"address": "10.1.2.4", "portValue": 8080}}},
			"contextExtensions": {"route": "tasks"},
			"request": {
				"time": "2026-03-04T05:06:07.000008Z",
				"http": {
					"id": "6f1b0c4e-6a0d-4d5e-9d69-6d1a3f0d9a51", "method": "POST", "path": "/tasks/17?expand=owner",
					"host": "app.internal", "scheme": "https", "protocol": "HTTP/2", "size": 41,
					"body": "{\"title\": \"x\", \"n\": 12345678901234567890}",
					"headers": {
						":authority": "app.internal", ":method": "POST", ":path": "/tasks/17?expand=owner", ":scheme": "https",
						"accept": "application/json", "content-type": "application/json", "content-length": "41", "user-agent": "sdk/1.2",
						"x-forwarded-proto": "https", "x-request-id": "6f1b0c4e", "x-twice": "1,2"
					}
				}
			}
		},
		"parsed_path": ["tasks", "17"],
		"parsed_query": {"expand": ["owner"]},
		"parsed_body": {"title": "x", "n": 12345678901234567890},
		"truncated_body": false,
		"version": {"encoding": "protojson", "ext_authz": "v3"},
		"source_principal": "spiffe://org1/alice",
		"principal": {"kind": "token", "issuer": "main", "subject": "alice", "tenant": "org1", "project": "proj1", "agent": "", "run": "", "role": "developer"},
		"route": "tasks", "listener": "inbound", "permission": "task.create", "upstream_path": "/tasks/17"
	}`))
	dec.UseNumber()
	if err := dec.Decode(&want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, documentOf(t, compileText(t, "data.p.allow", readsAll), in)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDocumentLeavesOutWhatIsNotThere(t *testing.T) {
	t.Parallel()
	doc := documentOf(t, compileText(t, "data.p.allow", readsAll), &Input{Path: "/"})
	attributes := doc["attributes"].(map[string]any)
	for _, name := range []string{"source", "destination", "contextExtensions"} {
		if _, ok := attributes[name]; ok {
			t.Errorf("%s is there", name)
		}
	}
	request := attributes["request"].(map[string]any)
	if _, ok := request["time"]; ok {
		t.Error("time is there")
	}
	for _, name := range []string{"body", "size"} {
		if _, ok := request["http"].(map[string]any)[name]; ok {
			t.Errorf("%s is there", name)
		}
	}
	if body, ok := doc["parsed_body"]; !ok || body != nil {
		t.Errorf("parsed_body: %v, want null", body)
	}
	if diff := cmp.Diff([]any{""}, doc["parsed_path"]); diff != "" {
		t.Errorf("parsed_path (-want +got):\n%s", diff)
	}
}

const secret = "SECRET"

// withCredentials is a request with the secret in every place where a token may
// stand, in several spellings.
func withCredentials() *Input {
	target := "/v1/models?key=" + secret + "&a=1&%6Bey=" + secret + "&key=x" + secret + "&monkey=2&k%65%79"
	return &Input{
		Path: target, UpstreamPath: strings.TrimPrefix(target, "/v1"),
		Headers: []Header{
			{"authorization", "Bearer " + secret}, {"Authorization", secret}, {"X-API-KEY", secret}, {"api-key", secret},
			{"x-goog-api-key", secret}, {":path", target}, {"x-envoy-original-path", target}, {"x-other", "1"},
		},
	}
}

func TestCredentialsAreNotInTheDocument(t *testing.T) {
	t.Parallel()
	hidden := compileText(t, "data.p.allow", readsAll)
	doc := documentOf(t, hidden, withCredentials())
	if text := fmt.Sprint(doc); strings.Contains(text, secret) {
		t.Errorf("the secret is in %s", text)
	}
	http := doc["attributes"].(map[string]any)["request"].(map[string]any)["http"].(map[string]any)
	if http["path"] != "/v1/models?a=1&monkey=2" {
		t.Errorf("path: %v", http["path"])
	}
	wantHeaders := map[string]any{":path": "/v1/models?a=1&monkey=2", "x-envoy-original-path": "/v1/models?a=1&monkey=2", "x-other": "1"}
	if diff := cmp.Diff(wantHeaders, http["headers"]); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if doc["upstream_path"] != "/models?a=1&monkey=2" {
		t.Errorf("upstream_path: %v", doc["upstream_path"])
	}
	if diff := cmp.Diff(map[string]any{"a": []any{"1"}, "monkey": []any{"2"}}, doc["parsed_query"]); diff != "" {
		t.Errorf("parsed_query (-want +got):\n%s", diff)
	}
}

func TestExposeTokenLeavesCredentials(t *testing.T) {
	t.Parallel()
	shown := compileWith(t, Options{Entry: "data.p.allow", ExposeToken: true}, readsAll)
	in := withCredentials()
	doc := documentOf(t, shown, in)
	http := doc["attributes"].(map[string]any)["request"].(map[string]any)["http"].(map[string]any)
	headers := http["headers"].(map[string]any)
	if http["path"] != in.Path || doc["upstream_path"] != in.UpstreamPath || headers["authorization"] != "Bearer "+secret+","+secret || headers["x-api-key"] != secret {
		t.Errorf("got %v", http)
	}
	if got := doc["parsed_query"].(map[string]any)["key"]; len(got.([]any)) != 4 {
		t.Errorf("key: %v", got)
	}
}

func TestTargetThatCannotBeTakenApart(t *testing.T) {
	t.Parallel()
	reads := map[string]*Engine{
		"parsed_query":  compileText(t, "data.p.allow", "package p\n\nallow if not input.parsed_query.admin\n"),
		"parsed_path":   compileText(t, "data.p.allow", "package p\n\nallow if input.parsed_path != [\"admin\"]\n"),
		"path":          compileText(t, "data.p.allow", "package p\n\nallow if not contains(input.attributes.request.http.path, \"admin\")\n"),
		"upstream_path": compileText(t, "data.p.allow", "package p\n\nallow if not contains(input.upstream_path, \"admin\")\n"),
		"all headers":   compileText(t, "data.p.allow", "package p\n\nallow if count(input.attributes.request.http.headers) > 0\n"),
	}
	other := compileText(t, "data.p.allow", "package p\n\nallow if input.attributes.request.http.headers.accept\n")
	for _, target := range []string{
		"/a?admin=1;b=2", "/a?admin=%zz", "/a?%", "/a%", "/a%2", "/%gg?x=1",
		"/a?" + strings.Repeat("b&", maxQueryMembers), "/a?b=1;key=" + secret,
	} {
		for place, in := range map[string]*Input{
			"path":          {Path: target, Headers: []Header{{"accept", "a"}}},
			"upstream path": {Path: "/a", UpstreamPath: target, Headers: []Header{{"accept", "a"}}},
			"header":        {Path: "/a", Headers: []Header{{"accept", "a"}, {":path", target}}},
		} {
			for what, e := range reads {
				if d := e.Decide(t.Context(), in); d.Class != InputMalformed || d.Allowed {
					t.Errorf("%q in %s, policy reads %s: got %+v", target, place, what, d)
				}
			}
			if d := other.Decide(t.Context(), in); !d.Allowed {
				t.Errorf("%q, policy reads another header: got %+v", target, d)
			}
			if text := fmt.Sprint(documentOf(t, other, in)); strings.Contains(text, secret) {
				t.Errorf("%q: the secret is in %s", target, text)
			}
		}
	}
}

func FuzzInput(f *testing.F) {
	f.Add("/tasks?a=1", "content-type", "application/json", []byte(`{"a": [1, null, true]}`), "content-length", "22", true)
	f.Add("/%?;", "content-encoding", "gzip", []byte("\xff"), "", "", true)
	f.Add("", "content-type", "application/x-www-form-urlencoded", []byte("a=1&b=%zz"), "authorization", "Bearer a.b.c", false)
	f.Add("/a?"+strings.Repeat("%41&", 50), ":path", "/?key=x", []byte(strings.Repeat("[", 100)), "X", "\x00", true)
	engines := []*Engine{
		shippedEngine(f),
		compileText(f, "data.p.allow", "package p\n\nallow if input.parsed_body.a == 1\n\nallow if input.parsed_query.a\n"),
		compileText(f, "data.p.allow", readsAll),
	}
	f.Fuzz(func(t *testing.T, path, name, value string, body []byte, name2, value2 string, wanted bool) {
		in := &Input{
			Method: value, Path: path, Host: name, Headers: []Header{{name, value}, {name2, value2}}, Time: time.Unix(int64(len(path)), 0),
			Body: body, BodyWanted: wanted, BodyTruncated: name == "t", Size: int64(len(body)), Route: name2, Permission: value2,
			ContextExtensions: []Header{{Name: name, Value: value}}, Source: Peer{Address: name, Principal: value},
		}
		for _, e := range engines {
			d := e.Decide(t.Context(), in)
			if d.Class == "" || d.RuleID == "" || d.Reason == "" {
				t.Errorf("incomplete: %+v", d)
			}
			if d.Allowed && d.Class != Decided {
				t.Errorf("allowed without a decision: %+v", d)
			}
		}
	})
}

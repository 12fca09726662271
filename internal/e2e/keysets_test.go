package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"gatehouse/internal/envoytest"
	"gatehouse/internal/tokentest"
)

// Bad key sets, by file and by URL: their issuer's tokens are refused, nothing
// reaches the upstream, and the other issuer is served as before.
func TestBadKeySetsReachNothing(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	good := tokentest.NewIssuer(t, "x", "https://x.test", "gatehouse")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/slow":
			<-release
		case "/huge":
			_, _ = w.Write([]byte(`{"keys":[],"x":"` + strings.Repeat("x", 1<<20) + `"}`))
		case "/redirect":
			http.Redirect(w, r, "/good", http.StatusFound)
		case "/error":
			http.Error(w, "no", http.StatusInternalServerError)
		case "/good":
			_, _ = w.Write(good.JWKS())
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })

	issuers := map[string]*tokentest.Issuer{}
	var section, documents = strings.Builder{}, map[string][]byte{}
	add := func(name, jwks string) *tokentest.Issuer {
		i := tokentest.NewIssuer(t, name, "https://"+name+".test", "gatehouse")
		issuers[name] = i
		fmt.Fprintf(&section, "  - {name: %[1]s, issuer: \"https://%[1]s.test\", jwks: %[2]s, audience: gatehouse, algorithms: [EdDSA, RS256], tenants: [any], roles: [any]}\n", name, jwks)
		return i
	}
	for _, name := range []string{"slow", "huge", "redirect", "error"} {
		add(name, fmt.Sprintf("{url: %q}", server.URL+"/"+name))
	}
	s := prepare(t, stackOptions{})
	for _, name := range []string{"weak", "mixed", "duplicate", "private", "garbage", "gone"} {
		i := add(name, fmt.Sprintf("{file: %s}", s.path(name+".json")))
		documents[name] = badKeySet(t, name, i)
	}
	for name, doc := range documents {
		if doc != nil {
			must(t, os.WriteFile(s.path(name+".json"), doc, 0o600))
		}
	}
	s.write("gatehouse.yaml", strings.Replace(s.config(defaultRoutes), "upstreams:", section.String()+"upstreams:", 1))
	s.startSidecar()
	s.startEnvoy()

	before := s.app.Count()
	for name, i := range issuers {
		token := i.Token("developer", "org1")
		for _, url := range []string{s.inbound + "/p/1", s.outbound + "/tools/1", s.inbound + "/status"} {
			s.refused(name+" at "+url, before, s.get(url, bearer(token)...), 503, "auth.unavailable")
		}
	}
	if a := s.get(s.inbound+"/p/1", bearer(s.issuer.Token("developer", "org1"))...); a.Status != 200 {
		t.Errorf("the other issuer: %d %s", a.Status, a.Body)
	}
}

// badKeySet is a set that must be refused whole, although the issuer's own
// good key is in it; nil for a file that is not there.
func badKeySet(t *testing.T, name string, i *tokentest.Issuer) []byte {
	var own map[string]any
	must(t, json.Unmarshal(i.JWKS(), &own))
	keys := own["keys"].([]any)
	key := keys[0].(map[string]any)
	switch name {
	case "weak": // an RSA key of 512 bits
		keys = append(keys, map[string]any{"kty": "RSA", "kid": "weak", "alg": "RS256", "e": "AQAB", "n": strings.Repeat("z", 85) + "w"})
	case "mixed":
		keys = append(keys, map[string]any{"kty": "oct", "kid": "secret", "alg": "HS256", "k": strings.Repeat("A", 43)})
	case "duplicate":
		keys = append(keys, key)
	case "private":
		key["d"] = strings.Repeat("A", 43)
	case "garbage":
		return []byte("<html>")
	case "gone":
		return nil
	}
	doc, err := json.Marshal(map[string]any{"keys": keys})
	must(t, err)
	return doc
}

// After a restart with a folder that is bad, the set that was accepted before
// is in force, key file included, and the new one is taken when it is mended.
func TestRestartWithABadFolder(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{NoStart: true})
	first := s.startProcess()
	s.bootstrapWritten()
	s.startEnvoy()
	dev := s.issuer.Token("developer", "org1")
	if a := s.get(s.inbound+"/p/1", bearer(dev)...); a.Status != 200 {
		t.Fatalf("before: %d %s", a.Status, a.Body)
	}
	// A set is saved once Envoy has confirmed it, which may be after the first answer.
	envoytest.Eventually(t, "the set is saved", func() bool { _, err := os.Stat(s.path("state/sets/index.json")); return err == nil })
	first.kill()
	rego, err := os.ReadFile(s.policies + "/authz.rego")
	must(t, err)
	s.write("authz.rego", "package gatehouse\nauthz := {")
	must(t, os.Remove(s.path("jwks.json")))
	s.startProcess()
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := os.ReadFile(s.path("sidecar.log"))
			t.Logf("%s", b)
		}
	})
	envoytest.Eventually(t, "serving again", func() bool { return s.get(s.inbound+"/p/1", bearer(dev)...).Status == 200 })
	envoytest.Eventually(t, "the fault is shown", func() bool { return strings.Contains(s.status(), "authz.rego:2") })
	s.write("authz.rego", strings.Replace(string(rego), "package gatehouse", "package gatehouse\n# mended", 1))
	envoytest.Eventually(t, "the mended set is in force", func() bool { return !strings.Contains(s.status(), "authz.rego:2") })
	if a := s.get(s.inbound+"/p/1", bearer(dev)...); a.Status != 200 {
		t.Errorf("after: %d %s", a.Status, a.Body)
	}
}

// status is what the debug listener shows; "" when it is not there yet.
func (s *stack) status() string {
	resp, err := http.Get("http://" + s.debug + "/status")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	return readAll(resp.Body)
}

// What Envoy refuses is remembered, shown, and makes the sidecar not ready.
func TestRefusedListenerIsShown(t *testing.T) {
	t.Parallel()
	taken := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(taken.Close)
	s := prepare(t, stackOptions{})
	s.outbound = strings.TrimPrefix(taken.URL, "http://")
	must(t, os.WriteFile(s.path("sidecar.yaml"), []byte(s.sidecarYAML()), 0o600))
	s.startSidecar()
	s.envoy = envoytest.Start(t, s.path("state/envoy.yaml"), envoytest.Options{Admin: s.path("run/admin.sock")})
	envoytest.Eventually(t, "the refusal is shown", func() bool { return len(s.sidecar.Status().Envoy.Nacks) > 0 })
	n := s.sidecar.Status().Envoy.Nacks[0]
	if n.Type != "listener" || n.Resource != "outbound" || !strings.Contains(n.Reason, "in use") {
		t.Errorf("shown as %+v", n)
	}
	if err := s.sidecar.Ready(); err == nil || !strings.Contains(err.Error(), "listener outbound") {
		t.Errorf("ready: %v", err)
	}
	s.metric(`gatehouse_nacks_total{type="listener"} 1`)
}

package e2e

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/envoytest"
)

func TestRateLimit(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{})
	dev, other := s.issuer.Token("developer", "org1"), s.issuer.Token("observer", "org1")
	for i := range 3 {
		a := s.get(s.inbound+"/few/1", bearer(dev)...)
		if a.Status != 200 || a.Header.Get("x-ratelimit-remaining") != fmt.Sprint(2-i) {
			t.Fatalf("request %d: %d, remaining %q", i, a.Status, a.Header.Get("x-ratelimit-remaining"))
		}
	}
	before := s.app.Count()
	a := s.get(s.inbound+"/few/1", bearer(dev)...)
	s.refused("the fourth", before, a, 429, "rate_limit.exceeded")
	for _, name := range []string{"retry-after", "ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-gatehouse-decision-id", "x-request-id"} {
		if a.Header.Get(name) == "" {
			t.Errorf("429 without %s: %v", name, a.Header)
		}
	}
	// The same subject in another role is the same principal; a route without
	// the limit is not limited.
	s.refused("another token of the same principal", before, s.get(s.inbound+"/few/1", bearer(other)...), 429, "rate_limit.exceeded")
	if a := s.get(s.inbound+"/p/1", bearer(dev)...); a.Status != 200 {
		t.Errorf("a route without the limit: %d", a.Status)
	}
}

func TestObserveLetsGoOn(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{})
	before := s.app.Count()
	bad := s.issuer.Token("observer", "org1") + "x"
	for name, headers := range map[string][]string{"no token": nil, "bad token": bearer(bad), "observer": bearer(s.issuer.Token("observer", "org1"))} {
		if a := s.do("POST", s.inbound+"/watched/1", "{}", headers...); a.Status != 200 {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
		if got := s.app.Last().Header.Get("authorization"); got != "" {
			t.Errorf("%s: the token reached the upstream", name)
		}
	}
	if n := s.app.Count() - before; n != 3 {
		t.Errorf("%d of 3 reached the upstream", n)
	}
	before = s.app.Count()
	if a := s.get(s.inbound + "/watched/%2f"); a.Status != 400 || s.app.Count() != before {
		t.Errorf("a path trick under observe: %d", a.Status)
	}
	s.metric(`gatehouse_check_would_deny_total{class="identity",route="watched"} 2`)
}

// metric waits until a line stands in the sidecar's metrics.
func (s *stack) metric(line string) {
	s.t.Helper()
	text := ""
	for range 400 {
		resp, err := http.Get("http://" + s.debug + "/metrics")
		must(s.t, err)
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if text = string(b); strings.Contains(text, line+"\n") {
			return
		}
		<-time.After(5 * time.Millisecond) // the access log comes after the answer
	}
	name, _, _ := strings.Cut(line, "{")
	for l := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(l, name) {
			s.t.Log(l)
		}
	}
	s.t.Errorf("no metric %s", line)
}

func TestTelemetry(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{})
	dev := s.issuer.Token("developer", "org1")
	ok := s.get(s.inbound+"/p/1?secret=1", bearer(dev)...)
	denied := s.get(s.inbound + "/p/2")
	s.get(s.inbound + "/nowhere")
	s.get(s.inbound + "/healthz")
	s.metric(`gatehouse_unrouted_total 1`)
	s.metric(`gatehouse_checks_total{class="identity",decision="deny",mode="enforce",route="tasks"} 1`)

	var records []map[string]any
	envoytest.Eventually(t, "two decisions and three outcomes are recorded", func() bool {
		records = s.records()
		return len(records) >= 5
	})
	kinds := map[string]map[string]any{}
	for _, r := range records {
		kinds[fmt.Sprint(r["kind"], " ", r["request_id"])] = r
	}
	id := ok.Header.Get("x-request-id")
	decision, outcome := kinds["decision "+id], kinds["outcome "+id]
	if decision == nil || outcome == nil {
		t.Fatalf("request %s: %v", id, records)
	}
	if decision["decision_id"] != outcome["decision_id"] || decision["revision"] != s.sidecar.Status().Revision ||
		decision["path"] != "/p/1" || decision["allowed"] != true || outcome["upstream_reached"] != true {
		t.Errorf("decision %v\noutcome %v", decision, outcome)
	}
	refusal := kinds["decision "+denied.Header.Get("x-request-id")]
	if refusal["allowed"] != false || refusal["rule_id"] != "no_token" || refusal["decision_id"] != denied.Header.Get("x-gatehouse-decision-id") {
		t.Errorf("refusal %v", refusal)
	}
	text, _ := os.ReadFile(s.path("state/decisions.jsonl"))
	if bytes.Contains(text, []byte("secret=1")) || bytes.Contains(text, []byte(dev)) {
		t.Error("a query or a token is in the records")
	}
	if strings.Contains(s.log.String(), dev) {
		t.Error("a token is in the log")
	}
}

func (s *stack) records() []map[string]any {
	s.t.Helper()
	text, err := os.ReadFile(s.path("state/decisions.jsonl"))
	must(s.t, err)
	var out []map[string]any
	for line := range bytes.Lines(text) {
		var r map[string]any
		if json.Unmarshal(line, &r) == nil {
			out = append(out, r)
		}
	}
	return out
}

// What an answer of Envoy's own looks like: our format, and nothing of what
// Envoy knows about sockets and addresses.
func TestEnvoysOwnAnswers(t *testing.T) {
	t.Parallel()
	dead := fmt.Sprintf("http://127.0.0.1:%d", envoytest.FreePort(t))
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { silent.Close() })
	s := start(t, stackOptions{
		UpstreamURLs: map[string]string{"dead": dead, "silent": "http://" + silent.Addr().String()},
		Config: `
routes:
  - {name: dead, match: {listener: inbound, path: /dead}, upstream: dead, principal: none}
  - {name: silent, match: {listener: inbound, path: /silent}, upstream: silent, principal: none, timeout: 200ms}
  - {name: idle, match: {listener: inbound, path: /idle}, upstream: silent, principal: none, idle_timeout: 1s}
`})
	for path, want := range map[string]struct {
		status int
		code   string
	}{
		"/dead": {503, "upstream.unavailable"}, "/silent": {504, "upstream.timeout"}, "/idle": {504, "upstream.timeout"}, "/none": {404, "resource.not_found"},
	} {
		a := s.get(s.inbound + path)
		if a.Status != want.status || a.Code != want.code {
			t.Errorf("%s: got %d %s, want %d %s", path, a.Status, a.Code, want.status, want.code)
		}
		var body map[string]any
		must(t, json.Unmarshal([]byte(a.Body), &body))
		if body["request_id"] != a.Header.Get("x-request-id") || len(body) != 3 || strings.Contains(a.Body, "127.0.0.1") {
			t.Errorf("%s: body %s", path, a.Body)
		}
	}
}

// A policy that reads the body gets all of it, or the request is refused.
func TestBodyPolicies(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{Files: map[string]string{"authz.rego": `package gatehouse

default authz := false

authz if input.parsed_body.amount <= 10
`}})
	dev := s.issuer.Token("developer", "org1")
	post := func(body string, headers ...string) answer {
		return s.do("POST", s.inbound+"/upload", body, append(bearer(dev), headers...)...)
	}
	js := []string{"content-type", "application/json"}
	if a := post(`{"amount": 5}`, js...); a.Status != 200 || s.app.Last().Body != `{"amount": 5}` {
		t.Fatalf("a good body: %d %s", a.Status, a.Body)
	}
	before := s.app.Count()
	for name, c := range map[string]struct {
		body    string
		headers []string
		status  int
	}{
		"too much":        {`{"amount": 50}`, js, 403},
		"not JSON":        {`{"amount": `, js, 400},
		"name twice":      {`{"amount": 50, "amount": 5}`, js, 400},
		"trailing":        {`{"amount": 5} {}`, js, 400},
		"another type":    {`amount=5`, []string{"content-type", "text/plain"}, 415},
		"compressed":      {`{"amount": 5}`, append(js, "content-encoding", "gzip"), 415},
		"over the limit":  {`{"amount": 5, "x": "` + strings.Repeat("x", 70_000) + `"}`, js, 413},
		"without":         {``, js, 403},
		"undefined value": {`{"amount": null}`, js, 200},
	} {
		a := post(c.body, c.headers...)
		if name == "undefined value" { // null sorts before numbers in Rego: the rule holds
			before = s.app.Count()
			continue
		}
		if a.Status != c.status || s.app.Count() != before {
			t.Errorf("%s: got %d %s, want %d; reached %d times", name, a.Status, a.Body, c.status, s.app.Count()-before)
		}
	}
	// Chunked, without a length that could be trusted.
	conn, err := net.Dial("tcp", s.inbound)
	must(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "POST /upload HTTP/1.1\r\nhost: a\r\nauthorization: Bearer %s\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", dev, 14, `{"amount": 50}`)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != 403 || s.app.Count() != before {
		t.Errorf("chunked: %d", resp.StatusCode)
	}
}

// ca makes certificates for the TLS tests.
type ca struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newCA(t testing.TB) *ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &ca{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (c *ca) issue(t testing.TB, serial int64, names []string, ips ...net.IP) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "leaf"}, DNSNames: names, IPAddresses: ips,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, c.cert, &key.PublicKey, c.key)
	must(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// TLS at the listener: client certificates are demanded, and a new certificate
// is served without a change of the listener.
func TestListenerTLS(t *testing.T) {
	t.Parallel()
	authority := newCA(t)
	s := prepare(t, stackOptions{})
	install := func(serial int64) {
		cert, key := authority.issue(t, serial, nil, net.IPv4(127, 0, 0, 1))
		must(t, os.WriteFile(s.path("tls/key.pem"), key, 0o600))
		must(t, os.WriteFile(s.path("tls/cert.pem"), cert, 0o600))
	}
	must(t, os.Mkdir(s.path("tls"), 0o755))
	must(t, os.WriteFile(s.path("tls/ca.pem"), authority.pem, 0o600))
	install(100)
	config := strings.Replace(s.sidecarYAML(), "inbound: {address: "+s.inbound+"}", fmt.Sprintf(
		"inbound: {address: %s, tls: {cert_file: %[2]s/cert.pem, key_file: %[2]s/key.pem, client_ca_file: %[2]s/ca.pem}}", s.inbound, s.path("tls")), 1)
	must(t, os.WriteFile(s.path("sidecar.yaml"), []byte(config), 0o600))
	s.startSidecar()
	s.startEnvoy()

	roots := x509.NewCertPool()
	roots.AddCert(authority.cert)
	certPEM, keyPEM := authority.issue(t, 7, []string{"client"})
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	must(t, err)
	get := func(certs ...tls.Certificate) (int, int64) {
		c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certs},
		}}
		resp, err := c.Get("https://" + s.inbound + "/status")
		if err != nil {
			return 0, 0
		}
		resp.Body.Close()
		return resp.StatusCode, resp.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	if code, serial := get(pair); code != 200 || serial != 100 {
		t.Fatalf("with a client certificate: %d, serial %d", code, serial)
	}
	before := s.app.Count()
	if code, _ := get(); code != 0 || s.app.Count() != before {
		t.Errorf("without a client certificate: %d", code)
	}
	modified := s.stat("listener_manager.listener_modified")
	install(101)
	envoytest.Eventually(t, "the new certificate is served", func() bool { _, serial := get(pair); return serial == 101 })
	if s.stat("listener_manager.listener_modified") != modified {
		t.Error("a certificate changed the listener")
	}
	must(t, os.WriteFile(s.path("tls/cert.pem"), []byte("no certificate"), 0o600))
	envoytest.Eventually(t, "the bad certificate is refused", func() bool { return len(s.sidecar.Status().Envoy.Nacks) > 0 })
	if n := s.sidecar.Status().Envoy.Nacks[0]; n.Type != "secret" || strings.Contains(n.Reason, "BEGIN") {
		t.Errorf("shown as %+v", n)
	}
	if code, serial := get(pair); code != 200 || serial != 101 {
		t.Errorf("after a bad certificate: %d, serial %d", code, serial)
	}
}

// TLS to the upstream is verified against the host of its URL, always.
func TestUpstreamTLS(t *testing.T) {
	t.Parallel()
	authority, stranger := newCA(t), newCA(t)
	serve := func(c *ca, ips ...net.IP) string {
		certPEM, keyPEM := c.issue(t, 5, nil, ips...)
		pair, err := tls.X509KeyPair(certPEM, keyPEM)
		must(t, err)
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}})
		must(t, err)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) })}
		go srv.Serve(l)
		t.Cleanup(func() { srv.Close() })
		return "https://" + l.Addr().String()
	}
	local := net.IPv4(127, 0, 0, 1)
	urls := map[string]string{"good": serve(authority, local), "other": serve(authority, net.IPv4(10, 0, 0, 1)), "unknown": serve(stranger, local)}
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "ca.pem"), authority.pem, 0o644))
	var ups, routes strings.Builder
	for name, url := range urls {
		fmt.Fprintf(&ups, "  %s: {url: %q, ca_file: %s}\n", name, url, filepath.Join(dir, "ca.pem"))
		fmt.Fprintf(&routes, "  - {name: %[1]s, match: {listener: outbound, base: /%[1]s, prefix: /}, upstream: %[1]s, permission: task.view}\n", name)
	}
	s := start(t, stackOptions{Config: "  # upstreams go on\n" + ups.String() + "routes:\n" + routes.String()})
	if a := s.get(s.outbound + "/good/x"); a.Status != 200 || a.Body != strings.TrimPrefix(urls["good"], "https://") {
		t.Errorf("a good certificate: %d %s", a.Status, a.Body)
	}
	for _, name := range []string{"other", "unknown"} {
		if a := s.get(s.outbound + "/" + name + "/x"); a.Status != 503 || a.Code != "upstream.unavailable" {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
	}
}

// The Exchange is not in this build: a Process call is answered UNIMPLEMENTED,
// which Envoy turns into a refusal (TestBrokenFilterConfigurationRefuses).
func TestKeysAreLiveData(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{})
	dev := s.issuer.Token("developer", "org1")
	if a := s.get(s.inbound+"/p/1", bearer(dev)...); a.Status != 200 {
		t.Fatalf("before: %d", a.Status)
	}
	revision := s.sidecar.Status().Revision
	other := newIssuerKeys(t)
	must(t, os.WriteFile(s.path("jwks.json"), other, 0o600))
	envoytest.Eventually(t, "the removed key is refused", func() bool {
		return s.get(s.inbound+"/p/1", bearer(dev)...).Code == "auth.invalid_token"
	})
	must(t, os.WriteFile(s.path("jwks.json"), s.issuer.JWKS(), 0o600))
	envoytest.Eventually(t, "the key is back", func() bool { return s.get(s.inbound+"/p/1", bearer(dev)...).Status == 200 })
	if s.sidecar.Status().Revision != revision {
		t.Error("keys are part of the revision")
	}
}

package extauthz_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"

	"google.golang.org/protobuf/proto"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"gatehouse/extauthz"
	"gatehouse/internal/envoyconf"
	"gatehouse/internal/live"
	"gatehouse/internal/request"
	"gatehouse/internal/snapshot"

	"gatehouse/internal/config"
)

func shapeOf(snap *snapshot.Snapshot, r *config.Route) string {
	return envoyconf.Shape(r, snap.Set.Upstreams[r.Upstream])
}

// What Envoy says of the route must be known, whole, in the revision it names:
// else 503, and never nohold.
func TestCheckLocates(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	good := func() *authv3.CheckRequest {
		return h.ask("tasks", "GET", "/p/1", "authorization", "Bearer "+h.issuer.Token("developer", "org1"))
	}
	if got := status(h.check(good())); got != 200 {
		t.Fatalf("the request that is spoilt below got %d", got)
	}
	current := good()
	current.Attributes.ContextExtensions["rev"] = "current"
	resp := h.check(current)
	if rev := resp.GetDynamicMetadata().GetFields()["revision"].GetStringValue(); status(resp) != 200 || rev != h.table.Current().Revision {
		t.Errorf("rev current: %d, revision %s", status(resp), rev)
	}
	ext := func(k, v string) func(*authv3.CheckRequest) {
		return func(r *authv3.CheckRequest) { r.Attributes.ContextExtensions[k] = v }
	}
	for name, spoil := range map[string]func(*authv3.CheckRequest){
		"unknown revision": ext("rev", "0000"),
		"no revision":      ext("rev", ""),
		"unknown route":    ext("route", "ghost"),
		"no route":         ext("route", ""),
		"another route":    ext("route", "status"),
		"exempt route":     ext("route", "health"),
		"unknown shape":    ext("shape", "0000"),
		"no shape":         ext("shape", ""),
		"no extensions":    func(r *authv3.CheckRequest) { r.Attributes.ContextExtensions = nil },
		"joined headers":   func(r *authv3.CheckRequest) { r.Attributes.Request.Http.HeaderMap = nil },
		"no request":       func(r *authv3.CheckRequest) { r.Attributes.Request = nil },
		"no attributes":    func(r *authv3.CheckRequest) { r.Attributes = nil },
	} {
		r := good()
		spoil(r)
		resp := h.check(r)
		if status(resp) != 503 || nohold(resp) || !strings.Contains(resp.GetDeniedResponse().GetBody(), "policy.unavailable") {
			t.Errorf("%s: %d, nohold %v", name, status(resp), nohold(resp))
		}
	}
	// Nobody is asked about an exempt route: whoever asks has other routes.
	if resp := h.check(h.ask("health", "GET", "/healthz")); status(resp) != 503 || nohold(resp) {
		t.Errorf("an exempt route with its own shape: %d, nohold %v", status(resp), nohold(resp))
	}
}

// An event's route becomes a label that stays: it must not be cut from the
// message, which with its body would stay, too.
func TestEventsRouteIsTheSets(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.check(h.ask("status", "GET", "/status"))
	routes := h.table.Current().Set.Routes
	i := slices.IndexFunc(routes, func(r config.Route) bool { return r.Name == "status" })
	if got := h.event().Route; got != "status" || unsafe.StringData(got) != unsafe.StringData(routes[i].Name) {
		t.Errorf("%q is a string of its own", got)
	}
}

// Hygiene looks at every part of the request, under observe too.
func TestCheckRefusesWhatIsMalformed(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for rule, spoil := range map[string]func(*authv3.AttributeContext_HttpRequest){
		"method_malformed":   func(r *authv3.AttributeContext_HttpRequest) { r.Method = "Get" },
		"path_not_canonical": func(r *authv3.AttributeContext_HttpRequest) { r.Path = "/watched//1" },
		"query_malformed":    func(r *authv3.AttributeContext_HttpRequest) { r.Path = "/watched?a=%" },
		"host_malformed":     func(r *authv3.AttributeContext_HttpRequest) { r.Host = "root@app.test" },
		"header_duplicate": func(r *authv3.AttributeContext_HttpRequest) {
			r.HeaderMap.Headers = append(r.HeaderMap.Headers, r.HeaderMap.Headers...)
		},
	} {
		req := h.ask("watched", "GET", "/watched")
		spoil(req.Attributes.Request.Http)
		resp := h.check(req)
		if e := h.event(); status(resp) != 400 || nohold(resp) || e.Refusal == nil || e.Refusal.Rule != rule {
			t.Errorf("%s: %d by %+v", rule, status(resp), e.Refusal)
		}
	}
}

func TestCheckIdentifies(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	dev := "Bearer " + h.issuer.Token("developer", "org1")
	other := "Bearer " + h.issuer.Token("developer", "org2")
	crossing := "Bearer " + h.issuer.Token("admin", "*")
	crossingDev := "Bearer " + h.issuer.Token("developer", "*")
	cases := []struct {
		name, route, path string
		headers           []string
		status            int
		rule, subject     string
	}{
		{"token", "tasks", "/p/1", []string{"authorization", dev}, 200, "role_permission", "agent-7"},
		{"none inbound", "tasks", "/p/1", nil, 401, "no_token", ""},
		{"none on a public route", "status", "/status", nil, 200, "no_permission_needed", ""},
		{"bad token on a public route", "status", "/status", []string{"authorization", dev + "x"}, 401, "token_refused", ""},
		{"none outbound", "tools", "/tools/1", nil, 200, "role_permission", "agent-7"},
		{"bad token outbound", "tools", "/tools/1", []string{"authorization", dev + "x"}, 401, "token_refused", ""},
		{"foreign key outbound", "tools", "/tools/1", []string{"x-api-key", "sk-1"}, 200, "role_permission", "agent-7"},
		{"foreign key inbound", "tasks", "/p/1", []string{"x-api-key", "sk-1"}, 401, "no_token", ""},
		{"token on a workload route", "work", "/work/1", []string{"authorization", dev}, 400, "token_not_expected", ""},
		{"another tenant", "tasks", "/p/1", []string{"authorization", other}, 403, "tenant_not_served", ""},
		{"every tenant as admin", "tasks", "/p/1", []string{"authorization", crossing}, 200, "role_permission", "agent-7"},
		{"every tenant as developer", "tasks", "/p/1", []string{"authorization", crossingDev}, 403, "tenant_crossing", ""},
	}
	for _, c := range cases {
		resp := h.check(h.ask(c.route, "GET", c.path, c.headers...))
		e := h.event()
		rule := e.Rule
		if e.Refusal != nil {
			rule = e.Refusal.Rule
		}
		if status(resp) != c.status || rule != c.rule || nohold(resp) != (c.status == 200) {
			t.Errorf("%s: got %d by %s, want %d by %s", c.name, status(resp), rule, c.status, c.rule)
		}
	}
}

func TestCheckWithoutWorkload(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(o *extauthz.Options) { o.Live = live.New(live.Binding{Tenant: "org1"}, false, time.Now) })
	if got := status(h.check(h.ask("tools", "GET", "/tools/1"))); got != 401 {
		t.Errorf("got %d, want 401", got)
	}
}

func TestCheckPermits(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	auth := []string{"authorization", "Bearer " + h.issuer.Token("observer", "org1")}
	for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 403, "PUT": 405, "OPTIONS": 405, "TRACE": 405, "get": 400} {
		resp := h.check(h.ask("tasks", method, "/p/1", auth...))
		if status(resp) != want {
			t.Errorf("%s: got %d, want %d", method, status(resp), want)
		}
		if want == 405 && method != "TRACE" {
			if allow, _ := headerOf(resp.GetDeniedResponse().GetHeaders(), "allow"); allow != "GET, HEAD, POST" {
				t.Errorf("%s: allow is %q", method, allow)
			}
		}
	}
}

// A denied request takes from no limit, and a limited one says when to come.
func TestCheckLimits(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	dev := []string{"authorization", "Bearer " + h.issuer.Token("developer", "org1")}
	ask := func() *authv3.CheckResponse { return h.check(h.ask("few", "GET", "/few", dev...)) }
	for range 5 { // these are refused before they are counted
		h.check(h.ask("few", "GET", "/few"))
	}
	for i, want := range []int{200, 200, 429} {
		resp := ask()
		if status(resp) != want {
			t.Fatalf("request %d: got %d, want %d", i, status(resp), want)
		}
		list := resp.GetOkResponse().GetResponseHeadersToAdd()
		if want == 429 {
			list = resp.GetDeniedResponse().GetHeaders()
			if after, ok := headerOf(list, "retry-after"); !ok || after == "0" {
				t.Errorf("retry-after %q", after)
			}
		}
		if r, ok := headerOf(list, "ratelimit"); !ok || !strings.Contains(r, "few") {
			t.Errorf("request %d: ratelimit %q", i, r)
		}
	}
	h.now = h.now.Add(31 * time.Second)
	if got := status(ask()); got != 200 {
		t.Errorf("after half a minute: %d", got)
	}
}

// Whoever has one IPv6 network has all of its addresses: they count as one.
func TestAnonymousLimitsCountNetworks(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ask := func(address string) *extauthz.Event {
		req := h.ask("watched", "GET", "/watched")
		req.Attributes.Source.Address.GetSocketAddress().Address = address
		h.check(req)
		return h.event()
	}
	limited := func(e *extauthz.Event) bool {
		return slices.ContainsFunc(e.Would, func(r *extauthz.Refusal) bool { return r.Class == extauthz.ClassLimit })
	}
	ask("2001:db8::1")
	ask("2001:db8::2")
	if !limited(ask("2001:db8:0:0:ffff::3")) {
		t.Error("a third address of the same /64 has a burst of its own")
	}
	if limited(ask("2001:db8:0:1::1")) || limited(ask("192.0.2.1")) || limited(ask("192.0.2.2")) {
		t.Error("another network is limited")
	}
}

// Observe lets go on what identity, policy and limits would refuse, without
// the upstream's credential, and records each. Hygiene is refused all the same.
func TestCheckObserves(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	bad := "Bearer " + h.issuer.Token("developer", "org1") + "x"
	resp := h.check(h.ask("watched", "GET", "/watched", "authorization", bad))
	e := h.event()
	if status(resp) != 200 || !nohold(resp) || e.Principal.Kind != "anonymous" {
		t.Fatalf("bad token: %d, principal %+v", status(resp), e.Principal)
	}
	if !slices.Contains(resp.GetOkResponse().GetHeadersToRemove(), "authorization") {
		t.Error("a value of ours must be removed")
	}
	if len(e.Would) != 2 || e.Would[0].Class != extauthz.ClassIdentity || e.Would[1].Class != extauthz.ClassPolicy {
		t.Errorf("recorded: %+v", e.Would)
	}
	for range 3 {
		h.check(h.ask("watched", "GET", "/watched"))
	}
	if e := h.event(); !slices.ContainsFunc(e.Would, func(r *extauthz.Refusal) bool { return r.Class == extauthz.ClassLimit }) || !e.Allowed {
		t.Errorf("the limit is not recorded: %+v", e.Would)
	}
	out := h.check(h.ask("watched-out", "GET", "/watched/1", "x-api-key", "sk-own"))
	if _, credential := headerOf(out.GetOkResponse().GetHeaders(), "authorization"); status(out) != 200 || credential {
		t.Errorf("denied by policy and observed: %d, credential %v", status(out), credential)
	}
	if slices.Contains(out.GetOkResponse().GetHeadersToRemove(), "x-api-key") {
		t.Error("the app's own key must pass where ours is withheld")
	}
	if got := status(h.check(h.ask("watched", "GET", "/watched/%2f"))); got != 400 {
		t.Errorf("hygiene under observe: %d, want 400", got)
	}
}

func TestCheckAnswers(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	obs := "Bearer " + h.issuer.Token("observer", "org1")
	resp := h.check(h.ask("tasks", "POST", "/p/1", "authorization", obs, "accept", "application/problem+json"))
	d := resp.GetDeniedResponse()
	if ct, _ := headerOf(d.GetHeaders(), "content-type"); ct != "application/problem+json" {
		t.Errorf("content-type %s", ct)
	}
	id := resp.GetDynamicMetadata().GetFields()["decision_id"].GetStringValue()
	if id == "" || !strings.Contains(d.GetBody(), id) || !strings.Contains(d.GetBody(), "req-1") {
		t.Errorf("the body %s lacks the decision %s or the request", d.GetBody(), id)
	}
	if strings.Contains(d.GetBody(), "role_lacks_permission") {
		t.Error("the rule is shown although the policy set does not say so")
	}
	missing := h.check(h.ask("tasks", "GET", "/p/1"))
	if v, _ := headerOf(missing.GetDeniedResponse().GetHeaders(), "www-authenticate"); v != "Bearer" {
		t.Errorf("www-authenticate %q", v)
	}
}

// A fault of ours is an error to Envoy, which refuses; it is no denial and
// nothing passes.
func TestCheckPanicIsAnError(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(o *extauthz.Options) { o.Limiter = nil })
	dev := "Bearer " + h.issuer.Token("developer", "org1")
	resp, err := h.call(h.ask("few", "GET", "/few", "authorization", dev))
	if err == nil || resp != nil {
		t.Fatalf("got %v, %v", resp, err)
	}
	if e := h.event(); e.Allowed || e.Refusal == nil || e.Refusal.Class != extauthz.ClassFault {
		t.Errorf("recorded: %+v", e)
	}
}

// What is no message is an error too, and is seen.
func TestCheckRefusesWhatIsNoMessage(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	if resp, err := h.Check(context.Background(), []byte{0x0a, 0xff}); err == nil || resp != nil {
		t.Fatalf("got %v, %v", resp, err)
	}
	if e := h.event(); e.Allowed || e.Refusal.Rule != "message_malformed" {
		t.Errorf("recorded: %+v", e)
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	s := request.Secret("hunter2")
	text, _ := s.MarshalText()
	for _, got := range []string{s.String(), s.GoString(), s.LogValue().String(), string(text)} {
		if strings.Contains(got, "hunter2") {
			t.Errorf("printed as %s", got)
		}
	}
}

// Whatever Envoy sends: an answer, nohold exactly when the request goes on,
// and nothing goes on with a path that is not canonical.
func FuzzCheck(f *testing.F) {
	for _, path := range []string{"/p/1", "/p/a%2fb", "/p/..;/x", "/p/%c0%ae", "/p?key=a.b.c", "*", "", "/p/%"} {
		f.Add("GET", path, "a", "authorization", "Bearer a.b.c", "tasks")
	}
	h := newHarness(f)
	f.Fuzz(func(t *testing.T, method, path, host, name, value, route string) {
		for _, s := range []string{method, path, host, name, route} {
			if !utf8.ValidString(s) {
				t.Skip("no protobuf string")
			}
		}
		h.events = nil
		req := h.ask(route, method, path, name, value)
		req.Attributes.Request.Http.Host = host
		resp, err := h.call(req)
		if err != nil {
			t.Fatalf("%v", err)
		}
		passed := status(resp) == 200
		if passed != nohold(resp) || passed != h.event().Allowed || (!passed && status(resp) < 400) {
			t.Fatalf("status %d, nohold %v, allowed %v", status(resp), nohold(resp), h.event().Allowed)
		}
		if passed && strings.ContainsAny(strings.SplitN(path, "?", 2)[0], ";\\#\x00 ") {
			t.Fatalf("%q passed", path)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	h := newHarness(b, func(o *extauthz.Options) { o.Observe = func(*extauthz.Event) {} })
	auth := "Bearer " + h.issuer.Token("developer", "org1")
	req := h.ask("tasks", "GET", "/p/1", "authorization", auth, "user-agent", "curl/8", "accept", "*/*", "x-forwarded-proto", "http")
	message, err := proto.Marshal(req)
	check(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Check(context.Background(), message); err != nil {
			b.Fatal(err)
		}
	}
}

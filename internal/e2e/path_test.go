package e2e

import "testing"

// One request of each kind, through everything.
func TestRequestsPassOrNot(t *testing.T) {
	t.Parallel()
	s := start(t, stackOptions{})
	dev, observer := s.issuer.Token("developer", "org1"), s.issuer.Token("observer", "org1")

	before := s.app.Count()
	s.refused("no token", before, s.get(s.inbound+"/p/1"), 401, "auth.missing_token")
	s.refused("observer writes", before, s.do("POST", s.inbound+"/p/1", "{}", bearer(observer)...), 403, "auth.forbidden")
	s.refused("method not listed", before, s.do("PUT", s.inbound+"/p/1", "{}", bearer(dev)...), 405, "validation.method_not_allowed")
	s.refused("no route", before, s.get(s.inbound+"/nowhere", bearer(dev)...), 404, "resource.not_found")

	a := s.do("POST", s.inbound+"/p/1?x=1", `{"a":1}`, append(bearer(dev), "x-gatehouse-role", "admin")...)
	if a.Status != 200 || s.app.Count() != before+1 {
		t.Fatalf("developer writes: got %d %s, upstream %d", a.Status, a.Body, s.app.Count()-before)
	}
	last := s.app.Last()
	if last.Target != "/p/1?x=1" || last.Body != `{"a":1}` {
		t.Errorf("the upstream got %s %q", last.Target, last.Body)
	}
	if last.Header.Get("authorization") != "" {
		t.Error("the token reached the upstream")
	}
	if got := last.Header.Values("x-gatehouse-role"); len(got) != 1 || got[0] != "developer" {
		t.Errorf("x-gatehouse-role at the upstream: %q", got)
	}
	if last.Header.Get("x-gatehouse-tenant") != "org1" || last.Header.Get("x-gatehouse-decision-id") == "" {
		t.Errorf("identity headers at the upstream: %v", last.Header)
	}
}

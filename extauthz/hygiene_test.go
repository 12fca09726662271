package extauthz

import "testing"

// Envoy hides some of these by normalising first; an Envoy that is not
// configured by us need not.
func TestBadPath(t *testing.T) {
	t.Parallel()
	for path, bad := range map[string]bool{
		"/": false, "/p/a": false, "/p/a%20b": false, "/p/100%25": false, "/p/%25zz": false, "/p/caf%C3%A9": false, "/p/...": false,
		"": true, "p": true, "//p": true, "/p//a": true, "/p/./a": true, "/p/..": true, "/p/%2e%2e/a": true, "/p/a;b": true,
		"/p/a%3bb": true, `/p\a`: true, "/p/a%5cb": true, "/p/a%2fb": true, "/p/a#b": true, "/p/%252e": true, "/p/%2541": true,
		"/p/%zz": true, "/p/%4": true, "/p/%00": true, "/p/%1f": true, "/p/%7f": true, "/p/\x01": true, "/p/ a": true,
		"/p/\xc3\xa9": true, "/p/%c0%ae": true, "/p/%ff": true,
	} {
		if why := badPath(path); (why != "") != bad {
			t.Errorf("%q: %q, want bad %v", path, why, bad)
		}
	}
}

func TestBadQuery(t *testing.T) {
	t.Parallel()
	for query, bad := range map[string]bool{
		"": false, "a=b&c": false, "a=%20": false, "a=/../": false,
		"a=%": true, "a=%4": true, "a=%zz": true, "a b": true, "a=\x01": true, "a=\xe9": true, "a=\x7f": true, "a#b": true,
	} {
		if why := badQuery(query); (why != "") != bad {
			t.Errorf("%q: %q, want bad %v", query, why, bad)
		}
	}
}

func TestGoodHost(t *testing.T) {
	t.Parallel()
	for host, good := range map[string]bool{
		"a.test": true, "a.test:80": true, "[2001:db8::1]:80": true, "A_b.": true,
		"": false, "root@a": false, "a/b": false, "a b": false, "a\x00": false, "a%2f": false, "caf\xe9": false,
	} {
		if goodHost(host) != good {
			t.Errorf("%q: want %v", host, good)
		}
	}
}

func TestHeadersThatDecideSomething(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hs   headers
		rule string
	}{
		"once":              {headers{{Name: "authorization", Value: "Bearer a"}, {Name: "accept", Value: "a"}, {Name: "accept", Value: "b"}}, ""},
		"twice":             {headers{{Name: "x-api-key", Value: "a"}, {Name: "x-api-key", Value: "a"}}, "header_duplicate"},
		"control byte":      {headers{{Name: "authorization", Value: "Bearer\ta"}}, "header_malformed"},
		"beyond ASCII":      {headers{{Name: "x-api-key", Value: "k\xe9y"}}, "header_malformed"},
		"beyond, elsewhere": {headers{{Name: "x-note", Value: "k\xe9y"}}, ""},
		"joined type":       {headers{{Name: "content-type", Value: "a/b,c/d"}}, "header_duplicate"},
		"quoted comma":      {headers{{Name: "content-type", Value: `a/b; x="1,2"`}}, ""},
	} {
		got := ""
		if r := c.hs.bad(); r != nil {
			got = r.Rule
		}
		if got != c.rule {
			t.Errorf("%s: %q, want %q", name, got, c.rule)
		}
	}
}

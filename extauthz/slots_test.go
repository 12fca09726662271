package extauthz

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gatehouse/internal/config"
	"gatehouse/internal/token"
	"gatehouse/internal/tokentest"
)

func verifier(t *testing.T) (*token.Verifier, *tokentest.Issuer) {
	t.Helper()
	issuer := tokentest.NewIssuer(t, "main", "https://issuer.test", "gatehouse")
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, issuer.JWKS(), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := token.NewVerifier([]config.Issuer{issuer.Config(config.JWKS{File: path})}, token.NewKeys(token.KeysOptions{}), token.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v, issuer
}

// Whatever part of a value is a token makes it ours; only one that is bare, or
// behind the scheme Bearer, can pass as one.
func TestHeaderSlot(t *testing.T) {
	t.Parallel()
	v, issuer := verifier(t)
	tok := issuer.Token("developer", "org1")
	for value, want := range map[string]slot{
		tok:                           {raw: tok, ours: true},
		"Bearer " + tok:               {raw: tok, ours: true},
		"bEARER " + tok:               {raw: tok, ours: true},
		"Basic " + tok:                {raw: "Basic " + tok, ours: true},
		"Bearer v1.0 " + tok:          {raw: "Bearer v1.0 " + tok, ours: true},
		"Token v1.0\t" + tok:          {raw: "Token v1.0\t" + tok, ours: true},
		"Bearer a.b " + tok + " c.d":  {raw: "Bearer a.b " + tok + " c.d", ours: true},
		"sk-1," + tok:                 {raw: "sk-1," + tok, ours: true},
		"a.b.c," + tok:                {raw: "a.b.c," + tok, ours: true},
		"Bearer a.b.c, Bearer " + tok: {raw: "Bearer a.b.c, Bearer " + tok, ours: true},
		"v=1.0;" + tok:                {raw: "v=1.0;" + tok, ours: true},
		"Bearer sk-1":                 {raw: "Bearer sk-1"},
		"Bearer a.b.c":                {raw: "Bearer a.b.c"},
		"a.b.c, d.e.f;g.h.i j.k.l":    {raw: "a.b.c, d.e.f;g.h.i j.k.l"},
		"":                            {},
		"Bearer " + strings.Repeat("k", token.MaxTokenBytes-6): {raw: "Bearer " + strings.Repeat("k", token.MaxTokenBytes-6), ours: true},
	} {
		want.name = "authorization"
		if got := headerSlot(v, "authorization", value); got != want {
			t.Errorf("%.60q: got ours %v, raw %.60q", value, got.ours, got.raw)
		}
	}
	if got := headerSlot(v, "x-api-key", "Bearer "+tok); !got.ours || got.raw == tok {
		t.Error("a scheme is part of the value where none belongs")
	}
}

// Each way in which a reader of the query could find a token counts.
func TestQuerySlot(t *testing.T) {
	t.Parallel()
	v, issuer := verifier(t)
	tok := issuer.Token("developer", "org1")
	for value, ours := range map[string]bool{
		tok: true, strings.ReplaceAll(tok, ".", "%2e"): true, "v1.0+" + tok: true, "v1.0%20" + tok: true, plusInPayload(t): true,
		"": false, "sk-1": false, "a.b.c": false, "a.b+c.d.e": false,
	} {
		if got := querySlot(v, value, 3); got.ours != ours || got.name != "?key" || got.member != 3 {
			t.Errorf("%.60q: got %+v, want ours %v", value, got, ours)
		}
	}
}

// plusInPayload is a value that is ours only to those who leave the plus signs
// of base64 as they are: as spaces, they would shift what follows.
func plusInPayload(t *testing.T) string {
	t.Helper()
	claims, err := json.Marshal(map[string]string{"a": "\u03be>>>", "iss": "https://issuer.test"})
	if err != nil {
		t.Fatal(err)
	}
	payload := base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(string(claims), `\u003e`, ">")))
	if !strings.Contains(payload, "+") {
		t.Fatalf("no plus in %s", payload)
	}
	return "a." + payload + ".c"
}

func TestReadQuerySlots(t *testing.T) {
	t.Parallel()
	v, _ := verifier(t)
	for query, want := range map[string]struct {
		members []int
		rule    string
	}{
		"":              {},
		"a=1;b=2":       {},
		"a&key=1&b&key": {members: []int{1, 3}},
		"KEY=1&keys=2":  {},
		"k%65y=1":       {rule: "query_key_escaped"},
		"key=1;b=2":     {rule: "query_key_ambiguous"},
		"b=2;key=1":     {rule: "query_key_ambiguous"},
		"b=2;k%65y":     {rule: "query_key_ambiguous"},
		"b;c&key=1":     {rule: "query_key_ambiguous"},
	} {
		c := &check{in: &envoyRequest{Path: "/p?" + query}}
		r := c.readQuerySlots(v)
		rule := ""
		if r != nil {
			rule = r.Rule
		}
		var members []int
		for _, s := range c.slots {
			members = append(members, s.member)
		}
		if rule != want.rule || (rule == "" && !slices.Equal(members, want.members)) {
			t.Errorf("%q: got %v, refused by %q, want %+v", query, members, rule, want)
		}
	}
	if r := (&check{in: &envoyRequest{Path: "/p"}}).readQuerySlots(v); r != nil {
		t.Errorf("no query: %+v", r)
	}
}

func TestWithoutMembers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		target  string
		members []int
		want    string
	}{
		{"/p?key=1", []int{0}, "/p"},
		{"/p?key=1&", []int{0}, "/p"},
		{"/p?a=%26&key=1&b==", []int{1}, "/p?a=%26&b=="},
		{"/p?key=1&a&key=2", []int{0, 2}, "/p?a"},
		{"/p?&&key=1&&", []int{2}, "/p?&&&"},
		{"/p?a?&key", []int{1}, "/p?a?"},
		{"/p?key&?", []int{0}, "/p??"},
	} {
		if got := withoutMembers(c.target, c.members); got != c.want {
			t.Errorf("%s without %v: got %s, want %s", c.target, c.members, got, c.want)
		}
	}
}

func FuzzWithoutMembers(f *testing.F) {
	f.Add("a=1&key=2&b", 1)
	f.Add("key=1", 0)
	f.Fuzz(func(t *testing.T, query string, n int) {
		members := strings.Split(query, "&")
		if n < 0 || n >= len(members) {
			t.Skip("no such member")
		}
		want := "/p"
		if rest := strings.Join(slices.Delete(members, n, n+1), "&"); rest != "" {
			want += "?" + rest
		}
		if got := withoutMembers("/p?"+query, []int{n}); got != want {
			t.Errorf("%q without %d: got %s, want %s", query, n, got, want)
		}
	})
}

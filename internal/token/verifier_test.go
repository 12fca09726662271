package token

import (
	"bytes"
	"context"
	"encoding/base64"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/config"
	"gatehouse/internal/request"
	"gatehouse/internal/tokentest"
)

func TestVerifyPrincipal(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	v, _, _ := newVerifier(t, is, nil)
	now := time.Now()
	want := request.Principal{
		Kind: request.KindToken, Issuer: "main", Subject: "agent-7", Role: request.RoleDeveloper, Tenant: "acme",
		Project: "p1", Agent: "a1", Run: "r1", TokenID: "0198-token", Issued: time.Unix(now.Unix(), 0), Expires: time.Unix(now.Add(tokentest.Lifetime).Unix(), 0),
	}
	raw := is.Mint(is.Claims(now, "developer", "acme"))
	for _, state := range []string{"fresh", "cached"} {
		got, err := v.Verify(t.Context(), now, raw)
		if err != nil {
			t.Fatalf("%s: %v", state, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: principal (-want +got):\n%s", state, diff)
		}
	}
}

func TestVerifyMappedClaims(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	v, _, _ := newVerifier(t, is, func(c *config.Issuer) {
		c.Claims = config.Claims{Role: "https://x/role", Tenant: "org", Project: "proj", Agent: "sub", Run: "run"}
	})
	now := time.Now()
	claims := is.Claims(now, "admin", "wrong")
	claims["https://x/role"], claims["org"] = "observer", "acme"
	got, err := v.Verify(t.Context(), now, is.Mint(claims))
	if err != nil {
		t.Fatal(err)
	}
	if got.Role != request.RoleObserver || got.Tenant != "acme" || got.Agent != "agent-7" || got.Project != "" {
		t.Errorf("got %+v", got)
	}
	claims["Org"] = "other"
	wantCode(t, v, now, is.Mint(claims), Invalid)
}

func TestEveryAlgorithm(t *testing.T) {
	t.Parallel()
	rsa := tokentest.NewKey(t, "RS256", "main-1")
	for _, alg := range []string{"EdDSA", "ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "HS256"} {
		is := &tokentest.Issuer{Name: "main", Iss: testIss, Audience: testAudience, Key: rsa.As(alg)}
		if alg[0] != 'R' && alg[0] != 'P' {
			is.Key = tokentest.NewKey(t, alg, "main-1")
		}
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			v, _, _ := newVerifier(t, is, nil)
			now := time.Now()
			good := is.Mint(is.Claims(now, "developer", "acme"))
			wantCode(t, v, now, good, "")
			for _, bad := range spoiled(t, good) {
				wantCode(t, v, now, bad, Invalid)
			}
		})
	}
}

// spoiled returns a token with signatures that are wrong for any algorithm.
func spoiled(t *testing.T, good string) []string {
	t.Helper()
	dot := strings.LastIndex(good, ".")
	sig, err := base64.RawURLEncoding.DecodeString(good[dot+1:])
	if err != nil {
		t.Fatal(err)
	}
	half, flipped := len(sig)/2, bytes.Clone(sig)
	flipped[half] ^= 1
	zero := make([]byte, half)
	var out []string
	for _, bad := range [][]byte{
		flipped, sig[:len(sig)-1], append(bytes.Clone(sig), 0), append([]byte{0}, sig...), make([]byte, len(sig)), {0},
		append(bytes.Clone(zero), sig[half:]...), append(bytes.Clone(sig[:half]), zero...),
	} {
		out = append(out, good[:dot+1]+base64.RawURLEncoding.EncodeToString(bad))
	}
	return out
}

// A key binds the algorithm, and its curve or type does even without alg.
func TestKeyDoesNotFitAlgorithm(t *testing.T) {
	t.Parallel()
	allow := []string{"EdDSA", "ES256", "ES384", "RS256", "RS384", "PS256"}
	rsa := tokentest.NewKey(t, "RS256", "main-1")
	for name, pair := range map[string][2]*tokentest.Key{ // published, signing
		"P-384 key, alg ES256":      {tokentest.NewKey(t, "ES384", "main-1"), tokentest.NewKey(t, "ES256", "main-1")},
		"RSA key bound to RS256":    {rsa, rsa.As("PS256")},
		"RSA key bound to RS384":    {rsa.As("RS384"), rsa},
		"Ed25519 key, alg RS256":    {tokentest.NewKey(t, "EdDSA", "main-1"), rsa},
		"RSA key, alg EdDSA":        {rsa, tokentest.NewKey(t, "EdDSA", "main-1")},
		"P-256 key, alg of Ed25519": {tokentest.NewKey(t, "ES256", "main-1"), tokentest.NewKey(t, "EdDSA", "main-1")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := &tokentest.Issuer{Name: "main", Iss: testIss, Audience: testAudience, Key: pair[0]}
			v, _, _ := newVerifier(t, is, func(c *config.Issuer) { c.Algorithms = allow })
			now := time.Now()
			wantCode(t, v, now, is.Mint(is.Claims(now, "developer", "acme")), "")
			is.Key = pair[1]
			wantCode(t, v, now, is.Mint(is.Claims(now, "developer", "acme")), Invalid)
		})
	}
}

// The library would verify an ES256 signature made with a P-384 key.
func TestES256WithP384Key(t *testing.T) {
	t.Parallel()
	k := tokentest.NewKey(t, "ES384", "main-1")
	jwk := k.JWK()
	delete(jwk, "alg")
	is := &tokentest.Issuer{Name: "main", Iss: testIss, Audience: testAudience, Key: k.As("ES256")}
	set, err := parseKeySet(document(t, jwk), false)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parse(is.Mint(is.Claims(time.Now(), "developer", "acme")))
	if err != nil {
		t.Fatal(err)
	}
	if err := verifySignature(set.keys[0], "ES256", parsed); err != nil {
		t.Fatalf("the library refuses by itself now: %v", err)
	}
	a, _ := algorithmOf("ES256")
	if _, _, err := set.find(a, "main-1"); codeOf(t, err) != Invalid {
		t.Errorf("find: got %v, want Invalid", err)
	}
}

func TestWithoutKid(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	second, ec := tokentest.NewKey(t, "EdDSA", "main-2"), tokentest.NewKey(t, "ES256", "ec-1")
	now := time.Now()
	raw := is.Sign(`{"alg":"EdDSA"}`, claimsJSON(t, is.Claims(now, "developer", "acme")))
	for name, c := range map[string]struct {
		keys []*tokentest.Key
		want Code
	}{
		"one key":              {[]*tokentest.Key{is.Key}, ""},
		"one key that fits":    {[]*tokentest.Key{ec, is.Key}, ""},
		"two keys that fit":    {[]*tokentest.Key{is.Key, second}, Invalid},
		"no key that fits":     {[]*tokentest.Key{ec}, Invalid},
		"no key at all":        {nil, Invalid},
		"only somebody else's": {[]*tokentest.Key{second}, Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, _, _ := newVerifier(t, is, func(i *config.Issuer) { i.JWKS.File = writeFile(t, tokentest.JWKS(c.keys...)) })
			wantCode(t, v, now, raw, c.want)
		})
	}
}

func TestListsOfTenantsAndRoles(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	for _, c := range []struct {
		tenants, roles []string
		role, tenant   string
		want           Code
	}{
		{nil, []string{"any"}, "developer", "acme", Invalid},
		{[]string{"any"}, nil, "developer", "acme", Invalid},
		{[]string{"acme"}, []string{"developer"}, "developer", "acme", ""},
		{[]string{"acme"}, []string{"developer"}, "developer", "Acme", Invalid},
		{[]string{"acme"}, []string{"developer"}, "operator", "acme", Invalid},
		{[]string{"any"}, []string{"any"}, "operator", "other", ""},
		{[]string{"any"}, []string{"any"}, "admin", "acme", Invalid},
		{[]string{"any"}, []string{"any", "admin"}, "admin", "acme", ""},
		{[]string{"any"}, []string{"admin"}, "admin", "acme", ""},
		{[]string{"any"}, []string{"admin"}, "developer", "acme", Invalid},
		{[]string{"any"}, []string{"any"}, "developer", "*", Invalid},
		{[]string{"any", "*"}, []string{"any"}, "developer", "*", ""},
		{[]string{"*"}, []string{"any"}, "developer", "*", ""},
		{[]string{"*"}, []string{"any"}, "developer", "acme", Invalid},
	} {
		v, _, _ := newVerifier(t, is, func(i *config.Issuer) { i.Tenants, i.Roles = c.tenants, c.roles })
		now := time.Now()
		if _, err := v.Verify(t.Context(), now, is.Mint(is.Claims(now, c.role, c.tenant))); codeOf(t, err) != c.want {
			t.Errorf("%+v: got %v", c, err)
		}
	}
}

func TestNewVerifierRefuses(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	path := writeFile(t, is.JWKS())
	for name, change := range map[string]func(*config.Issuer){
		"no name":             func(c *config.Issuer) { c.Name = "" },
		"no issuer":           func(c *config.Issuer) { c.Issuer = "" },
		"no audience":         func(c *config.Issuer) { c.Audience = "" },
		"empty tenant":        func(c *config.Issuer) { c.Tenants = []string{""} },
		"no claim names":      func(c *config.Issuer) { c.Claims = config.Claims{} },
		"claim names alike":   func(c *config.Issuer) { c.Claims.Run = "Role" },
		"claim name like sub": func(c *config.Issuer) { c.Claims.Run = "SUB" },
		"no algorithms":       func(c *config.Issuer) { c.Algorithms = nil },
		"none":                func(c *config.Issuer) { c.Algorithms = []string{"none"} },
		"unsupported":         func(c *config.Issuer) { c.Algorithms = []string{"EdDSA", "ES256K"} },
		"HS256 in passing":    func(c *config.Issuer) { c.Algorithms = []string{"EdDSA", "HS256"} },
		"symmetric EdDSA":     func(c *config.Issuer) { c.Symmetric = true },
		"symmetric and more":  func(c *config.Issuer) { c.Symmetric, c.Algorithms = true, []string{"HS256", "EdDSA"} },
		"symmetric by URL": func(c *config.Issuer) {
			c.Symmetric, c.Algorithms, c.JWKS = true, []string{"HS256"}, config.JWKS{URL: "https://x.example/"}
		},
		"unknown role":        func(c *config.Issuer) { c.Roles = []string{"root"} },
		"no keys":             func(c *config.Issuer) { c.JWKS = config.JWKS{} },
		"keys at two places":  func(c *config.Issuer) { c.JWKS.URL = "https://x.example/" },
		"relative file":       func(c *config.Issuer) { c.JWKS.File = "jwks.json" },
		"http elsewhere":      func(c *config.Issuer) { c.JWKS = config.JWKS{URL: "http://192.0.2.1/jwks.json"} },
		"http to a name":      func(c *config.Issuer) { c.JWKS = config.JWKS{URL: "http://localhost/jwks.json"} },
		"another scheme":      func(c *config.Issuer) { c.JWKS = config.JWKS{URL: "file:///etc/jwks.json"} },
		"URL with a user":     func(c *config.Issuer) { c.JWKS = config.JWKS{URL: "https://u:p@x.example/"} },
		"URL with a fragment": func(c *config.Issuer) { c.JWKS = config.JWKS{URL: "https://x.example/#a"} },
		"URL that is none":    func(c *config.Issuer) { c.JWKS = config.JWKS{URL: "https://x.example/%zz"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys := NewKeys(KeysOptions{})
			c := is.Config(config.JWKS{File: path})
			change(&c)
			if _, err := NewVerifier([]config.Issuer{c}, keys, Options{}); err == nil {
				t.Error("accepted")
			}
			if left := keys.Status(); len(left) != 0 {
				t.Errorf("sources left behind: %+v", left)
			}
		})
	}
}

func TestNewVerifierRefusesTwoAlike(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	path := writeFile(t, is.JWKS())
	for _, change := range []func(*config.Issuer){
		func(c *config.Issuer) { c.Name = "other" },
		func(c *config.Issuer) { c.Issuer = "https://other.example" },
	} {
		keys := NewKeys(KeysOptions{})
		a, b := is.Config(config.JWKS{File: path}), is.Config(config.JWKS{File: path})
		change(&b)
		if _, err := NewVerifier([]config.Issuer{a, b}, keys, Options{}); err == nil {
			t.Error("accepted")
		}
		if left := keys.Status(); len(left) != 0 {
			t.Errorf("sources left behind: %+v", left)
		}
	}
}

// A number is not the string of its digits.
func TestNumberAsIssuer(t *testing.T) {
	t.Parallel()
	is := tokentest.NewIssuer(t, "main", "7", testAudience)
	v, _, _ := newVerifier(t, is, nil)
	claims := is.Claims(time.Now(), "developer", "acme")
	wantCode(t, v, time.Now(), is.Mint(claims), "")
	claims["iss"] = 7
	wantCode(t, v, time.Now(), is.Mint(claims), Invalid)
}

// An issuer's key is good for its own tokens only.
func TestIssuersAreApart(t *testing.T) {
	t.Parallel()
	a := tokentest.NewIssuer(t, "a", "https://a.example", testAudience)
	b := tokentest.NewIssuer(t, "b", "https://b.example", testAudience)
	keys := NewKeys(KeysOptions{})
	v, err := NewVerifier([]config.Issuer{
		a.Config(config.JWKS{File: writeFile(t, a.JWKS())}), b.Config(config.JWKS{File: writeFile(t, b.JWKS())}),
	}, keys, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	now := time.Now()
	wantCode(t, v, now, a.Mint(a.Claims(now, "developer", "acme")), "")
	wantCode(t, v, now, b.Mint(b.Claims(now, "developer", "acme")), "")
	wantCode(t, v, now, b.Mint(a.Claims(now, "developer", "acme")), Invalid)
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	is := newIssuerFor(t, "EdDSA")
	v, keys, _ := newVerifier(t, is, nil)
	keys.Start()
	now := time.Now()
	raw := is.Mint(is.Claims(now, "developer", "acme"))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				if _, err := v.Verify(context.Background(), now, raw); err != nil || !v.Recognize(raw) {
					t.Error(err)
				}
				keys.Reload()
				keys.Status()
			}
		})
	}
	all.Wait()
}

// document returns a key set of JWKs that are given as members.
func document(t testing.TB, jwks ...map[string]any) []byte {
	t.Helper()
	return []byte(`{"keys":` + claimsJSON(t, jwks) + `}`)
}

func replaceFile(t testing.TB, path string, doc []byte) {
	t.Helper()
	next := path + ".next"
	if err := os.WriteFile(next, doc, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

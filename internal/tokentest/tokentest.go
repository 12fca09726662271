// Package tokentest mints tokens for tests, good ones and a named list of bad
// ones. It shares no code with the package that verifies, so that an error there
// is not repeated here. For tests only: no product package may import it.
package tokentest

import (
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	"gatehouse/internal/config"
)

// Lifetime is that of the tokens that Claims describes.
const Lifetime = 10 * time.Minute

// Issuer mints tokens. It is immutable and safe for concurrent use.
type Issuer struct {
	Name     string
	Iss      string // the claim iss
	Audience string
	Key      *Key
}

// NewIssuer returns an issuer with a new Ed25519 key.
func NewIssuer(t testing.TB, name, iss, audience string) *Issuer {
	t.Helper()
	return NewIssuerWith(t, "EdDSA", name, iss, audience)
}

// NewIssuerWith returns an issuer with a new key for an algorithm (see NewKey).
func NewIssuerWith(t testing.TB, alg, name, iss, audience string) *Issuer {
	t.Helper()
	return &Issuer{Name: name, Iss: iss, Audience: audience, Key: NewKey(t, alg, name+"-1")}
}

// Config returns the configuration that Cases is made for: the key's algorithm
// only, any tenant, any role, and the default claim names.
func (i *Issuer) Config(jwks config.JWKS) config.Issuer {
	return config.Issuer{
		Name: i.Name, Issuer: i.Iss, JWKS: jwks, Audience: i.Audience,
		Algorithms: []string{i.Key.Alg}, Symmetric: i.Key.Alg == "HS256",
		Tenants: []string{"any"}, Roles: []string{"any"},
		Claims: config.Claims{Role: "role", Tenant: "tenant_id", Project: "project_id", Agent: "agent_id", Run: "run_id"},
	}
}

// JWKS returns the issuer's key set document.
func (i *Issuer) JWKS() []byte { return JWKS(i.Key) }

// Claims returns the claims of a good token, for the caller to change.
func (i *Issuer) Claims(now time.Time, role, tenant string) map[string]any {
	return map[string]any{
		"iss": i.Iss, "sub": "agent-7", "aud": i.Audience, "jti": "0198-token",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(Lifetime).Unix(),
		"role": role, "tenant_id": tenant, "project_id": "p1", "agent_id": "a1", "run_id": "r1",
	}
}

// Token returns a good token that is valid for Lifetime from the present time.
func (i *Issuer) Token(role, tenant string) string {
	return i.Mint(i.Claims(time.Now(), role, tenant))
}

// Mint signs claims as they are.
func (i *Issuer) Mint(claims map[string]any) string {
	return i.Sign(i.Header(), string(marshal(claims)))
}

// Header returns the header of a good token.
func (i *Issuer) Header() string {
	return string(marshal(map[string]any{"alg": i.Key.Alg, "kid": i.Key.Kid, "typ": "at+jwt"}))
}

// Sign signs a header and a payload byte for byte, whatever they are.
func (i *Issuer) Sign(header, payload string) string {
	return sign(i.Key, encode(header), encode(payload))
}

// sign signs two parts that are encoded already.
func sign(k *Key, header, payload string) string {
	input := header + "." + payload
	return input + "." + encode(string(k.Sign(input)))
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// marshal panics on values that no caller here can have.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("tokentest: " + err.Error())
	}
	return b
}

package devstack

import (
	"cmp"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"

	"gatehouse/internal/wholefile"
)

// What the tokens of a dev stack say of themselves.
const (
	Issuer   = "https://dev.gatehouse.internal"
	Audience = "gatehouse"

	// DefaultTTL is the lifetime of a token where Claims has none.
	DefaultTTL = 10 * time.Minute

	keyFile  = "dev-key.json"
	jwksFile = "jwks.json"
)

// Key signs the tokens of one dev stack (EdDSA over Ed25519, RFC 8037). It is
// immutable.
type Key struct {
	private jwk.Key
	kid     string
}

// Claims describe a token. Empty members are left out of it, but for TTL.
type Claims struct {
	Subject string
	Role    string
	Tenant  string
	Project string
	Agent   string
	TTL     time.Duration // DefaultTTL where 0
	Expired bool          // it was good for TTL, and that was an hour ago
}

// expiredAgo is how long ago an expired token ended: far beyond any leeway.
const expiredAgo = time.Hour

// NewKey makes a key. kid names it; "" means the key's thumbprint (RFC 7638).
func NewKey(kid string) (*Key, error) {
	_, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("dev key: %w", err)
	}
	private, err := jwk.Import(secret)
	if err != nil {
		return nil, fmt.Errorf("dev key: %w", err)
	}
	if kid == "" {
		sum, err := private.Thumbprint(crypto.SHA256)
		if err != nil {
			return nil, fmt.Errorf("dev key: %w", err)
		}
		kid = base64.RawURLEncoding.EncodeToString(sum)
	}
	err = errors.Join(private.Set(jwk.KeyIDKey, kid), private.Set(jwk.AlgorithmKey, jwa.EdDSA()), private.Set(jwk.KeyUsageKey, "sig"))
	return &Key{private: private, kid: kid}, err
}

// KeyID is the name under which the key stands in its key set.
func (k *Key) KeyID() string { return k.kid }

// LoadKey reads the key of a stack's data folder.
func LoadKey(data string) (*Key, error) {
	path := filepath.Join(data, "keys", keyFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("dev key: %w", err)
	}
	private, err := jwk.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("dev key %s: %w", path, err)
	}
	kid, ok := private.KeyID()
	if _, isEd := private.(jwk.OKPPrivateKey); !ok || !isEd {
		return nil, fmt.Errorf("dev key %s: is no Ed25519 private key with a kid", path)
	}
	return &Key{private: private, kid: kid}, nil
}

// saveKey writes the private key, for us alone, and the key set with its
// public half.
func saveKey(dir string, k *Key) error {
	public, err := jwk.PublicKeyOf(k.private)
	if err != nil {
		return fmt.Errorf("dev key: %w", err)
	}
	private, err := json.MarshalIndent(k.private, "", "  ")
	if err != nil {
		return fmt.Errorf("dev key: %w", err)
	}
	set, err := json.MarshalIndent(map[string]any{"keys": []any{public}}, "", "  ")
	if err != nil {
		return fmt.Errorf("dev key: %w", err)
	}
	return errors.Join(wholefile.Replace(filepath.Join(dir, jwksFile), set, 0o644), wholefile.Replace(filepath.Join(dir, keyFile), private, 0o600))
}

// Mint signs a token that begins at now, or that is over by then. It can be
// called concurrently.
func (k *Key) Mint(now time.Time, c Claims) (string, error) {
	ttl := cmp.Or(c.TTL, DefaultTTL)
	if ttl < time.Second {
		return "", fmt.Errorf("token: a lifetime of %s is shorter than a second", ttl)
	}
	begin := now
	if c.Expired {
		begin = now.Add(-expiredAgo - ttl)
	}
	payload, err := json.Marshal(payload{
		Issuer: Issuer, Audience: Audience, Subject: c.Subject, TokenID: rand.Text(),
		IssuedAt: begin.Unix(), Expires: begin.Add(ttl).Unix(),
		Role: c.Role, Tenant: c.Tenant, Project: c.Project, Agent: c.Agent,
	})
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	return k.sign(payload)
}

// payload is the claims set (RFC 7519) with the default claim names.
type payload struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	Subject  string `json:"sub"`
	TokenID  string `json:"jti"`
	IssuedAt int64  `json:"iat"`
	Expires  int64  `json:"exp"`
	Role     string `json:"role,omitempty"`
	Tenant   string `json:"tenant_id,omitempty"`
	Project  string `json:"project_id,omitempty"`
	Agent    string `json:"agent_id,omitempty"`
}

func (k *Key) sign(payload []byte) (string, error) {
	headers := jws.NewHeaders()
	if err := headers.Set(jws.TypeKey, "JWT"); err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	signed, err := jws.Sign(payload, jws.WithKey(jwa.EdDSA(), k.private, jws.WithProtectedHeaders(headers)))
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	return string(signed), nil
}

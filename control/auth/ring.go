package auth

import (
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatehouse/internal/seal"
)

// ring is one version of the keys in memory. It is immutable.
type ring struct {
	private ed25519.PrivateKey // the active one
	header  string             // of its tokens, encoded
	jwks    []byte             // next, active and retiring (RFC 7517, 5)
	at      time.Time          // before they were read
}

var errNoActive = errors.New("no active signing key")

// newRing opens the active key. That the others open too is checked, since what
// is found out at their turn is found out too late.
func newRing(keys []SigningKey, box *seal.Box, at time.Time) (*ring, error) {
	r := &ring{at: at}
	for _, k := range keys {
		if k.State == KeyRetired {
			continue
		}
		private, err := k.open(box)
		if err != nil {
			return nil, err
		}
		if k.State == KeyActive {
			r.private = private
			r.header = encode([]byte(`{"alg":"EdDSA","kid":"` + k.KID + `","typ":"at+jwt"}`)) // a kid is base64url
		}
	}
	if r.private == nil {
		return nil, errNoActive
	}
	var err error
	r.jwks, err = keySet(keys)
	return r, err
}

func (r *ring) usable(now time.Time) bool { return r != nil && now.Sub(r.at) <= maxRingAge }

// jwk is a public key (RFC 7517, 4; RFC 8037, 2).
type jwk struct {
	KTY string `json:"kty"`
	CRV string `json:"crv"`
	X   string `json:"x"`
	KID string `json:"kid"`
	Use string `json:"use"`
	Alg string `json:"alg"`
}

// keySet is the document of the published keys, the same for the same keys.
func keySet(keys []SigningKey) ([]byte, error) {
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	for _, k := range keys {
		if k.State != KeyRetired {
			set.Keys = append(set.Keys, jwk{"OKP", "Ed25519", encode(k.Public), k.KID, "sig", "EdDSA"})
		}
	}
	slices.SortFunc(set.Keys, func(a, b jwk) int { return cmp.Compare(a.KID, b.KID) })
	return json.Marshal(set)
}

// claims are those of an access token (RFC 9068, 2.2) under the names that the
// verifiers read by default.
type claims struct {
	Issuer    string `json:"iss"`
	Audience  string `json:"aud"`
	Subject   string `json:"sub"`
	TokenID   string `json:"jti"`
	IssuedAt  int64  `json:"iat"`
	NotBefore int64  `json:"nbf"`
	Expires   int64  `json:"exp"`
	Role      string `json:"role"`
	Tenant    string `json:"tenant_id"`
	Project   string `json:"project_id,omitempty"`
	Agent     string `json:"agent_id,omitempty"`
}

// sign makes the token of c (JWS compact serialization, RFC 7515, 7.1).
func (r *ring) sign(c claims) (string, error) {
	payload, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	input := r.header + "." + encode(payload)
	return input + "." + encode(ed25519.Sign(r.private, []byte(input))), nil
}

// claimsOf are the claims of a token for s. If everything of s that was issued
// up to now is revoked, it is issued a second later: within every verifier's
// leeway, and not revoked itself.
func claimsOf(s Subject, issuer, audience, id string, now time.Time) claims {
	issued := now.Unix()
	if !s.Revoked.IsZero() {
		issued = max(issued, s.Revoked.Unix()+1)
	}
	return claims{
		Issuer: issuer, Audience: audience, Subject: s.ID, TokenID: id,
		IssuedAt: issued, NotBefore: issued, Expires: issued + int64(AccessTTL/time.Second),
		Role: string(s.Role), Tenant: s.Tenant, Project: s.Project, Agent: s.Agent,
	}
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

package token

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/request"
	"gatehouse/internal/tokentest"
)

// FuzzGate: nothing panics; what the gate accepts has one spelling only.
func FuzzGate(f *testing.F) {
	is := newIssuerFor(f, "EdDSA")
	v, _, _ := newVerifier(f, is, nil)
	for _, c := range is.Cases(f, time.Now()) {
		f.Add(c.Token)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		recognized := v.Recognize(raw)
		if _, err := v.Verify(t.Context(), time.Now(), raw); err == nil && !recognized {
			t.Error("verified, but not recognised")
		}
		parsed, err := parse(raw)
		if err != nil {
			codeOf(t, err)
			return
		}
		var again []string
		for part := range strings.SplitSeq(raw, ".") {
			b, err := base64.URLEncoding.WithPadding(base64.NoPadding).DecodeString(part)
			if err != nil {
				t.Fatalf("accepted part %q: %v", part, err)
			}
			again = append(again, base64.RawURLEncoding.EncodeToString(b))
		}
		if got := strings.Join(again, "."); got != raw || len(again) != 3 || !strings.HasPrefix(raw, parsed.signed+".") {
			t.Errorf("accepted %q, encodes to %q", raw, got)
		}
	})
}

// FuzzSigned signs what the fuzzer makes, so that only the gate and the claims
// stand in the way: whatever is accepted, the standard library reads alike.
func FuzzSigned(f *testing.F) {
	is := newIssuerFor(f, "EdDSA")
	v, _, _ := newVerifier(f, is, nil)
	now := time.Now()
	for _, c := range is.Cases(f, now) {
		parts := strings.SplitN(c.Token, ".", 3)
		if len(parts) == 3 {
			header, _ := base64.RawURLEncoding.DecodeString(parts[0])
			payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
			f.Add(string(header), string(payload))
		}
	}
	f.Fuzz(func(t *testing.T, header, payload string) {
		raw := is.Sign(header, payload)
		p, err := v.Verify(t.Context(), now, raw)
		if err != nil {
			codeOf(t, err)
			return
		}
		if !v.Recognize(raw) {
			t.Error("verified, but not recognised")
		}
		wantSameReading(t, header, payload, p)
	})
}

// wantSameReading reads with encoding/json, which folds case and lets the last
// of two members win.
func wantSameReading(t *testing.T, header, payload string, p request.Principal) {
	t.Helper()
	var h struct{ Alg, Kid, Typ string }
	var c struct {
		Iss, Sub, Role string
		Tenant         string `json:"tenant_id"`
		Exp            int64
	}
	if err := json.Unmarshal([]byte(header), &h); err != nil {
		t.Fatalf("accepted header %q: %v", header, err)
	}
	if err := json.Unmarshal([]byte(payload), &c); err != nil {
		t.Fatalf("accepted payload %q: %v", payload, err)
	}
	if h.Alg != "EdDSA" || c.Iss != testIss || c.Sub != p.Subject || c.Role != string(p.Role) || c.Tenant != p.Tenant || c.Exp != p.Expires.Unix() {
		t.Errorf("read as %+v, the standard library reads %+v %+v", p, h, c)
	}
	if p.Role == request.RoleAdmin || p.Tenant == request.AnyTenant || p.Tenant == "" || p.Subject == "" {
		t.Errorf("the issuer may not assert %+v", p)
	}
}

func FuzzKeySet(f *testing.F) {
	for _, alg := range []string{"EdDSA", "ES256", "ES384", "RS256", "HS256"} {
		f.Add(tokentest.JWKS(tokentest.NewKey(f, alg, "a"), tokentest.NewKey(f, alg, "b")), alg == "HS256")
	}
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"`+b64(make([]byte, 32))+`"}]}`), false)
	f.Add([]byte(`{"keys":[{"kty":"x","use":"enc"}]}`), true)
	f.Fuzz(func(t *testing.T, doc []byte, symmetric bool) {
		set, err := parseKeySet(doc, symmetric)
		if err != nil {
			return
		}
		if len(doc) > maxSetBytes || len(set.keys)+set.ignored > maxKeys {
			t.Errorf("accepted %d keys in %d bytes", len(set.keys)+set.ignored, len(doc))
		}
		kids := map[string]bool{}
		for _, k := range set.keys {
			if k.public == nil || symmetric != (k.kty == ktyOct) || k.kid != "" && kids[k.kid] {
				t.Errorf("accepted %+v in %q", k, doc)
			}
			kids[k.kid] = true
		}
	})
}

package token

import (
	"github.com/lestrrat-go/jwx/v3/jws/jwsbb"
)

// Key types (RFC 7518, 6.1; RFC 8037, 2) and the one symmetric algorithm.
const (
	ktyOKP = "OKP"
	ktyEC  = "EC"
	ktyRSA = "RSA"
	ktyOct = "oct"
	hs256  = "HS256"
)

// algorithm is a signature algorithm and the only kind of key it is used with.
// The library checks neither: it verifies ES256 with a P-384 key.
type algorithm struct {
	name string
	kty  string
	crv  string // "" for RSA and oct
}

// algorithmOf returns the supported algorithm of that exact name.
func algorithmOf(name string) (algorithm, bool) {
	switch name {
	case "EdDSA":
		return algorithm{name, ktyOKP, "Ed25519"}, true
	case "ES256":
		return algorithm{name, ktyEC, "P-256"}, true
	case "ES384":
		return algorithm{name, ktyEC, "P-384"}, true
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512":
		return algorithm{name, ktyRSA, ""}, true
	case hs256:
		return algorithm{name, ktyOct, ""}, true
	}
	return algorithm{}, false
}

// verifySignature checks a JWS signature with one key and one algorithm.
// The library's own registry of verifiers and its header parser stay out of it.
func verifySignature(k key, alg string, t parsed) error {
	// INVARIANT: k fits alg (keySet.find), so the key's type is what alg needs.
	if err := jwsbb.Verify(k.public, alg, []byte(t.signed), t.signature); err != nil {
		return invalid("signature does not verify")
	}
	return nil
}

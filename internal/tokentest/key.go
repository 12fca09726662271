package tokentest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // SHA-384 and SHA-512 for crypto.Hash
	"encoding/asn1"
	"math/big"
	"testing"
)

// Key is a signing key of one algorithm.
type Key struct {
	Alg    string
	Kid    string
	signer crypto.Signer // nil for HS256
	secret []byte        // of HS256
}

// NewKey generates a key for EdDSA, ES256, ES384, RS*, PS* or HS256.
func NewKey(t testing.TB, alg, kid string) *Key {
	t.Helper()
	k := &Key{Alg: alg, Kid: kid}
	var err error
	switch alg {
	case "EdDSA":
		_, k.signer, err = generateEd25519()
	case "ES256":
		k.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		k.signer, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "HS256":
		k.secret = make([]byte, sha256.Size)
		_, err = rand.Read(k.secret)
	default:
		k.signer, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatalf("generate a key for %s: %v", alg, err)
	}
	return k
}

func generateEd25519() (ed25519.PublicKey, crypto.Signer, error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	return pub, priv, err
}

// As returns the same key under another algorithm's name and the same kid, for
// RSA keys, which serve six.
func (k *Key) As(alg string) *Key {
	other := *k
	other.Alg = alg
	return &other
}

// JWKS returns a key set document of the keys' public halves, or secrets.
func JWKS(keys ...*Key) []byte {
	list := []any{}
	for _, k := range keys {
		list = append(list, k.JWK())
	}
	return marshal(map[string]any{"keys": list})
}

// JWK returns the public half as a JWK's members; of HS256 the secret.
func (k *Key) JWK() map[string]any {
	j := map[string]any{"kid": k.Kid, "alg": k.Alg, "use": "sig"}
	if k.signer == nil {
		j["kty"], j["k"] = "oct", encode(string(k.secret))
		return j
	}
	switch pub := k.signer.Public().(type) {
	case ed25519.PublicKey:
		j["kty"], j["crv"], j["x"] = "OKP", "Ed25519", encode(string(pub))
	case *ecdsa.PublicKey:
		x, y := coordinates(pub)
		j["kty"], j["crv"], j["x"], j["y"] = "EC", pub.Params().Name, encode(x), encode(y)
	case *rsa.PublicKey:
		j["kty"], j["n"] = "RSA", encode(string(pub.N.Bytes()))
		j["e"] = encode(string(big.NewInt(int64(pub.E)).Bytes()))
	}
	return j
}

func coordinates(pub *ecdsa.PublicKey) (x, y string) {
	b, err := pub.Bytes()
	if err != nil {
		panic("tokentest: " + err.Error())
	}
	size := (len(b) - 1) / 2
	return string(b[1 : 1+size]), string(b[1+size:])
}

// Public returns the raw public key, nil for HS256.
func (k *Key) Public() crypto.PublicKey {
	if k.signer == nil {
		return nil
	}
	return k.signer.Public()
}

// Sign returns the JWS signature of input (RFC 7518, 3).
func (k *Key) Sign(input string) []byte {
	if k.signer == nil {
		return hmacSHA256(k.secret, input)
	}
	sig, opts := []byte(input), k.options()
	if h := opts.HashFunc(); h != 0 {
		sum := h.New()
		sum.Write(sig)
		sig = sum.Sum(nil)
	}
	sig, err := k.signer.Sign(rand.Reader, sig, opts)
	if err != nil {
		panic("tokentest: " + err.Error())
	}
	if pub, ok := k.signer.Public().(*ecdsa.PublicKey); ok {
		return fixedSize(sig, (pub.Params().BitSize+7)/8)
	}
	return sig
}

func (k *Key) options() crypto.SignerOpts {
	hash := crypto.Hash(0)
	switch k.Alg[2:] {
	case "256":
		hash = crypto.SHA256
	case "384":
		hash = crypto.SHA384
	case "512":
		hash = crypto.SHA512
	}
	if k.Alg[:2] == "PS" {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	return hash
}

// fixedSize turns an ASN.1 signature into R || S.
func fixedSize(der []byte, size int) []byte {
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		panic("tokentest: " + err.Error())
	}
	out := make([]byte, 2*size)
	sig.R.FillBytes(out[:size])
	sig.S.FillBytes(out[size:])
	return out
}

func hmacSHA256(secret []byte, input string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(input))
	return mac.Sum(nil)
}

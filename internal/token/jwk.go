package token

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"math/big"
	"slices"
)

// Bounds of keys.
const (
	minRSABits   = 2048
	maxRSABits   = 8192 // verifying costs grow with the square
	minRSAExp    = 65537
	maxRSAExp    = 1<<31 - 1
	minOctBytes  = 32
	maxOctBytes  = 1024
	maxKeyOps    = 8
	ed25519Bytes = ed25519.PublicKeySize
)

// jwkMembers returns the names that a JWK is read by; look-alikes are refused.
func jwkMembers() []string {
	return append(privateMembers(), "kty", "kid", "use", "key_ops", "alg", "crv", "x", "y", "n", "e", "k")
}

// privateMembers returns the members of private asymmetric keys (RFC 7518, 6).
func privateMembers() []string {
	return []string{"d", "p", "q", "dp", "dq", "qi", "oth"}
}

// jwk is a JWK's members under reading.
type jwk struct {
	key
	obj value
}

// readJWK reads one key. A key that is good but of no use to us, for encryption
// or of an unknown type, comes back without public.
func readJWK(obj value, symmetric bool) (key, error) {
	j, err := newJWK(obj)
	if err != nil {
		return key{}, err
	}
	if err := j.checkSecrecy(symmetric); err != nil {
		return key{}, err
	}
	useful, err := j.useful()
	if err != nil || !useful {
		return j.key, err
	}
	if err := j.checkBinding(); err != nil {
		return key{}, err
	}
	j.public, err = j.material()
	return j.key, err
}

func newJWK(obj value) (*jwk, error) {
	j := &jwk{obj: obj}
	if obj.kind != kindObject {
		return nil, errors.New("not an object")
	}
	if _, alike := obj.lookalike(jwkMembers()); alike {
		return nil, errors.New("member in another case")
	}
	for name, dst := range map[string]*string{"kty": &j.kty, "kid": &j.kid, "alg": &j.alg, "crv": &j.crv} {
		v, ok := obj.get(name)
		if !ok {
			continue
		}
		if v.kind != kindString || !boundedText(v.text) {
			return nil, errors.New("not a bounded string: " + name)
		}
		*dst = v.text
	}
	if j.kty == "" {
		return nil, errors.New("no kty")
	}
	return j, nil
}

// checkSecrecy keeps private keys out, and symmetric keys apart from the others:
// in a mixed set a public key could be used as a secret.
func (j *jwk) checkSecrecy(symmetric bool) error {
	for _, name := range privateMembers() {
		if _, ok := j.obj.get(name); ok {
			return errors.New("private key")
		}
	}
	if _, ok := j.obj.get("k"); ok && j.kty != ktyOct {
		return errors.New("secret in a key that is not symmetric")
	}
	known := slices.Contains([]string{ktyOKP, ktyEC, ktyRSA, ktyOct}, j.kty)
	if known && symmetric != (j.kty == ktyOct) {
		return errors.New("symmetric and asymmetric keys do not mix")
	}
	return nil
}

// useful reports whether the key is meant for, and can do, what is done here.
func (j *jwk) useful() (bool, error) {
	if use, ok := j.obj.get("use"); ok {
		if use.kind != kindString {
			return false, errors.New("use is not a string")
		}
		if use.text != "sig" {
			return false, nil
		}
	}
	if v, ok := j.obj.get("key_ops"); ok {
		ops, ok := v.strings()
		if !ok || len(ops) > maxKeyOps {
			return false, errors.New("key_ops is not a short array of strings")
		}
		if !slices.Contains(ops, "verify") {
			return false, nil
		}
	}
	return j.supported(), nil
}

// supported reports whether type, curve and algorithm are all known here.
func (j *jwk) supported() bool {
	if j.alg != "" {
		if _, ok := algorithmOf(j.alg); !ok {
			return false
		}
	}
	switch j.kty {
	case ktyOKP:
		return j.crv == "Ed25519"
	case ktyEC:
		return j.crv == "P-256" || j.crv == "P-384"
	}
	return j.kty == ktyRSA || j.kty == ktyOct
}

// checkBinding wants a key's own alg to be one that its type can serve.
func (j *jwk) checkBinding() error {
	if j.kty == ktyRSA || j.kty == ktyOct {
		j.crv = "" // meaningless there
	}
	if j.alg == "" {
		return nil
	}
	if a, _ := algorithmOf(j.alg); !j.fits(a) {
		return errors.New("alg does not fit the key")
	}
	return nil
}

// material builds the key for the crypto packages.
func (j *jwk) material() (any, error) {
	switch j.kty {
	case ktyOKP:
		return j.ed25519()
	case ktyEC:
		return j.ecdsa()
	case ktyRSA:
		return j.rsa()
	}
	k, err := j.bytes("k")
	if err == nil && (len(k) < minOctBytes || len(k) > maxOctBytes) {
		return nil, errors.New("secret is too short or too long")
	}
	return k, err
}

// bytes reads a member in canonical base64url.
func (j *jwk) bytes(name string) ([]byte, error) {
	v, _ := j.obj.get(name)
	if v.kind != kindString || v.text == "" {
		return nil, errors.New("no string " + name)
	}
	b, err := decodePart(v.text)
	if err != nil {
		return nil, errors.New("not canonical base64url: " + name)
	}
	return b, nil
}

func (j *jwk) ed25519() (any, error) {
	x, err := j.bytes("x")
	if err != nil {
		return nil, err
	}
	if len(x) != ed25519Bytes {
		return nil, errors.New("Ed25519 key of a wrong size")
	}
	if !soundPoint(x) {
		return nil, errors.New("Ed25519 point of small order or not canonical")
	}
	return ed25519.PublicKey(x), nil
}

// ecdsa reads full-size coordinates (RFC 7518, 6.2.1.2) of a point on the curve.
func (j *jwk) ecdsa() (any, error) {
	curve := elliptic.P256()
	if j.crv == "P-384" {
		curve = elliptic.P384()
	}
	size := (curve.Params().BitSize + 7) / 8
	x, errX := j.bytes("x")
	y, errY := j.bytes("y")
	if err := errors.Join(errX, errY); err != nil {
		return nil, err
	}
	if len(x) != size || len(y) != size {
		return nil, errors.New("coordinate of a wrong size")
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil, errors.New("point is not on the curve")
	}
	return pub, nil
}

func (j *jwk) rsa() (any, error) {
	n, errN := j.bytes("n")
	e, errE := j.bytes("e")
	if err := errors.Join(errN, errE); err != nil {
		return nil, err
	}
	if n[0] == 0 || e[0] == 0 {
		return nil, errors.New("RSA member with a leading zero")
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	if bits := modulus.BitLen(); bits < minRSABits || bits > maxRSABits || modulus.Bit(0) == 0 {
		return nil, errors.New("RSA modulus is even or of a wrong size")
	}
	if !exponent.IsInt64() || exponent.Int64() < minRSAExp || exponent.Int64() > maxRSAExp || exponent.Bit(0) == 0 {
		return nil, errors.New("RSA exponent is out of range or even")
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
}

// smallOrderY returns the canonical y coordinates of the eight points of small
// order on edwards25519, little-endian. crypto/ed25519 accepts such a point as
// a public key, and then anybody can sign for it.
func smallOrderY() [][]byte {
	one := make([]byte, ed25519Bytes)
	one[0] = 1
	minusOne := slices.Repeat([]byte{0xff}, ed25519Bytes)
	minusOne[0], minusOne[31] = 0xec, 0x7f
	return [][]byte{
		make([]byte, ed25519Bytes), // order 4
		one,                        // order 1
		minusOne,                   // order 2
		{ // order 8
			0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
			0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
		},
		{ // order 8
			0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
			0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
		},
	}
}

// soundPoint reports whether an encoded point has its one canonical form
// (y below the field prime, 2^255-19) and is not of small order.
func soundPoint(x []byte) bool {
	y := slices.Clone(x)
	y[31] &= 0x7f // the sign of x
	if y[0] >= 0xed && y[31] == 0x7f && !slices.ContainsFunc(y[1:31], func(c byte) bool { return c != 0xff }) {
		return false
	}
	return !slices.ContainsFunc(smallOrderY(), func(s []byte) bool { return slices.Equal(s, y) })
}

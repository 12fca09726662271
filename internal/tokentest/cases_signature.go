package tokentest

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
)

// algorithms are the tokens that name an algorithm of their own choice.
func (l *list) algorithms() {
	for _, alg := range []string{"none", "None", "nOnE", "NONE", ""} {
		header := l.headerWithout("alg", `"alg":"`+alg+`"`)
		l.add(Algorithm, "alg "+alg+" with a good signature", l.issuer.Sign(header, l.payload()))
		l.add(Algorithm, "alg "+alg+" without a signature", encode(header)+"."+encode(l.payload())+".")
	}
	for _, alg := range []string{"RS256", "PS256", "ES256", "ES384", "HS256", "EdDSA ", "eddsa", "EDDSA", "Ed25519", "Ed448", "dir"} {
		l.add(Algorithm, "alg "+alg+" over an Ed25519 signature", l.issuer.Sign(l.headerWithout("alg", `"alg":"`+alg+`"`), l.payload()))
	}
	for name, alg := range map[string]string{"number": "5", "null": "null", "array": `["EdDSA"]`, "object": `{"EdDSA":1}`, "true": "true"} {
		l.add(Algorithm, "alg is a "+name, l.issuer.Sign(l.headerWithout("alg", `"alg":`+alg), l.payload()))
	}
	l.add(Algorithm, "alg missing", l.issuer.Sign(l.headerWithout("alg", ""), l.payload()))
	l.publicKeyAsSecret()
}

// publicKeyAsSecret is the classic confusion, in all the forms a key is had in.
func (l *list) publicKeyAsSecret() {
	pub := l.issuer.Key.Public().(ed25519.PublicKey)
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		panic("tokentest: " + err.Error())
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
	secrets := map[string][]byte{
		"raw": pub, "base64url": []byte(encode(string(pub))), "DER": spki, "PEM": block,
		"PEM without the last newline": block[:len(block)-1],
		"JWK":                          marshal(l.issuer.Key.JWK()), "JWKS": l.issuer.JWKS(), "empty": {},
	}
	for name, secret := range secrets {
		header := l.headerWithout("alg", `"alg":"HS256"`)
		k := &Key{Alg: "HS256", secret: secret}
		l.add(Algorithm, "HS256, secret is the public key, "+name, sign(k, encode(header), encode(l.payload())))
	}
}

// signatures are good tokens with another signature.
func (l *list) signatures() {
	input := encode(l.issuer.Header()) + "." + encode(l.payload())
	good := l.issuer.Key.Sign(input)
	zeroS := make([]byte, 32)
	for name, sig := range map[string][]byte{
		"all zero":                 make([]byte, 64),
		"all ones":                 slices.Repeat([]byte{0xff}, 64),
		"truncated":                good[:63],
		"half":                     good[:32],
		"one byte":                 good[:1],
		"extended":                 append(slices.Clone(good), 0),
		"doubled":                  slices.Concat(good, good),
		"halves swapped":           slices.Concat(good[32:], good[:32]),
		"first bit flipped":        flip(good, 0),
		"last bit flipped":         flip(good, 511),
		"S is S+L":                 slices.Concat(good[:32], addOrder(good[32:])),
		"S is zero":                slices.Concat(good[:32], zeroS),
		"R is the identity":        slices.Concat(smallOrder(1), zeroS),
		"R of order 2":             slices.Concat(smallOrder(2), zeroS),
		"R of order 4":             slices.Concat(smallOrder(4), zeroS),
		"R of order 8":             slices.Concat(smallOrder(8), zeroS),
		"R identity not canonical": slices.Concat(smallOrder(-1), zeroS),
		"R identity, good S":       slices.Concat(smallOrder(1), good[32:]),
		"of another key":           l.other.Sign(input),
		"of the payload alone":     l.issuer.Key.Sign(encode(l.payload())),
		"of the decoded bytes":     l.issuer.Key.Sign(l.issuer.Header() + "." + l.payload()),
		"an ES256 signature":       l.ec.Sign(input),
		"an ASN.1 signature":       asn1Form(l.ec.Sign(input)),
	} {
		l.add(Algorithm, "signature: "+name, input+"."+encode(string(sig)))
	}
	l.add(Algorithm, "signature: empty", input+".")
	other := strings.Replace(l.payload(), `"developer"`, `"operator"`, 1)
	l.add(Algorithm, "signature: of another payload", encode(l.issuer.Header())+"."+encode(other)+"."+encode(string(good)))
	l.ellipticKeys()
}

// ellipticKeys are another issuer's ES256 signatures under our kid.
func (l *list) ellipticKeys() {
	header := encode(l.headerWithout("alg", `"alg":"ES256"`))
	input := header + "." + encode(l.payload())
	l.add(Algorithm, "ES256 with a key of another issuer", sign(l.ec, header, encode(l.payload())))
	l.add(Algorithm, "ES256 in ASN.1 form", input+"."+encode(string(asn1Form(l.ec.Sign(input)))))
	l.add(Algorithm, "ES256 with R and S zero", input+"."+encode(string(make([]byte, 64))))
}

func flip(sig []byte, bit int) []byte {
	out := slices.Clone(sig)
	out[bit/8] ^= 1 << (bit % 8)
	return out
}

// addOrder adds the group order to a little-endian S: the same scalar, written
// in a way that RFC 8032, 5.1.7 forbids.
func addOrder(s []byte) []byte {
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	be := slices.Clone(s)
	slices.Reverse(be)
	sum := new(big.Int).Add(new(big.Int).SetBytes(be), order)
	out := sum.FillBytes(make([]byte, 32))
	slices.Reverse(out)
	return out
}

// smallOrder returns a point of that order; -1 is the identity with y = p+1.
func smallOrder(order int) []byte {
	y := make([]byte, 32)
	switch order {
	case 1:
		y[0] = 1
	case 2, -1:
		y = slices.Repeat([]byte{0xff}, 32)
		y[0], y[31] = 0xec, 0x7f
		if order < 0 {
			y[0] = 0xee
		}
	case 8:
		v, _ := new(big.Int).SetString("7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd83d3d706a17c7", 16)
		v.FillBytes(y)
		slices.Reverse(y)
	}
	return y
}

// asn1Form turns R || S into the ASN.1 form that other protocols use.
func asn1Form(sig []byte) []byte {
	half := len(sig) / 2
	out, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:half]), new(big.Int).SetBytes(sig[half:])})
	if err != nil {
		panic("tokentest: " + err.Error())
	}
	return out
}

// keys are tokens signed well, by nobody the key set knows.
func (l *list) keys() {
	good := encode(l.issuer.Header())
	l.add(KeySet, "signed by another key under our kid", sign(l.other, good, encode(l.payload())))
	l.add(KeySet, "signed by another key without kid", sign(l.other, encode(l.headerWithout("kid", "")), encode(l.payload())))
	for name, kid := range map[string]string{
		"unknown": "gone-1", "like a path": "../../../../dev/null", "like SQL": "' OR 1=1 --", "like a URL": "https://evil.example/k",
		"in another case": strings.ToUpper(l.issuer.Key.Kid), "with a space behind": l.issuer.Key.Kid + " ", "a prefix": l.issuer.Key.Kid[:1],
		"like a template": "${jndi:x}",
	} {
		header := l.headerWithout("kid", `"kid":`+string(marshal(kid)))
		l.add(KeySet, "kid "+name, l.issuer.Sign(header, l.payload()))
		l.add(KeySet, "kid "+name+", signed by another key", sign(l.other, encode(header), encode(l.payload())))
	}
}

package token

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"gatehouse/internal/tokentest"
)

// changed returns a copy of a JWK with members set; nil removes one.
func changed(jwk map[string]any, members map[string]any) map[string]any {
	out := maps.Clone(jwk)
	for name, v := range members {
		if out[name] = v; v == nil {
			delete(out, name)
		}
	}
	return out
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func ones(n int) []byte { return slices.Repeat([]byte{0xff}, n) }

func TestKeySetRefused(t *testing.T) {
	t.Parallel()
	ed := tokentest.NewKey(t, "EdDSA", "a").JWK()
	ec := tokentest.NewKey(t, "ES256", "b").JWK()
	rsa := tokentest.NewKey(t, "RS256", "c").JWK()
	oct := tokentest.NewKey(t, "HS256", "d").JWK()
	for name, keys := range map[string][]map[string]any{
		"private Ed25519":         {changed(ed, map[string]any{"d": "AAAA"})},
		"private EC":              {changed(ec, map[string]any{"d": "AAAA"})},
		"private RSA, only a p":   {changed(rsa, map[string]any{"p": "AAAA"})},
		"private of unknown type": {{"kty": "AKP", "d": "AAAA"}},
		"private for encryption":  {changed(rsa, map[string]any{"use": "enc", "d": "AAAA"})},
		"secret in an RSA key":    {changed(rsa, map[string]any{"k": "AAAA"})},
		"symmetric":               {oct},
		"mixed":                   {ed, oct},
		"mixed, for encryption":   {ed, changed(oct, map[string]any{"use": "enc"})},
		"same kid twice":          {ed, changed(ec, map[string]any{"kid": "a"})},
		"same kid in an ignored":  {ed, {"kty": "AKP", "kid": "a"}},
		"no kty":                  {changed(ed, map[string]any{"kty": nil})},
		"kty a number":            {changed(ed, map[string]any{"kty": 1})},
		"kid empty":               {changed(ed, map[string]any{"kid": ""})},
		"kid a number":            {changed(ed, map[string]any{"kid": 1})},
		"kid huge":                {changed(ed, map[string]any{"kid": strings.Repeat("k", 256)})},
		"kid with a NUL":          {changed(ed, map[string]any{"kid": "a\x00"})},
		"use a number":            {changed(ed, map[string]any{"use": 1})},
		"key_ops a string":        {changed(ed, map[string]any{"key_ops": "verify"})},
		"key_ops of numbers":      {changed(ed, map[string]any{"key_ops": []int{1}})},
		"key_ops long":            {changed(ed, map[string]any{"key_ops": slices.Repeat([]string{"verify"}, 9)})},
		"alg of another type":     {changed(ed, map[string]any{"alg": "RS256"})},
		"alg of another curve":    {changed(ec, map[string]any{"alg": "ES384"})},
		"HS256 on an RSA key":     {changed(rsa, map[string]any{"alg": "HS256"})},
		"Kty besides kty":         {changed(ed, map[string]any{"Kty": "oct"})},
		"D besides":               {changed(ed, map[string]any{"D": "AAAA"})},
		"Ed25519 short":           {changed(ed, map[string]any{"x": b64(make([]byte, 31))})},
		"Ed25519 long":            {changed(ed, map[string]any{"x": b64(make([]byte, 33))})},
		"Ed25519 padded":          {changed(ed, map[string]any{"x": ed["x"].(string) + "="})},
		"Ed25519 with line break": {changed(ed, map[string]any{"x": ed["x"].(string)[:5] + "\n" + ed["x"].(string)[5:]})},
		"Ed25519 without x":       {changed(ed, map[string]any{"x": nil})},
		"Ed25519 not canonical":   {changed(ed, map[string]any{"x": b64(append([]byte{0xee}, append(ones(30), 0x7f)...))})},
		"EC without y":            {changed(ec, map[string]any{"y": nil})},
		"EC off the curve":        {changed(ec, map[string]any{"y": ec["x"]})},
		"EC at zero":              {changed(ec, map[string]any{"x": b64(make([]byte, 32)), "y": b64(make([]byte, 32))})},
		"EC short coordinate":     {changed(ec, map[string]any{"x": b64(make([]byte, 31))})},
		"EC long coordinate":      {changed(ec, map[string]any{"x": b64(make([]byte, 33))})},
		"RSA 1024":                {changed(rsa, map[string]any{"n": b64(ones(128))})},
		"RSA 2047":                {changed(rsa, map[string]any{"n": b64(append([]byte{0x7f}, ones(255)...))})},
		"RSA too large":           {changed(rsa, map[string]any{"n": b64(ones(1025))})},
		"RSA even":                {changed(rsa, map[string]any{"n": b64(append(ones(255), 0xfe))})},
		"RSA leading zero":        {changed(rsa, map[string]any{"n": b64(append([]byte{0}, ones(256)...))})},
		"RSA without e":           {changed(rsa, map[string]any{"e": nil})},
		"RSA exponent 1":          {changed(rsa, map[string]any{"e": "AQ"})},
		"RSA exponent 3":          {changed(rsa, map[string]any{"e": "Aw"})},
		"RSA exponent even":       {changed(rsa, map[string]any{"e": b64([]byte{1, 0, 2})})},
		"RSA exponent huge":       {changed(rsa, map[string]any{"e": b64(ones(9))})},
		"RSA exponent over 64":    {changed(rsa, map[string]any{"e": b64([]byte{1, 0, 0, 0, 0, 0, 1, 0, 1})})},
		"RSA exponent over 31":    {changed(rsa, map[string]any{"e": b64(big.NewInt(1<<31 + 1).Bytes())})},
		"one bad among good":      {ed, rsa, changed(ec, map[string]any{"y": ec["x"]})},
	} {
		if _, err := parseKeySet(document(t, keys...), false); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSymmetricKeySet(t *testing.T) {
	t.Parallel()
	good := tokentest.NewKey(t, "HS256", "d").JWK()
	ed := tokentest.NewKey(t, "EdDSA", "a").JWK()
	for name, c := range map[string]struct {
		keys []map[string]any
		ok   bool
	}{
		"32 bytes":       {[]map[string]any{good}, true},
		"1024 bytes":     {[]map[string]any{changed(good, map[string]any{"k": b64(ones(1024))})}, true},
		"31 bytes":       {[]map[string]any{changed(good, map[string]any{"k": b64(ones(31))})}, false},
		"1025 bytes":     {[]map[string]any{changed(good, map[string]any{"k": b64(ones(1025))})}, false},
		"empty":          {[]map[string]any{changed(good, map[string]any{"k": ""})}, false},
		"none":           {[]map[string]any{changed(good, map[string]any{"k": nil})}, false},
		"alg RS256":      {[]map[string]any{changed(good, map[string]any{"alg": "RS256"})}, false},
		"mixed":          {[]map[string]any{good, ed}, false},
		"asymmetric":     {[]map[string]any{ed}, false},
		"with a curve":   {[]map[string]any{changed(good, map[string]any{"crv": "P-256"})}, true},
		"two with names": {[]map[string]any{good, changed(good, map[string]any{"kid": "e"})}, true},
	} {
		if _, err := parseKeySet(document(t, c.keys...), true); (err == nil) != c.ok {
			t.Errorf("%s: got %v, want accepted %v", name, err, c.ok)
		}
	}
}

// What is good but of no use is passed over, and counted.
func TestKeySetIgnores(t *testing.T) {
	t.Parallel()
	ed := tokentest.NewKey(t, "EdDSA", "a").JWK()
	rsa := tokentest.NewKey(t, "RS256", "c").JWK()
	for name, jwk := range map[string]map[string]any{
		"unknown type":              {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"},
		"for encryption":            changed(rsa, map[string]any{"use": "enc"}),
		"for encryption, and weak":  changed(rsa, map[string]any{"use": "enc", "n": b64(ones(128))}),
		"key_ops without verify":    changed(rsa, map[string]any{"key_ops": []string{"wrapKey"}}),
		"algorithm for encryption":  changed(rsa, map[string]any{"alg": "RSA-OAEP"}),
		"unsupported algorithm":     changed(ed, map[string]any{"kid": "z", "alg": "Ed25519"}),
		"X25519":                    changed(ed, map[string]any{"kid": "z", "crv": "X25519", "alg": nil}),
		"Ed448":                     changed(ed, map[string]any{"kid": "z", "crv": "Ed448", "alg": nil}),
		"secp256k1":                 {"kty": "EC", "crv": "secp256k1"},
		"P-521":                     {"kty": "EC", "crv": "P-521"},
		"lower-case type is no RSA": changed(rsa, map[string]any{"kty": "rsa"}),
	} {
		set, err := parseKeySet(document(t, ed, jwk), false)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(set.keys) != 1 || set.keys[0].kid != "a" || set.ignored != 1 {
			t.Errorf("%s: got %d keys, %d ignored, want 1 and 1", name, len(set.keys), set.ignored)
		}
	}
}

func TestKeySetDocuments(t *testing.T) {
	t.Parallel()
	good := string(tokentest.JWKS(tokentest.NewKey(t, "EdDSA", "a")))
	many := func(n int) string {
		return `{"keys":[` + strings.TrimSuffix(strings.Repeat(`{"kty":"x"},`, n), ",") + `]}`
	}
	for name, c := range map[string]struct {
		doc string
		ok  bool
	}{
		"good":                 {good, true},
		"space around":         {"\n " + good + "\r\n\t", true},
		"other members":        {`{"issuer":"x",` + good[1:], true},
		"no keys in the array": {`{"keys":[]}`, true},
		"64 keys":              {many(64), true},
		"65 keys":              {many(65), false},
		"empty":                {"", false},
		"null":                 {"null", false},
		"array":                {"[" + good + "]", false},
		"a bare key":           {good[len(`{"keys":[`) : len(good)-len("]}")], false},
		"no member keys":       {"{}", false},
		"Keys":                 {`{"Keys":[]}`, false},
		"keys and KEYS":        {`{"keys":[],"KEYS":[]}`, false},
		"keys twice":           {`{"keys":[],"keys":[]}`, false},
		"keys an object":       {`{"keys":{}}`, false},
		"keys null":            {`{"keys":null}`, false},
		"a key that is none":   {`{"keys":["x"]}`, false},
		"kty twice":            {`{"keys":[{"kty":"x","kty":"y"}]}`, false},
		"trailing bytes":       {good + "x", false},
		"two documents":        {good + good, false},
		"cut short":            {good[:len(good)-1], false},
		"byte order mark":      {"\ufeff" + good, false},
		"invalid UTF-8":        {"{\"x\":\"\xff\"," + good[1:], false},
		"deep":                 {`{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `,` + good[1:], false},
		"many elements":        {`{"x":[` + strings.Repeat("0,", maxSetElements) + `0],` + good[1:], false},
		"a page of HTML":       {"<html><body>{}</body></html>", false},
		"PEM":                  {"-----BEGIN PUBLIC KEY-----", false},
		"too large":            {good + strings.Repeat(" ", maxSetBytes), false},
	} {
		if _, err := parseKeySet([]byte(c.doc), false); (err == nil) != c.ok {
			t.Errorf("%s: got %v, want accepted %v", name, err, c.ok)
		}
	}
}

// For a key of small order, everybody can make a signature that crypto/ed25519
// accepts; so none of them may be a key, in any spelling.
func TestSmallOrderKeys(t *testing.T) {
	t.Parallel()
	identity := append([]byte{1}, make([]byte, 63)...) // R is the identity, S is 0
	forgeable := func(x []byte) bool {
		for n := range 256 {
			if ed25519.Verify(x, fmt.Append(nil, n), identity) {
				return true
			}
		}
		return false
	}
	p := append(append([]byte{0xed}, ones(30)...), 0x7f)
	pPlusOne := append(append([]byte{0xee}, ones(30)...), 0x7f)
	for _, y := range append(smallOrderY(), p, pPlusOne) {
		for _, sign := range []byte{0, 0x80} {
			x := slices.Clone(y)
			x[31] |= sign
			if !forgeable(x) {
				t.Errorf("%x: not of small order, the table is wrong", x)
			}
			if soundPoint(x) {
				t.Errorf("%x: accepted", x)
			}
		}
	}
	pub := tokentest.NewKey(t, "EdDSA", "a").Public().(ed25519.PublicKey)
	if forgeable(pub) || !soundPoint(pub) {
		t.Errorf("%x: an ordinary key is refused", pub)
	}
}

package tokentest

import (
	"fmt"
	"strings"
)

// headers are tokens with a header member that must not be there.
func (l *list) headers() {
	jwk := string(marshal(l.other.JWK()))
	for name, members := range map[string]string{
		"crit empty": `"crit":[]`, "crit exp": `"crit":["exp"]`, "crit b64": `"crit":["b64"],"b64":true`,
		"crit unknown": `"crit":["x"],"x":1`, "b64 false": `"b64":false`, "b64 true": `"b64":true`,
		"jku": `"jku":"https://evil.example/jwks.json"`, "x5u": `"x5u":"https://evil.example/x.pem"`,
		"jwk": `"jwk":` + jwk, "x5c": `"x5c":["MIIB"]`, "zip": `"zip":"DEF"`, "cty": `"cty":"JWT"`,
		"enc": `"enc":"A128GCM"`, "epk": `"epk":{}`, "iss": `"iss":"` + l.issuer.Iss + `"`,
		"unknown member": `"foo":"bar"`, "empty name": `"":"x"`,
		"ALG": `"ALG":"none"`, "Alg": `"Alg":"EdDSA"`, "Kid": `"Kid":"x"`, "Typ": `"Typ":"JWT"`, "x5T": `"x5T":"AAAA"`,
		"kid with Kelvin sign": "\"\u212aid\":\"x\"", "alg with a NUL": `"alg\u0000":"none"`,
		"duplicate alg": `"alg":"none"`, "the same alg twice": `"alg":"EdDSA"`, "duplicate alg, escaped": `"\u0061lg":"none"`,
		"duplicate kid": `"kid":"x"`, "duplicate typ": `"typ":"JWT"`, "duplicate x5t": `"x5t":"A","x5t":"A"`,
		"x5t number": `"x5t":1`, "x5t#S256 object": `"x5t#S256":{}`,
	} {
		l.add(Header, name, l.issuer.Sign(l.header(members), l.payload()))
	}
	l.add(Header, "jwk with a signature of its own", sign(l.other, encode(l.header(`"jwk":`+jwk)), encode(l.payload())))
	l.add(Header, "jwk instead of kid, with a signature of its own",
		sign(l.other, encode(l.headerWithout("kid", `"jwk":`+jwk)), encode(l.payload())))
	for _, typ := range []string{`"JWE"`, `""`, `"jose"`, `"application/jwt"`, `"dpop+jwt"`, `"logout+jwt"`, `"at+jwt "`, `"id_token"`, `5`, `null`, `["JWT"]`} {
		l.add(Header, "typ "+typ, l.issuer.Sign(l.headerWithout("typ", `"typ":`+typ), l.payload()))
	}
	for name, kid := range map[string]string{
		"number": "1", "null": "null", "array": `["` + l.issuer.Key.Kid + `"]`, "object": "{}", "empty": `""`,
		"with a NUL": `"` + l.issuer.Key.Kid + `\u0000"`, "with a line break": `"a\nb"`, "huge": `"` + strings.Repeat("k", 300) + `"`,
	} {
		l.add(Header, "kid "+name, l.issuer.Sign(l.headerWithout("kid", `"kid":`+kid), l.payload()))
	}
}

// headerForms are headers that are not one JSON object.
func (l *list) headerForms() {
	good := l.issuer.Header()
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	for name, header := range map[string]string{
		"array": "[" + good + "]", "string": `"EdDSA"`, "null": "null", "number": "1", "empty object": "{}",
		"trailing bytes": good + "x", "two objects": good + good, "trailing NUL": good + "\x00",
		"white space before": " " + good, "white space behind": good + "\n", "byte order mark": "\ufeff" + good,
		"not closed": strings.TrimSuffix(good, "}"), "single quotes": strings.ReplaceAll(good, `"`, "'"),
		"trailing comma": strings.TrimSuffix(good, "}") + ",}", "comment": strings.TrimSuffix(good, "}") + "/**/}",
		"invalid UTF-8": l.header("\"x5t\":\"\xff\""), "lone surrogate": l.header(`"x5t":"\ud800"`),
		"raw control character": l.header("\"x5t\":\"\x01\""), "nested deep": l.header(`"x5t":` + deep),
		"UTF-16": utf16(good), "not JSON": "EdDSA",
	} {
		l.add(Header, "header: "+name, l.issuer.Sign(header, l.payload()))
	}
	var many strings.Builder
	for i := range 300 {
		fmt.Fprintf(&many, `"m%d":0,`, i)
	}
	l.add(Header, "header: many members", l.issuer.Sign("{"+many.String()+good[1:], l.payload()))
}

// utf16 spells ASCII text in UTF-16, little-endian.
func utf16(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteByte(s[i])
		b.WriteByte(0)
	}
	return b.String()
}

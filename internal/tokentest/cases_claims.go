package tokentest

import (
	"encoding/json"
	"fmt"
	"strings"
)

// signed signs a payload with a good header.
func (l *list) signed(payload string) string { return l.issuer.Sign(l.issuer.Header(), payload) }

// missingAndMistyped takes claims away and gives them another type.
func (l *list) missingAndMistyped() {
	l.foreign(Claims, "iss missing", l.signed(l.with("iss", nil)))
	for _, name := range []string{"sub", "aud", "exp", "role", "tenant_id"} {
		l.add(Claims, name+" missing", l.signed(l.with(name, nil)))
	}
	types := map[string]any{"null": json.RawMessage("null"), "number": 7, "true": true, "object": map[string]any{}, "array": []string{"x"}}
	for kind, v := range types {
		l.foreign(Claims, "iss "+kind, l.signed(l.with("iss", v)))
		for _, name := range []string{"sub", "aud", "role", "tenant_id", "project_id", "agent_id", "run_id", "jti"} {
			l.add(Claims, name+" "+kind, l.signed(l.with(name, v)))
		}
	}
	for name, iss := range map[string]any{
		"with a slash behind": l.issuer.Iss + "/", "in capitals": strings.ToUpper(l.issuer.Iss), "with a space before": " " + l.issuer.Iss,
		"in an array": []string{l.issuer.Iss}, "empty": "", "of somebody else": "https://elsewhere.example",
	} {
		l.foreign(Claims, "iss "+name, l.signed(l.with("iss", iss)))
	}
	for name, aud := range map[string]any{
		"of another": "other", "empty": "", "empty array": []string{}, "array without ours": []string{"other"},
		"nested array": []any{[]string{l.issuer.Audience}}, "array with a number": []any{l.issuer.Audience, 1},
		"keys of an object": map[string]any{l.issuer.Audience: 1}, "in capitals": strings.ToUpper(l.issuer.Audience), "a prefix": l.issuer.Audience[:1],
	} {
		l.add(Claims, "aud "+name, l.signed(l.with("aud", aud)))
	}
}

// withTimes returns the good claims with iat, nbf and exp in seconds from now.
func (l *list) withTimes(iat, nbf, exp int64) string {
	c := l.issuer.Claims(l.now, "developer", "acme")
	now := l.now.Unix()
	c["iat"], c["nbf"], c["exp"] = now+iat, now+nbf, now+exp
	return string(marshal(c))
}

// times are dates that are out of range or not dates.
func (l *list) times() {
	for name, payload := range map[string]string{
		"a year ago": l.withTimes(-40000000, -40000000, -31536000), "an hour ago": l.withTimes(-7200, -7200, -3600),
		"just past the leeway": l.withTimes(-600, -600, -60),
	} {
		l.cases = append(l.cases, Case{Name: "expired " + name, Class: Claims, Token: l.signed(payload), Recognized: true, WantCode: expiredToken})
	}
	for name, payload := range map[string]string{
		"nbf in the future": l.withTimes(0, 120, 600), "nbf just past the leeway": l.withTimes(0, 62, 600),
		"iat in the future": l.withTimes(120, 0, 600), "iat just past the leeway": l.withTimes(62, 0, 600),
		"exp before nbf": l.withTimes(0, 30, 20), "exp before iat": l.withTimes(30, 0, 20), "exp equal to nbf": l.withTimes(0, 10, 10),
	} {
		l.add(Claims, name, l.signed(payload))
	}
	exp := l.now.Add(Lifetime).Unix()
	for name, v := range map[string]string{
		"string": fmt.Sprintf(`"%d"`, exp), "float": fmt.Sprintf("%d.5", exp), "whole float": fmt.Sprintf("%d.0", exp),
		"exponent": "2e9", "exponent 1e20": "1e20", "1E400": "1E400", "negative": "-1", "minus zero": "-0", "zero": "0",
		"null": "null", "true": "true", "array": fmt.Sprintf("[%d]", exp), "2 to the 40": "1099511627776",
		"2 to the 63": "9223372036854775808", "2 to the 64 and more": "18446744073709551617", "100 digits": strings.Repeat("9", 100),
		"milliseconds": fmt.Sprintf("%d000", exp), "leading zero": fmt.Sprintf("0%d", exp), "hexadecimal": "0x7fffffff", "NaN": "NaN",
		"plus sign": fmt.Sprintf("+%d", exp),
	} {
		for _, claim := range []string{"exp", "nbf", "iat"} {
			if claim != "exp" && name == "zero" {
				continue // harmless there
			}
			l.add(Claims, claim+" "+name, l.signed(l.raw(claim, v)))
		}
	}
}

// raw returns the good claims with one that is written as it is.
func (l *list) raw(name, text string) string {
	return "{" + `"` + name + `":` + text + "," + l.with(name, nil)[1:]
}

// names are claims that two readers could read differently, and values that the
// issuer may not assert.
func (l *list) names() {
	for _, name := range []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "role", "tenant_id", "project_id", "agent_id", "run_id"} {
		title := strings.ToUpper(name[:1]) + name[1:]
		l.add(Claims, "duplicate "+name+" before", l.signed(l.prefixed(`"`+name+`":"x"`)))
		l.add(Claims, "duplicate "+name+" behind", l.signed(l.suffixed(`"`+name+`":"x"`)))
		l.add(Claims, name+" also as "+title, l.signed(l.suffixed(`"`+title+`":"x"`)))
		l.add(Claims, name+" also in capitals", l.signed(l.prefixed(`"`+strings.ToUpper(name)+`":"x"`)))
	}
	l.add(Claims, "ISS instead of iss", l.signed(strings.Replace(l.payload(), `"iss"`, `"ISS"`, 1)))
	l.add(Claims, "iss with a long s", l.signed(strings.Replace(l.payload(), `"iss"`, "\"is\u017f\"", 1)))
	l.add(Claims, "duplicate role, escaped", l.signed(l.suffixed(`"r\u006fle":"admin"`)))
	l.add(Claims, "duplicate of an unknown claim", l.signed(l.suffixed(`"x":1,"x":1`)))
	l.add(Claims, "duplicate inside an unknown claim", l.signed(l.suffixed(`"x":{"a":1,"a":1}`)))
	for _, role := range []string{"admin", "Admin", "root", "developer ", "any", "*", "", "developer,admin"} {
		l.add(Claims, "role "+role, l.signed(l.with("role", role)))
	}
	for name, tenant := range map[string]string{"*": "*", "empty": "", "with a NUL": "acme\x00", "with a line break": "acme\r\nx: y", "huge": strings.Repeat("t", 256)} {
		l.add(Claims, "tenant "+name, l.signed(l.with("tenant_id", tenant)))
	}
	for name, sub := range map[string]string{
		"empty": "", "with a NUL": "a\x00b", "with a line break": "a\nb", "with DEL": "a\x7f", "with a C1 control": "a\u0085b", "of 256 bytes": strings.Repeat("s", 256),
	} {
		l.add(Claims, "sub "+name, l.signed(l.with("sub", sub)))
	}
	l.spacesAround()
	l.add(Claims, "jti huge", l.signed(l.with("jti", strings.Repeat("j", 256))))
	l.add(Claims, "agent with a NUL", l.signed(l.with("agent_id", "a\x00")))
}

// spacesAround are values that HTTP, which trims header values, would make those
// of somebody else.
func (l *list) spacesAround() {
	for name, good := range map[string]string{
		"sub": "alice", "tenant_id": "acme", "project_id": "proj1", "agent_id": "a", "run_id": "r", "role": "developer", "jti": "j",
	} {
		for kind, space := range map[string]string{"a space": " ", "a no-break space": "\u00a0", "an em space": "\u2003", "a line separator": "\u2028"} {
			l.add(Claims, name+" with "+kind+" before", l.signed(l.with(name, space+good)))
			l.add(Claims, name+" with "+kind+" behind", l.signed(l.with(name, good+space)))
		}
		l.add(Claims, name+" of a space", l.signed(l.with(name, " ")))
	}
}

// claimForms are payloads that are not one JSON object.
func (l *list) claimForms() {
	good := l.payload()
	for name, payload := range map[string]string{
		"trailing bytes": good + "x", "two objects": good + good, "trailing NUL": good + "\x00", "trailing comma": strings.TrimSuffix(good, "}") + ",}",
		"white space before": " " + good, "white space behind": good + "\n", "byte order mark": "\ufeff" + good,
		"invalid UTF-8 in a value": l.prefixed("\"x\":\"\xff\""), "invalid UTF-8 in a name": l.prefixed("\"\xc0\xae\":1"),
		"lone surrogate": l.prefixed(`"x":"\ud800"`), "raw control character": l.prefixed("\"x\":\"\x01\""), "not closed": strings.TrimSuffix(good, "}"),
		"comment": "{/*x*/" + good[1:], "nested deep": l.prefixed(`"x":` + strings.Repeat("[", 9) + strings.Repeat("]", 9)),
		"nested very deep": l.prefixed(`"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000)),
		"too many members": l.prefixed(`"x":[` + strings.Repeat("0,", 1100) + `0]`),
	} {
		l.add(Claims, "payload: "+name, l.signed(payload))
	}
	for name, payload := range map[string]string{
		"array around": "[" + good + "]", "string": string(marshal(good)), "null": "null", "number": "1", "empty object": "{}",
		"iss one level down": `{"claims":` + good + `}`, "UTF-16": utf16(good),
	} {
		l.foreign(Claims, "payload: "+name, l.signed(payload))
	}
}

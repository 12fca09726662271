package token

import (
	"encoding/base64"
	"strings"
	"unicode"
)

// maxTextBytes bounds kid and every claim that becomes part of a principal.
const maxTextBytes = 255

// parsed is a token that has the right form. Nothing in it is verified.
type parsed struct {
	alg       string
	kid       string // "" means none
	claims    value
	signed    string // the JWS signing input, a substring of the token
	signature []byte
}

// parse is the strict gate: size, three non-empty parts in canonical base64url,
// an allow-listed header, and a payload that is one unambiguous JSON object.
func parse(raw string) (parsed, error) {
	header, payload, signature, err := split(raw)
	if err != nil {
		return parsed{}, err
	}
	t := parsed{signed: raw[:len(header)+1+len(payload)]}
	if t.alg, t.kid, err = parseHeader(header); err != nil {
		return parsed{}, err
	}
	claims, err := decodePart(payload)
	if err != nil {
		return parsed{}, err
	}
	if t.claims, err = parseObject(claims, maxTokenElements); err != nil {
		return parsed{}, invalid("payload: " + err.Error())
	}
	t.signature, err = decodePart(signature)
	return t, err
}

func split(raw string) (header, payload, signature string, err error) {
	if len(raw) > MaxTokenBytes {
		return "", "", "", invalid("token too large")
	}
	header, rest, ok := strings.Cut(raw, ".")
	payload, signature, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 || header == "" || payload == "" || signature == "" {
		return "", "", "", invalid("not three parts")
	}
	return header, payload, signature, nil
}

// decodePart decodes canonical base64url: no padding, no slack bits and, unlike
// the standard decoder, no line breaks.
func decodePart(part string) ([]byte, error) {
	if strings.ContainsAny(part, "\r\n") {
		return nil, invalid("line break in a part")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return nil, invalid("part is not canonical base64url")
	}
	return b, nil
}

// parseHeader reads the protected header. The allow-list is what keeps crit,
// b64, jku, x5u, jwk, x5c, zip, cty and all case variants out.
func parseHeader(part string) (alg, kid string, err error) {
	b, err := decodePart(part)
	if err != nil {
		return "", "", err
	}
	obj, err := parseObject(b, maxTokenElements)
	if err != nil {
		return "", "", invalid("header: " + err.Error())
	}
	for _, m := range obj.members {
		if err := checkHeaderMember(m); err != nil {
			return "", "", err
		}
	}
	a, ok := obj.get("alg")
	if !ok {
		return "", "", invalid("header has no alg")
	}
	k, _ := obj.get("kid")
	return a.text, k.text, nil
}

func checkHeaderMember(m member) error {
	if m.value.kind != kindString {
		return invalid("header member is not a string or not allowed")
	}
	switch m.name {
	case "alg", "x5t", "x5t#S256": // the thumbprints are never used
		return nil
	case "kid":
		if !boundedText(m.value.text) {
			return invalid("kid is empty, too long, or has control characters or white space around it")
		}
		return nil
	case "typ":
		return checkType(m.value.text)
	}
	return invalid("header member is not allowed")
}

// checkType accepts the two media types of RFC 7519, 5.1 and RFC 9068, 2.1.
func checkType(typ string) error {
	for _, ok := range []string{"JWT", "at+jwt", "application/at+jwt"} {
		if strings.EqualFold(typ, ok) {
			return nil
		}
	}
	return invalid("typ is not a JWT or an access token")
}

// boundedText reports whether s may name something: not empty, bounded, without
// control characters, so that it can stand in a header and in a log, and without
// white space around it. HTTP trims header values (RFC 9110, 5.5): to the app,
// " alice" in a header of ours would be alice.
func boundedText(s string) bool {
	return s != "" && len(s) <= maxTextBytes && s == strings.TrimSpace(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

package tokentest

import (
	"encoding/base64"
	"net/url"
	"strings"
)

// encodings are other spellings of good tokens. Where the spelling is signed, the
// signature is good over the bytes as they stand.
func (l *list) encodings() {
	h, p := l.unaligned()
	header, payload, good := encode(h), encode(p), l.issuer.Sign(h, p)
	sig := good[strings.LastIndex(good, ".")+1:]
	k := l.issuer.Key
	l.add(Encoding, "padding on the header", sign(k, base64.URLEncoding.EncodeToString([]byte(h)), payload))
	l.add(Encoding, "padding on the payload", sign(k, header, base64.URLEncoding.EncodeToString([]byte(p))))
	l.add(Encoding, "padding on the signature", good+"==")
	l.add(Encoding, "slack bits in the header", sign(k, slack(header), payload))
	l.add(Encoding, "slack bits in the payload", sign(k, header, slack(payload)))
	l.add(Encoding, "slack bits in the signature", header+"."+payload+"."+slack(sig))
	std := l.with("agent_id", "\u07ff?>\u07ff?>\u07ff?>~~~???") // has - or _ in base64url
	l.add(Encoding, "standard alphabet in the payload", sign(k, header, base64.RawStdEncoding.EncodeToString([]byte(std))))
	l.add(Encoding, "standard alphabet in the signature", l.standardSignature())
	for name, ws := range map[string]string{"space": " ", "line feed": "\n", "carriage return": "\r", "CR LF": "\r\n", "tab": "\t", "NUL": "\x00", "no-break space": "\u00a0", "e acute": "é"} {
		l.add(Encoding, name+" before the token", ws+good)
		l.add(Encoding, name+" behind the token", good+ws)
		l.add(Encoding, name+" in the header", sign(k, header[:4]+ws+header[4:], payload))
		l.add(Encoding, name+" in the payload", sign(k, header, payload[:4]+ws+payload[4:]))
		l.add(Encoding, name+" in the signature", header+"."+payload+"."+sig[:4]+ws+sig[4:])
	}
	l.add(Encoding, "Bearer before the token", "Bearer "+good)
	l.add(Encoding, "in quotes", `"`+good+`"`)
	l.add(Encoding, "percent-encoded padding", sign(k, header, payload+"%3D"))
	l.foreign(Encoding, "dots percent-encoded", strings.ReplaceAll(good, ".", "%2E"))
	l.foreign(Encoding, "encoded once more", encode(good))
	l.foreign(Encoding, "URL-escaped JSON", url.QueryEscape(h)+"."+url.QueryEscape(p)+"."+sig)
	l.foreign(Encoding, "payload not encoded", sign(k, header, strings.ReplaceAll(p, ".", "")))
}

// unaligned returns a good header and payload whose encodings end in slack bits,
// so that they have padding to add and bits to set.
func (l *list) unaligned() (header, payload string) {
	header, payload = l.issuer.Header(), l.payload()
	for len(header)%3 == 0 {
		header = strings.Replace(header, "{", "{ ", 1)
	}
	for len(payload)%3 == 0 {
		payload = strings.Replace(payload, "{", "{ ", 1)
	}
	return header, payload
}

// slack sets the lowest bit of the last character, which encodes nothing.
func slack(part string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, part[len(part)-1])
	return part[:len(part)-1] + string(alphabet[last|1])
}

// standardSignature returns a token whose signature has a character of the
// standard alphabet, found by minting until there is one.
func (l *list) standardSignature() string {
	for n := 0; ; n++ {
		good := l.signed(l.with("jti", strings.Repeat("j", 1+n%200)))
		dot := strings.LastIndex(good, ".")
		if std := strings.NewReplacer("-", "+", "_", "/").Replace(good[dot:]); std != good[dot:] {
			return good[:dot] + std
		}
	}
}

// shapes are tokens with another number of parts, or too long.
func (l *list) shapes() {
	good := l.good()
	parts := strings.Split(good, ".")
	l.foreign(Encoding, "empty", "")
	l.foreign(Encoding, "one part", parts[0])
	l.foreign(Encoding, "two parts", parts[0]+"."+parts[1])
	l.foreign(Encoding, "only dots", "..")
	l.foreign(Encoding, "empty payload", parts[0]+".."+parts[2])
	l.foreign(Encoding, "five parts with an empty key, as JWE", parts[0]+"."+"."+parts[1]+"."+parts[2]+"."+parts[2])
	l.add(Encoding, "empty header", "."+parts[1]+"."+parts[2])
	l.add(Encoding, "four parts", good+"."+parts[2])
	l.add(Encoding, "five parts", good+"."+parts[2]+"."+parts[2])
	l.add(Encoding, "dot behind", good+".")
	l.foreign(Encoding, "dot before", "."+good)
	l.add(Encoding, "many dots", good+strings.Repeat(".", 2000))
	l.foreign(Encoding, "only many dots", strings.Repeat(".", 8000))
	l.foreign(Encoding, "JSON serialization", `{"protected":"`+parts[0]+`","payload":"`+parts[1]+`","signature":"`+parts[2]+`"}`)
	big := l.signed(l.with("x", strings.Repeat("x", 8192*3/4)))
	l.add(Encoding, "over 8 KiB", big)
	l.add(Encoding, "very long", good+strings.Repeat("A", 60000))
	l.add(Encoding, "over 8 KiB and not ours", strings.Repeat("A", 8193))
}

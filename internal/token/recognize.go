package token

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Recognize reports whether a header or query value means to be a token of one
// of the verifier's issuers, however badly it is made: at least two dots, and a
// second part that decodes to JSON with a member that case-folds to iss and has
// a configured issuer's value. Text that is not JSON counts if it has such a
// member on any level. A value over MaxTokenBytes counts whatever it is.
//
// A value that Verify accepts is always recognised.
func (v *Verifier) Recognize(value string) bool {
	if len(value) > MaxTokenBytes {
		return true
	}
	_, rest, ok := strings.Cut(value, ".")
	if !ok {
		return false
	}
	payload, _, ok := strings.Cut(rest, ".")
	if !ok {
		return false
	}
	if v.cache.has(value) {
		return true // verified once, so its issuer is ours; the look at its claims is the dear part
	}
	var buf [MaxTokenBytes * 3 / 4]byte // on the stack: this runs for every foreign key
	s := scanner{text: decodeLenient(buf[:0], payload)}
	return s.claimsIssuer(v.issuers)
}

// notSextet marks the bytes of neither alphabet in sextets.
const notSextet = 0xff

// sextets gives the value of each byte in base64 and base64url alike. It is
// never written.
var sextets = newSextets()

func newSextets() (table [256]byte) {
	for i := range table {
		table[i] = notSextet
	}
	for _, last := range []string{"+/", "-_"} {
		for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789" + last) {
			table[c] = byte(i)
		}
	}
	return table
}

// decodeLenient appends what base64 and base64url make of s. It skips every
// byte of neither alphabet, as lenient decoders do, padding among them, and
// drops slack bits.
func decodeLenient(dst []byte, s string) []byte {
	var acc uint32
	var bits uint
	for i := range len(s) {
		sextet := sextets[s[i]]
		if sextet == notSextet {
			continue
		}
		acc, bits = acc<<6|uint32(sextet), bits+6
		if bits >= 8 {
			bits -= 8
			dst = append(dst, byte(acc>>bits))
		}
	}
	return dst
}

// scanner walks over the string literals of text that may not be JSON.
type scanner struct {
	text []byte
	at   int
}

// claimsIssuer looks for a member iss of the outermost object, and, in text that
// is not JSON, on any level.
func (s *scanner) claimsIssuer(issuers map[string]*issuer) bool {
	depth, nested := 0, false
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			if !s.member(issuers) {
				continue
			}
			if depth == 1 {
				return true
			}
			nested = true
			continue
		}
		s.at++
	}
	return nested && !isJSON(s.text)
}

// member reads the literal at the cursor and reports whether it is the name of
// a member iss with an issuer's value. The cursor moves behind what was read; a
// value stays unread unless the name is iss, as it may itself be an odd name.
func (s *scanner) member(issuers map[string]*issuer) bool {
	name := s.literal()
	if !s.colon() || !foldsToIss(name) {
		return false
	}
	if s.at >= len(s.text) || s.text[s.at] != '"' {
		return false
	}
	var buf [256]byte
	_, ok := issuers[string(unquoted(buf[:0], s.literal()))]
	return ok
}

// literal returns the string literal at the cursor, with its quotes.
func (s *scanner) literal() []byte {
	start := s.at
	for s.at++; s.at < len(s.text); s.at++ {
		switch s.text[s.at] {
		case '\\':
			s.at++
		case '"':
			s.at++
			return s.text[start:s.at]
		}
	}
	s.at = len(s.text)
	return s.text[start:]
}

// colon skips white space, a colon and white space; false if there is no colon.
func (s *scanner) colon() bool {
	s.skipSpace()
	if s.at >= len(s.text) || s.text[s.at] != ':' {
		return false
	}
	s.at++
	s.skipSpace()
	return true
}

func (s *scanner) skipSpace() {
	for s.at < len(s.text) && s.text[s.at] <= ' ' {
		s.at++
	}
}

// foldsToIss includes the long s (U+017F), which folds to s.
func foldsToIss(literal []byte) bool {
	const longest = len(`"\u0069\u0073\u0073"`)
	if len(literal) > longest {
		return false
	}
	var buf [longest]byte
	return strings.EqualFold(string(unquoted(buf[:0], literal)), "iss")
}

// unquoted appends the meaning of a string literal; faults in it are passed over.
func unquoted(dst, literal []byte) []byte {
	dst, _ = jsontext.AppendUnquote(dst, literal)
	return dst
}

// isJSON reports whether a lenient parser reads text as one JSON value. It works
// on a copy, so that the caller's can stay on the stack.
func isJSON(text []byte) bool {
	return jsontext.Value(slices.Clone(text)).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

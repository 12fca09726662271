package extauthz

import (
	"strings"
	"unicode/utf8"

	"gatehouse/internal/apierr"
)

// single are the headers of which a request may have one: with two, Envoy, we
// and the upstream could each believe another.
func single() []string {
	return []string{
		":authority", ":method", ":path", ":scheme", "host",
		"authorization", "x-api-key", "api-key", "x-goog-api-key",
		"content-type", "content-length", "content-encoding", "transfer-encoding",
		"idempotency-key", "x-request-id",
	}
}

// hygiene refuses what Envoy lets through although two readers could take it
// for different things. Envoy has normalised the path before.
func (c *check) hygiene() *Refusal {
	if r := c.method(); r != nil {
		return r
	}
	path, query, _ := strings.Cut(c.in.Path, "?")
	if why := badPath(path); why != "" {
		return malformed("path_not_canonical", "the path "+why)
	}
	if why := badQuery(query); why != "" {
		return malformed("query_malformed", "the query "+why)
	}
	if !goodHost(c.in.Host) {
		return malformed("host_malformed", "the host is malformed")
	}
	return c.in.Headers.bad()
}

func (c *check) method() *Refusal {
	switch m := c.in.Method; {
	case m == "TRACE" || m == "CONNECT":
		return &Refusal{Class: ClassHygiene, Rule: "method_refused", Reason: m + " is never accepted", hygiene: true,
			err: apierr.New(apierr.ValidationMethodNotAllowed, apierr.Options{})}
	case !upperToken(m):
		return malformed("method_malformed", "the method is not in capital letters")
	}
	return nil
}

func upperToken(s string) bool {
	for i := range len(s) {
		if (s[i] < 'A' || s[i] > 'Z') && s[i] != '-' {
			return false
		}
	}
	return s != ""
}

// badPath says what is wrong with a path that is to be canonical: decoding it
// once must give what everybody decodes, and decoding it twice the same.
func badPath(p string) string {
	switch {
	case !strings.HasPrefix(p, "/"):
		return "does not begin with a slash"
	case strings.ContainsAny(p, `;\#`):
		return "has a path parameter, a backslash or a fragment"
	case strings.Contains(p, "//"):
		return "has an empty segment"
	}
	decoded, why := unescape(p)
	switch {
	case why != "":
		return why
	case !utf8.ValidString(decoded):
		return "is not valid UTF-8"
	case dotSegment(decoded):
		return "has a dot segment"
	}
	return ""
}

// unescape decodes a path once. It refuses what decodes to a delimiter, to a
// control character, or to another escape.
func unescape(p string) (string, string) {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] != '%' {
			if p[i] <= ' ' || p[i] >= 0x7f {
				return "", "has a byte that must be escaped"
			}
			b.WriteByte(p[i])
			continue
		}
		v, ok := escape(p[i:])
		switch {
		case !ok:
			return "", "has an invalid escape"
		case v < ' ' || v == 0x7f:
			return "", "has an escaped control character"
		case strings.IndexByte(`/\;`, v) >= 0:
			return "", "has an escaped delimiter"
		case v == '%' && twoHex(p[i+3:]):
			return "", "is escaped twice"
		}
		b.WriteByte(v)
		i += 2
	}
	return b.String(), ""
}

func dotSegment(p string) bool {
	for segment := range strings.SplitSeq(p, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

func badQuery(q string) string {
	for i := 0; i < len(q); i++ {
		switch c := q[i]; {
		case c <= ' ' || c >= 0x7f || c == '#':
			return "has a byte that must be escaped"
		case c == '%' && !twoHex(q[i+1:]):
			return "has an invalid escape"
		}
	}
	return ""
}

// escape decodes the escape at the beginning of s.
func escape(s string) (byte, bool) {
	if !twoHex(s[1:]) {
		return 0, false
	}
	return hexDigit(s[1])<<4 | hexDigit(s[2]), true
}

func twoHex(s string) bool { return len(s) >= 2 && isHex(s[0]) && isHex(s[1]) }

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func hexDigit(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

// goodHost accepts names, literal addresses and a port, nothing that could be
// user information or a path.
func goodHost(h string) bool {
	for i := range len(h) {
		c := h[i]
		alnum := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !alnum && strings.IndexByte("-._:[]", c) < 0 {
			return false
		}
	}
	return h != ""
}

func pathOnly(p string) string {
	path, _, _ := strings.Cut(p, "?")
	return path
}

package sanitize

import "unicode/utf8"

const (
	escapeRounds = 2  // how deep escapes within escapes are decoded
	maxEscape    = 64 // bytes of one character's escapes; longer ones are not decoded
	maxDigits    = 10 // digits of one reference; more only hide it
)

// runeLong is what an escape of too many digits is read as.
const runeLong rune = -2

// opensEscape reports whether a byte may begin an escape.
func opensEscape(b byte) bool { return b == '&' || b == '%' || b == '\\' }

// outcome is what became of reading one character.
type outcome uint8

const (
	readOK   outcome = iota
	readNone         // no escape stands there
	readMore         // the text ends within what may be one
)

// source reads characters of a text in which some rounds of escapes are decoded.
type source struct {
	names *names
	text  string
	final bool // nothing follows the text
}

// char reads the character at i after some rounds of decoding, and where the
// next one begins. The outcome is readOK or readMore.
func (s source) char(round, i int) (r rune, next int, o outcome) {
	if round == 0 {
		return s.raw(i)
	}
	r, next, o = s.char(round-1, i)
	if o != readOK || r >= utf8.RuneSelf || r < 0 || !opensEscape(byte(r)) {
		return r, next, o
	}
	var v rune
	var end int
	switch r {
	case '&':
		v, end, o = s.reference(round-1, next)
	case '%':
		v, end, o = s.percent(round-1, next)
	default:
		v, end, o = s.backslash(round-1, next)
	}
	switch {
	case o == readOK && end-i <= maxEscape:
		return v, end, readOK
	case o == readMore && len(s.text)-i < maxEscape && !s.final:
		return 0, i, readMore
	}
	return r, next, readOK
}

// plain reads the escapes that texts are full of, which are raw and stand for a
// character that begins none. For all else it is readNone.
func (s source) plain(i int) (r rune, next int, o outcome) {
	if i+2 >= len(s.text) {
		return 0, i, readNone
	}
	next = i + 2
	switch b := s.text[i+1]; s.text[i] {
	case '%':
		if high, low := digit(rune(b)), digit(rune(s.text[i+2])); high < 16 && low < 16 {
			r, next = high<<4|low, i+3
		}
	case '\\':
		r = simple(b)
	}
	if r <= 0 || r >= utf8.RuneSelf || opensEscape(byte(r)) {
		return 0, i, readNone
	}
	return r, next, readOK
}

// simple is what a letter after a \ stands for, or 0.
func simple(b byte) rune {
	switch b {
	case 'n', 'r', 'v', 'f':
		return '\n'
	case 't', 'b':
		return ' '
	case '/', '"', '\'':
		return rune(b)
	}
	return 0
}

// mayEscape reports whether an escape may begin at i. It is quick, and wrong only
// on the careful side.
func (s source) mayEscape(i int) bool {
	if i+2 >= len(s.text) {
		return true
	}
	b, c := s.text[i+1], s.text[i+2]
	if opensEscape(b) && s.text[i] != '\\' {
		return begins(b, c)
	}
	hex := digit(rune(c)) < 16 || opensEscape(c) && (i+3 >= len(s.text) || begins(c, s.text[i+3]))
	switch s.text[i] {
	case '&':
		if b == '#' {
			return hex || c|0x20 == 'x'
		}
		if !asciiLetter(rune(b)) || !asciiLetter(rune(c)) {
			return asciiLetter(rune(b)) && hex
		}
		return s.names.follow(s.names.follow(0, b), c) != 0
	case '%':
		return hex && (digit(rune(b)) < 16 || b|0x20 == 'u')
	}
	if b == 'u' || b == 'U' || b == 'x' {
		return hex || c == '{'
	}
	return begins('\\', b)
}

// begins reports whether two bytes may begin an escape that is itself raw.
func begins(b, c byte) bool {
	switch {
	case b == '&':
		return c == '#' || asciiLetter(rune(c))
	case b == '%':
		return digit(rune(c)) < 16 || c|0x20 == 'u'
	}
	return asciiLetter(rune(c)) || c == '/' || c == '"' || c == '\'' || opensEscape(c)
}

func (s source) raw(i int) (rune, int, outcome) {
	if i >= len(s.text) {
		return 0, i, readMore
	}
	if b := s.text[i]; b < utf8.RuneSelf {
		return rune(b), i + 1, readOK
	}
	if !s.final && !utf8.FullRuneInString(s.text[i:]) {
		return 0, i, readMore
	}
	r, n := utf8.DecodeRuneInString(s.text[i:])
	return r, i + n, readOK
}

// reference reads what follows the & of an HTML character reference
// (HTML Standard, 13.2.5.72): the longest name that fits. Some need no semicolon,
// whatever follows.
func (s source) reference(round, i int) (rune, int, outcome) {
	r, next, o := s.char(round, i)
	if o == readOK && r == '#' {
		return s.numeric(round, next)
	}
	var short rune
	at, end := 0, i
	for o == readOK && asciiLetter(r) {
		if at = s.names.follow(at, byte(r)); at == 0 {
			break
		}
		if n := s.names.nodes[at]; n.legacy {
			short, end = n.char, next
		}
		r, next, o = s.char(round, next)
	}
	name := s.names.nodes[at].char
	switch {
	case o == readMore && !s.final:
		return 0, i, readMore
	case name != 0 && o == readOK && r == ';':
		return name, next, readOK
	case short != 0:
		return short, end, readOK
	}
	return 0, i, readNone
}

func asciiLetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }

func (s source) numeric(round, i int) (rune, int, outcome) {
	base := rune(10)
	r, next, o := s.char(round, i)
	if o == readOK && (r == 'x' || r == 'X') {
		base, i = 16, next
	}
	v, end, n, o := s.number(round, i, base, maxDigits+1)
	switch {
	case o == readMore && !s.final:
		return 0, i, readMore
	case n == 0:
		return 0, i, readNone
	case n > maxDigits:
		return runeLong, end, readOK
	}
	switch r, next, o := s.char(round, end); {
	case o == readMore && !s.final:
		return 0, i, readMore
	case o == readOK && r == ';':
		return v, next, readOK
	}
	return v, end, readOK
}

// number reads up to max digits. Values beyond Unicode stay beyond it.
func (s source) number(round, i int, base rune, max int) (v rune, end, n int, o outcome) {
	for n < max {
		r, next, o := s.char(round, i)
		d := digit(r)
		if o != readOK {
			return v, i, n, o
		}
		if d >= base {
			break
		}
		v = min(v*base+d, utf8.MaxRune+1)
		i, n = next, n+1
	}
	return v, i, n, readOK
}

// digit is the value of a hexadecimal digit, or one beyond all bases.
func digit(r rune) rune {
	switch {
	case r >= '0' && r <= '9':
		return r - '0'
	case r >= 'a' && r <= 'f':
		return r - 'a' + 10
	case r >= 'A' && r <= 'F':
		return r - 'A' + 10
	}
	return 99
}

// hex reads exactly n hexadecimal digits.
func (s source) hex(round, i, n int) (rune, int, outcome) {
	v, end, got, o := s.number(round, i, 16, n)
	if o == readOK && got < n {
		o = readNone
	}
	return v, end, o
}

// percent reads what follows a % (RFC 3986, 2.1; %uXXXX is what old servers
// add). Bytes beyond ASCII are put together to one character.
func (s source) percent(round, i int) (rune, int, outcome) {
	r, next, o := s.char(round, i)
	if o != readOK {
		return 0, i, o
	}
	if r == 'u' || r == 'U' {
		return s.hex(round, next, 4)
	}
	v, end, o := s.hex(round, i, 2)
	if o != readOK || v < utf8.RuneSelf {
		return v, end, o
	}
	encoded := [utf8.UTFMax]byte{byte(v)}
	for n := 1; n < utf8.UTFMax; n++ {
		r, next, o := s.char(round, end)
		if o != readOK || r != '%' {
			return 0, i, max(o, readNone)
		}
		if v, end, o = s.hex(round, next, 2); o != readOK {
			return 0, i, o
		}
		encoded[n] = byte(v)
		if utf8.FullRune(encoded[:n+1]) {
			return decodeLoosely(encoded[:n+1]), end, readOK
		}
	}
	return 0, i, readNone
}

// decodeLoosely reads a character, also one in two bytes where one would do, as
// careless decoders take it: %C0%AF is a slash.
func decodeLoosely(b []byte) rune {
	if b[0]|1 == 0xc1 && b[1]&0xc0 == 0x80 {
		return rune(b[0]&0x1f)<<6 | rune(b[1]&0x3f)
	}
	r, _ := utf8.DecodeRune(b)
	return r
}

// backslash reads what follows a \ in JSON (RFC 8259, 7) and JavaScript.
func (s source) backslash(round, i int) (rune, int, outcome) {
	r, next, o := s.char(round, i)
	if o != readOK {
		return 0, i, o
	}
	switch r {
	case 'u':
		if r, after, o := s.char(round, next); o == readOK && r == '{' {
			return s.braced(round, after)
		}
		return s.utf16(round, next)
	case 'U':
		return s.hex(round, next, 8)
	case 'x':
		return s.hex(round, next, 2)
	case '\\':
		return r, next, readOK
	}
	if r >= utf8.RuneSelf || simple(byte(r)) == 0 {
		return 0, i, readNone
	}
	return simple(byte(r)), next, readOK
}

func (s source) braced(round, i int) (rune, int, outcome) {
	v, end, n, o := s.number(round, i, 16, 8)
	if o != readOK || n == 0 {
		return 0, i, max(o, readNone)
	}
	r, next, o := s.char(round, end)
	if o != readOK || r != '}' {
		return 0, i, max(o, readNone)
	}
	return v, next, readOK
}

// utf16 reads four digits, and a second half where they are a first one.
func (s source) utf16(round, i int) (rune, int, outcome) {
	high, end, o := s.hex(round, i, 4)
	if o != readOK || high < 0xd800 || high > 0xdbff {
		return high, end, o
	}
	at := end
	for _, want := range [...]rune{'\\', 'u'} {
		r, next, o := s.char(round, at)
		if o == readMore && !s.final {
			return 0, i, readMore
		}
		if o != readOK || r != want {
			return high, end, readOK
		}
		at = next
	}
	low, after, o := s.hex(round, at, 4)
	switch {
	case o == readMore && !s.final:
		return 0, i, readMore
	case o != readOK || low < 0xdc00 || low > 0xdfff:
		return high, end, readOK
	}
	return (high-0xd800)<<10 + (low - 0xdc00) + 0x10000, after, readOK
}

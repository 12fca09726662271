package sanitize

// symbol is the class of a folded character: a column of the word table.
type symbol = uint8

// The symbols. Those below symDigit are the letters a to z.
const (
	symDigit symbol = iota + 26
	symAlpha        // a letter beyond ASCII that continues a word
	symUnder        // ends a word without completing it, so that drop_table is no verb
	symIdeo         // a letter of a script without spaces: a name, but no word
	symSpace
	symLine
	symLT
	symGT
	symSlash
	symStar
	symDash
	symHash
	symSemi
	symColon
	symEq
	symLParen
	symRParen
	symLBrack
	symRBrack
	symBang
	symDQ
	symSQ
	symTick
	symDot
	symComma
	symPlus
	symAmp
	symPipe
	symDollar
	symBack
	symLBrace
	symOther
	symEnd // the end of the text
	slowByte
	symSkip      // a character of no width
	numSymbols   // at most rowSymbols
	rowSymbols   = 64
	symLetterEnd = symDigit
)

// Folded characters are bytes: ASCII in lower case, or one of these, which
// stand for what ASCII has no character for. No control character is folded to
// itself, so their codes are free.
const (
	charSkip  byte = 0 // nothing: it has no width
	charAlpha byte = 1
	charIdeo  byte = 2
	charOther byte = 3
	charEnd   byte = 4
)

// continues reports whether a symbol goes on with a word.
func continues(s symbol) bool { return s < symUnder }

// isLetter reports whether a symbol is one of a to z.
func isLetter(s symbol) bool { return s < symLetterEnd }

// twofold reports whether what is folded to a symbol is something else to whoever
// does not fold.
func twofold(s symbol) bool { return s == symUnder || s >= symSpace && s < symOther }

// blank reports whether a symbol is white space.
func blank(s symbol) bool { return s == symSpace || s == symLine }

// symbolOf is the symbol of each folded character.
var symbolOf = func() (t [256]symbol) {
	for i := range t {
		t[i] = symOther
	}
	for c := range 26 {
		t['a'+c] = symbol(c)
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = symDigit
	}
	for c, s := range map[byte]symbol{
		charSkip: symSkip, charAlpha: symAlpha, charIdeo: symIdeo, charEnd: symEnd,
		'_': symUnder, ' ': symSpace, '\n': symLine, '<': symLT, '>': symGT, '/': symSlash, '*': symStar,
		'-': symDash, '#': symHash, ';': symSemi, ':': symColon, '=': symEq, '(': symLParen, ')': symRParen,
		'[': symLBrack, ']': symRBrack, '!': symBang, '"': symDQ, '\'': symSQ, '`': symTick, '.': symDot,
		',': symComma, '+': symPlus, '&': symAmp, '|': symPipe, '$': symDollar, '\\': symBack, '{': symLBrace,
	} {
		t[c] = s
	}
	return t
}()

// foldASCII is the folded character of each byte below 0x80.
var foldASCII = func() (t [256]byte) {
	for b := range 0x80 {
		switch {
		case b >= 'A' && b <= 'Z':
			t[b] = byte(b) + 'a' - 'A'
		case b == '\t':
			t[b] = ' '
		case b >= '\n' && b <= '\r':
			t[b] = '\n'
		case b < ' ' || b == 0x7f:
			t[b] = charSkip
		default:
			t[b] = byte(b)
		}
	}
	return t
}()

// controlByte reports whether an ASCII byte is a control character that text
// has no use for.
func controlByte(b byte) bool {
	return b < ' ' && b != '\t' && b != '\n' && b != '\r' || b == 0x7f
}

// byteClasses are the symbols of raw bytes. Those that begin something longer
// are slow, and in Markdown the ends of lines, after which a fence may begin.
func byteClasses(c Context) *[256]symbol {
	t := new([256]symbol)
	for b := range t {
		if b >= 0x80 || controlByte(byte(b)) || opensEscape(byte(b)) {
			t[b] = slowByte
			continue
		}
		t[b] = symbolOf[foldASCII[b]]
	}
	if c == Markdown {
		t['\n'], t['\r'] = slowByte, slowByte
	}
	return t
}

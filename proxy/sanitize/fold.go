package sanitize

import (
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Pages of the fold table: the BMP, and the planes above as far as they hold
// letters that fold to ASCII.
const (
	foldPage  = 256
	foldLimit = 0x1fc00
)

// folds maps characters to folded ones. It is immutable.
type folds struct {
	index   [foldLimit / foldPage]uint8 // page 0 holds nothing but charOther
	pages   [][foldPage]byte
	symbols [][foldPage]symbol // the same as symbols; slowByte for characters that control
}

// foldTables builds the table once: 2 ms, too long for each Scanner.
var foldTables = sync.OnceValue(func() *folds {
	f := &folds{pages: make([][foldPage]byte, 1)}
	for i := range f.pages[0] {
		f.pages[0][i] = charOther
	}
	for page := range f.index {
		f.index[page] = f.add(rune(page * foldPage))
	}
	f.symbols = make([][foldPage]symbol, len(f.pages))
	for page, i := range f.index {
		for k, c := range f.pages[i] {
			f.symbols[i][k] = symbolOf[c]
			if class, _ := controlRune(rune(page*foldPage+k), utf8.UTFMax); class != 0 {
				f.symbols[i][k] = slowByte
			}
		}
	}
	return f
})

// add makes the page that begins at a character, unless it is like the one before.
func (f *folds) add(first rune) uint8 {
	var page [foldPage]byte
	for i := range page {
		page[i] = foldSlow(first + rune(i))
	}
	if page == f.pages[0] {
		return 0
	}
	if n := len(f.pages) - 1; page == f.pages[n] {
		return uint8(n)
	}
	f.pages = append(f.pages, page)
	return uint8(len(f.pages) - 1)
}

// fold returns the folded character of r.
func (f *folds) fold(r rune) byte {
	if uint32(r) < foldLimit {
		return f.pages[f.index[r>>8]][r&0xff]
	}
	switch {
	case r >= 0xe0000 && r <= 0xe0fff: // tags and variation selectors
		return charSkip
	case r >= 0x20000 && r <= 0x3ffff:
		return charIdeo
	default:
		return charOther
	}
}

// wide returns the symbol of a character beyond ASCII and its bytes; n = 0 where
// it is one that controls, not valid, not whole, or may begin a flag.
func (f *folds) wide(text string, i int) (s symbol, n int) {
	if b := text[i]; b >= 0xc2 && b < 0xe0 && i+1 < len(text) && text[i+1]&0xc0 == 0x80 {
		if s = f.symbols[f.index[b>>2&7]][b<<6|text[i+1]&0x3f]; s == slowByte {
			return 0, 0
		}
		return s, 2
	}
	r, n := utf8.DecodeRuneInString(text[i:])
	switch {
	case r == utf8.RuneError:
		return 0, 0
	case r < foldLimit && r != blackFlag:
		if s = f.symbols[f.index[r>>8]][r&0xff]; s == slowByte {
			n = 0
		}
		return s, n
	case r == blackFlag && i+n < len(text) && text[i+n] != tagByte:
		return symOther, n
	case r >= 0x20000 && r <= 0x3ffff:
		return symIdeo, n
	}
	return 0, 0
}

// wordScripts ends the scripts that write words with spaces and mix with Latin
// letters: Latin, Greek, Cyrillic, Armenian.
const wordScripts = 0x0590

func foldSlow(r rune) byte {
	if r < 0x80 {
		return foldASCII[r]
	}
	if c, ok := lookalikes()[r]; ok {
		return c
	}
	switch {
	case r == 0x85 || r == 0x2028 || r == 0x2029:
		return '\n'
	case invisible(r):
		return charSkip
	case compatible(r):
		if t := norm.NFKC.String(string(r)); len(t) == 1 {
			return foldASCII[t[0]]
		}
	}
	switch {
	case unicode.IsSpace(r):
		return ' '
	case unicode.IsLetter(r) && r < wordScripts:
		return charAlpha
	case unicode.IsLetter(r):
		return charIdeo
	default:
		return charOther
	}
}

// invisible reports whether a character adds nothing to the letters beside it:
// format characters, marks that combine, fillers.
func invisible(r rune) bool {
	switch r {
	case 0x115f, 0x1160, 0x3164, 0xffa0:
		return true
	}
	return unicode.In(r, unicode.Cf, unicode.Mn, unicode.Me, unicode.Cc, unicode.Other_Default_Ignorable_Code_Point)
}

// compatible reports whether a character lies in a block whose characters have
// ASCII ones as compatibility forms. Normalising all others would cost more at
// start than it finds.
func compatible(r rune) bool {
	for _, b := range [...][2]rune{
		{0xa0, 0xff}, {0x17f, 0x17f}, {0x2b0, 0x2ff}, {0x1d2c, 0x1d6b}, {0x1e9b, 0x1e9b}, {0x2000, 0x20cf}, {0x2100, 0x218f},
		{0x2460, 0x24ff}, {0x2c7c, 0x2c7d}, {0x3000, 0x3000}, {0xfe10, 0xfe6f}, {0xff00, 0xffef},
		{0x1d400, 0x1d7ff}, {0x1f100, 0x1f1ff}, {0x1fbf0, 0x1fbf9},
	} {
		if r >= b[0] && r <= b[1] {
			return true
		}
	}
	return false
}

// lookalikes are letters of other alphabets that look like ASCII ones
// (Unicode TR 39), as far as they could spell what the machines look for.
var lookalikes = sync.OnceValue(func() map[rune]byte {
	m := map[rune]byte{}
	for ascii, others := range map[byte]string{
		'a': "аАαΑɑᴀꭺ", 'b': "ВьΒʙᏼ", 'c': "сСϲᴄꮯ", 'd': "ԁᴅꭰᎠ", 'e': "еЕεΕᴇꭼҽ", 'f': "ꜰϝ", 'g': "ɡԍɢ", 'h': "һНΗʜ",
		'i': "іІιΙıɩɪӏ", 'j': "јЈϳᴊ", 'k': "кКκΚᴋ", 'l': "ʟⅼ", 'm': "МмΜᴍ", 'n': "ΝɴոηƝ", 'o': "оОοΟօσᴏ", 'p': "рРρΡᴘ",
		'q': "ԛ", 'r': "ʀᎡꭱ", 's': "ѕЅꜱꮪ", 't': "тТτΤᴛ", 'u': "υսᴜ", 'v': "νѵᴠ", 'w': "ԝᴡѡ", 'x': "хХχΧ", 'y': "уУγΥүʏ", 'z': "Ζᴢ",
		'<': "‹˂❮", '>': "›˃❯", ':': "ː˸։ꓽ∶", ';': ";", '=': "᐀꓿", '/': "⁄∕", '!': "ǃ", '-': "‐‑−", '*': "∗⁎", '"': "“”„", '\'': "‘’‚",
	} {
		for _, r := range others {
			m[r] = ascii
		}
	}
	return m
})

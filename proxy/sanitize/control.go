package sanitize

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// controlRune says which class a character belongs to by itself. n is the bytes
// that it takes: utf8.RuneError in one is a byte that is no character.
func controlRune(r rune, n int) (Class, string) {
	switch {
	case r == 0x1b || r == 0x9b || r == 0x9d || r == 0x90:
		return AnsiEscape, ruleTerminal
	case r < utf8.RuneSelf && r >= 0:
		if controlByte(byte(r)) {
			return Control, ruleControl
		}
		return 0, ""
	case r >= 0x80 && r < 0xa0 && r != 0x85:
		return Control, ruleControl
	case r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069:
		return Control, ruleBidi
	case r >= 0xe0000 && r <= 0xe007f:
		return UnicodeTags, ruleTagChar
	case r == utf8.RuneError && n == 1:
		return Control, ruleEncoding
	}
	return 0, ""
}

// substitute is text that takes the place of a control character.
type substitute struct {
	text   string
	length int // bytes that it replaces
}

// control handles a character of the classes Control, AnsiEscape and UnicodeTags.
// Without a halt it is sent as it is, and no machine reads it.
func (s *Stream) control(g glyph, raw string, at int) halt {
	action := s.x.actions[g.class]
	if action == Off {
		return haltNone
	}
	s.add(Finding{Class: g.class, Rule: g.rule, Action: action, Offset: s.origin.of(at), Length: len(raw)})
	switch action {
	case Flag:
		return haltNone
	case Block:
		return haltBlock
	case Redact:
		s.sub = substitute{text: Redacted, length: len(raw)}
	default:
		s.sub = substitute{text: escaped(g.rule, raw, g.r), length: len(raw)}
	}
	return haltControl
}

// escaped shows a control character as text.
func escaped(rule, raw string, r rune) string {
	switch rule {
	case ruleEncoding:
		return fmt.Sprintf("(0x%02X)", raw[0])
	case ruleLong:
		return raw[:1] + Marker + raw[1:]
	}
	return fmt.Sprintf("(U+%04X)", r)
}

// substitute puts s.sub where the scan stopped.
func (s *Stream) substitute() {
	text := s.sub.text
	s.origin.edit(s.pos, len(text)-s.sub.length, s.held)
	s.feed(text, false)
}

// tagByte is the first byte of tag characters.
const tagByte = 0xf3

// blackFlag begins the flags of England, Scotland and Wales, which go on with
// tags (UTS 51, annex B.2): the only ones that fonts know.
const blackFlag rune = 0x1f3f4

func flagTags() [3]string { return [...]string{"gbeng\x7f", "gbsct\x7f", "gbwls\x7f"} }

// flag follows such a flag.
type flag struct {
	open bool
	read [6]byte
	n    int
}

// goes reports whether a tag goes on with a flag.
func (f *flag) goes(r rune) bool {
	if !f.open || f.n == len(f.read) || r < 0xe0000 {
		*f = flag{}
		return false
	}
	f.read[f.n] = byte(r - 0xe0000)
	f.n++
	for _, tags := range flagTags() {
		if strings.HasPrefix(tags, string(f.read[:f.n])) {
			return true
		}
	}
	*f = flag{}
	return false
}

package sanitize

import "unicode/utf8"

// glyphKind is how the machines read a character.
type glyphKind uint8

const (
	glyphSame    glyphKind = iota // both alike
	glyphTwofold                  // the decoded one as what it looks like, the raw one as something else
	glyphEscape                   // the decoded one as what it stands for, the raw one byte by byte
	glyphControl                  // not at all: it is dealt with by itself
	glyphMore                     // it is not whole
)

// glyph is one character of a text, or an escape that stands for one.
type glyph struct {
	kind  glyphKind
	c     byte // folded
	n     int  // bytes
	r     rune
	class Class // of a control character
	rule  string
}

// parse reads the character at i.
func (s *Stream) parse(src source, i int) glyph {
	b := src.text[i]
	if b >= utf8.RuneSelf || controlByte(b) {
		return s.rune(src, i)
	}
	if !opensEscape(b) || !src.mayEscape(i) {
		return glyph{c: foldASCII[b], n: 1}
	}
	r, end, o := src.plain(i)
	if o == readNone {
		r, end, o = src.char(escapeRounds, i)
	}
	g := glyph{kind: glyphEscape, n: end - i, r: r}
	switch {
	case o == readMore:
		g.kind = glyphMore
	case r == runeLong:
		g.kind, g.class, g.rule = glyphControl, Control, ruleLong
	case g.n == 1:
		g.kind, g.c = glyphSame, foldASCII[b]
	default:
		g.c = s.x.folds.fold(r)
		if g.class, g.rule = controlRune(r, utf8.UTFMax); g.class != 0 && s.x.context == ToolCall {
			g.kind = glyphControl // who reads the call will decode it
		}
	}
	return g
}

// rune reads a character beyond ASCII, or one that controls.
//
// Punctuation that only looks like ASCII is none to a program, so that the raw
// machine does not see it as such; letters and white space make no difference.
func (s *Stream) rune(src source, i int) glyph {
	r, end, o := src.char(0, i)
	if o == readMore {
		return glyph{kind: glyphMore}
	}
	g := glyph{n: end - i, r: r}
	if g.class, g.rule = controlRune(r, g.n); g.class != 0 {
		g.kind = glyphControl
		return g
	}
	g.c = s.x.folds.fold(r)
	if g.c > charEnd && !(g.c >= 'a' && g.c <= 'z') && !(g.c >= '0' && g.c <= '9') {
		g.kind = glyphTwofold
	}
	return g
}

// read lets an automaton read a character that takes the bytes raw.
func (s *Stream) read(a *automaton, g glyph, raw string, at int) {
	if s.x.context == Markdown {
		a.fence.read(raw, at)
	}
	switch {
	case g.kind == glyphControl || g.kind != glyphSame && s.indifferent(a, g, raw):
		return
	case g.kind != glyphSame && !a.forked:
		a.forked, a.r = true, a.n
	}
	s.x.coded = g.kind == glyphEscape && raw[0] == '%'
	a.n.step(&s.x, g.c, at)
	s.x.coded = false
	switch {
	case !a.forked:
	case g.kind == glyphEscape:
		for k := range len(raw) {
			a.r.step(&s.x, foldASCII[raw[k]], at+k)
		}
	case g.kind == glyphTwofold:
		a.r.step(&s.x, charOther, at)
	default:
		a.r.step(&s.x, g.c, at)
	}
}

// indifferent reports whether both ways to read a character lead to the same
// uninteresting state, as in "AT&amp;T", and goes there.
func (s *Stream) indifferent(a *automaton, g glyph, raw string) bool {
	w, st := s.x.words, a.n.st
	if a.forked || !a.n.quiet() || w.may[st]&mayOpen != 0 {
		return false
	}
	to := w.next[int(st)*rowSymbols+int(symbolOf[g.c])]
	other := uint16(st)
	if g.kind == glyphTwofold {
		other = w.next[int(st)*rowSymbols+int(symOther)]
	} else {
		for k := range len(raw) {
			if other = w.next[int(other)*rowSymbols+int(symbolOf[foldASCII[raw[k]]])]; other >= entryLook || w.may[other]&mayOpen != 0 {
				return false
			}
		}
	}
	if to != other || to >= entryLook || w.may[to]&mayOpen != 0 {
		return false
	}
	a.n.st = wordState(to)
	return true
}

// look reads one character with everything there is, and returns the bytes that
// it takes; 0 with a halt.
func (s *Stream) look(src source, i, base int) (n int, h halt) {
	g, at := s.parse(src, i), base+i
	raw := src.text[i : i+g.n]
	if g.kind == glyphMore {
		return 0, haltMore
	}
	if g.kind == glyphControl && !s.flag.goes(g.r) {
		if h := s.control(g, raw, at); h != haltNone {
			return 0, h
		}
	} else if g.r < 0xe0000 {
		s.flag = flag{open: g.r == blackFlag}
	}
	s.remember(g, at)
	s.read(&s.cur, g, raw, at)
	return s.update(src, i, g.n, base)
}

// remember keeps the automaton as it is before a character at which a window
// may start.
func (s *Stream) remember(g glyph, at int) {
	if s.held && at-s.window.at < minWindow {
		return
	}
	if s.cur.forked || g.kind != glyphSame || s.starts(symbolOf[g.c]) {
		s.mark.at = at
		s.mark.copy(&s.cur)
	}
}

// starts reports whether a window may start at a symbol. A wrong yes costs a
// copy.
func (s *Stream) starts(sym symbol) bool {
	m := &s.cur.n
	if m.live&liveURL != 0 && (m.url.state == urlLead || m.url.start == unset) || m.live&liveLoose != 0 {
		return true
	}
	letter := continues(sym)
	if letter && m.st >= stWord {
		return false
	}
	entry := s.x.next[int(m.st)*rowSymbols+int(sym)]
	if entry >= entryLook && m.st < stWord || s.x.words.may[entry&entryState]&(mayOpen|mayHandle) != 0 || m.live&liveInjected != 0 {
		return true
	}
	if m.live&liveTag != 0 && (m.tags[0].state == tagEquals || m.tags[1].state == tagEquals) {
		return true
	}
	return sym == symRBrack && m.live&liveImage != 0
}

// copy copies no more than what counts.
func (a *automaton) copy(from *automaton) {
	a.n, a.forked, a.fence = from.n, from.forked, from.fence
	if from.forked {
		a.r = from.r
	}
}

// walk goes through ASCII while a machine is live, which is cheaper than look.
func (s *Stream) walk(src source, i, stop, base int) (int, halt) {
	m := &s.cur.n
	for i < stop {
		b := src.text[i]
		if s.x.bytes[b] == slowByte && b != '\n' && b != '\r' {
			break
		}
		s.flag = flag{}
		c, at := foldASCII[b], base+i
		sym := symbolOf[c]
		if continues(sym) && m.st >= stWord && m.live&(liveURL|liveScheme) == 0 && !s.cur.fence.watching() {
			if to := s.letters(src.text, i, stop, base); to > i {
				if h := s.hold(src, to, base, base+to); h != haltNone {
					return to, h
				}
				i = to
				continue
			}
		}
		if (!s.held || at-s.window.at >= minWindow) && s.starts(sym) {
			s.mark.at = at
			s.mark.copy(&s.cur)
		}
		if s.x.context == Markdown && (sym == symLine || s.cur.fence.watching()) {
			s.cur.fence.read(src.text[i:i+1], at)
		}
		m.step(&s.x, c, at)
		if s.x.found.class != 0 {
			if h := s.matched(at); h != haltNone {
				return i, h
			}
		}
		if from := m.hold(&s.x); !s.settled(m, from, at+1) {
			if h := s.holdFrom(from, src, i+1, base, at); h != haltNone {
				return i, h
			}
		}
		i++
		if m.live == 0 {
			break
		}
	}
	return i, haltNone
}

// settled reports whether the window is as it must be, now that the text has
// been read up to end and from is its oldest opener. It decides the common cases
// of hold.
func (s *Stream) settled(m *machine, from, end int) bool {
	if from == unset {
		return !s.held
	}
	return s.held && end-from <= maxOpener && (from == s.window.at || end-s.window.at < minWindow && m.live != 0)
}

// letters goes through the letters of a word. They change nothing but the word,
// until the window may have to move.
func (s *Stream) letters(text string, i, stop, base int) int {
	if s.held {
		stop = min(stop, s.window.at+maxOpener-base)
	}
	next, classes, st := s.x.next, s.x.bytes, uint(s.cur.n.st)
	for i < stop {
		sym := classes[text[i]]
		if !continues(sym) {
			break
		}
		st = uint(next[st*rowSymbols+uint(sym)])
		i++
	}
	s.cur.n.st = wordState(st)
	return i
}

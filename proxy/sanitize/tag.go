package sanitize

// tagState is where in a tag the text stands (HTML Standard, 13.2.5.8 and on).
type tagState uint8

const (
	tagNone   tagState = iota
	tagFirst           // in the first word of the element's name
	tagName            // in the rest of it
	tagBefore          // before the name of an attribute
	tagWord            // in the first word of it
	tagAttr            // in the rest of it
	tagAfter           // after it
	tagEquals          // before a value
	tagDouble          // in a value
	tagSingle          //
	tagBare            //
)

// tag reads one start tag. Nothing is held for a tag itself, however long it
// is: only for the name of an element or an attribute that may be dangerous.
//
// INVARIANT: letters within a word change nothing here; walk relies on it.
type tag struct {
	state  tagState
	kind   wordKind // of the attribute's name, where it is one word
	openAt int      // the <
	attrAt int      // the first of the name of an event handler; unset where it has been sent
}

// openTag begins a tag. Within another one it is a second, as text that is no
// value for one parser may be for the next (mutation XSS).
func (m *machine) openTag(at int) {
	t := &m.tags[0]
	if t.state != tagNone {
		t = &m.tags[1]
	}
	t.state, t.openAt = tagFirst, at
	m.live |= liveTag
}

// wordTag lets the tags read a word.
func (m *machine) wordTag(x *env, kind wordKind, end int, after symbol) {
	for i := range m.tags {
		t := &m.tags[i]
		switch {
		case t.state == tagFirst && kind == wordTag && endsName(after):
			x.hit(ExecutableHTML, ruleTag, t.openAt, m.wordAt)
		case t.state == tagWord && (blank(after) || after == symEq):
			t.kind, t.attrAt = kind, m.wordAt
			if kind == wordHandler {
				m.live |= liveName
			}
		case t.state >= tagDouble && kind == wordURL && after == symLParen:
			m.expectURL(urlSource) // of a style
		}
	}
}

// endsName reports whether a symbol ends the name of an element. In HTML < and ]
// go on with it, but they may be held, and what is sent before them is a tag.
func endsName(s symbol) bool {
	switch s {
	case symSlash, symGT, symEnd, symLT, symRBrack:
		return true
	}
	return blank(s)
}

// stepTags lets the tags read a character.
func (m *machine) stepTags(x *env, c byte, sym symbol, at int) {
	m.stepTag(x, &m.tags[0], c, sym, at)
	if m.tags[1].state != tagNone {
		m.stepTag(x, &m.tags[1], c, sym, at)
	}
	if m.tags[0].state != tagNone {
		return
	}
	if m.tags[0] = m.tags[1]; m.tags[0].state == tagNone {
		m.live &^= liveTag | liveName
		return
	}
	m.tags[1].state = tagNone
}

func (m *machine) stepTag(x *env, t *tag, c byte, sym symbol, at int) {
	switch t.state {
	case tagFirst:
		if !continues(sym) {
			t.state = tagName
			t.inName(sym)
		}
	case tagName:
		t.inName(sym)
	case tagBefore:
		t.before(sym)
	case tagWord, tagAttr:
		m.attr(x, t, sym, at)
	case tagAfter:
		if sym == symEq {
			m.equals(x, t, at)
		} else if !blank(sym) {
			t.before(sym)
		}
	case tagEquals:
		m.value(x, t, c, sym, at)
	case tagDouble:
		m.quoted(t, sym, symDQ)
	case tagSingle:
		m.quoted(t, sym, symSQ)
	case tagBare:
		if blank(sym) || sym == symGT {
			t.inName(sym)
		}
	}
}

// quoted reads a value in quotes. In a list of images any part may be a URL.
func (m *machine) quoted(t *tag, sym, end symbol) {
	switch {
	case sym == end:
		t.state = tagBefore
	case t.kind == wordSources && m.url.state == urlNone && (blank(sym) || sym == symComma):
		m.expectURL(urlSource)
	}
}

// inName reads what may end a name or a value without quotes.
func (t *tag) inName(sym symbol) {
	switch {
	case sym == symGT:
		t.state = tagNone
	case blank(sym) || sym == symSlash:
		t.state = tagBefore
	}
}

func (t *tag) before(sym symbol) {
	if blank(sym) || sym == symSlash || sym == symGT {
		t.state = tagBefore
		t.inName(sym)
		return
	}
	t.state, t.kind = tagAttr, wordOther
	if isLetter(sym) {
		t.state = tagWord
	}
}

func (m *machine) attr(x *env, t *tag, sym symbol, at int) {
	switch {
	case sym == symEq:
		m.equals(x, t, at)
	case blank(sym):
		t.state = tagAfter
	case sym == symSlash || sym == symGT:
		t.inName(sym)
	case !continues(sym):
		t.state = tagAttr
	}
}

// equals reads the = between name and value.
func (m *machine) equals(x *env, t *tag, at int) {
	t.state = tagEquals
	if t.kind == wordHandler {
		x.hit(ExecutableHTML, ruleHandler, min(t.attrAt, at), at)
	}
}

func (m *machine) value(x *env, t *tag, c byte, sym symbol, at int) {
	switch {
	case blank(sym):
		return
	case sym == symGT:
		t.state = tagNone
		return
	case sym == symDQ:
		t.state = tagDouble
	case sym == symSQ:
		t.state = tagSingle
	default:
		t.state = tagBare
	}
	use := urlLink
	if t.kind == wordSource || t.kind == wordSources {
		use = urlSource
	}
	m.expectURL(use)
	if t.state == tagBare {
		m.stepURL(x, c, sym, at) // it begins here
	}
}

// holdTags is the first byte that the tags hold.
func (m *machine) holdTags(x *env) int {
	h, may := unset, x.words.may[m.st]
	for i := range m.tags {
		t := &m.tags[i]
		switch {
		case t.state == tagFirst && may&mayTag != 0:
			h = min(h, t.openAt)
		case t.state == tagWord && may&mayHandle != 0 && x.acts(ExecutableHTML):
			h = min(h, m.wordAt)
		case t.state == tagAfter && t.kind == wordHandler && x.acts(ExecutableHTML):
			h = min(h, t.attrAt)
		}
	}
	return h
}

// letGoTags makes the tags hold no name of an event handler that is too long
// ago. One that is still being read is spelled to deceive.
func (m *machine) letGoTags(x *env, end int) {
	for i := range m.tags {
		t := &m.tags[i]
		if old(t.attrAt, end) {
			t.attrAt = unset
		}
		if t.state == tagWord && x.words.is(m.st, mayHandle) && old(m.wordAt, end) {
			x.hit(ExecutableHTML, ruleLong, m.wordAt, end)
			m.st = stWord
		}
	}
}

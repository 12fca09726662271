package sanitize

// breakState is where in a break-out the text stands.
type breakState uint8

const (
	breakNone    breakState = iota
	breakWord               // in the first word after a quote
	breakStack              // in the first after a quote and a semicolon
	breakVerb               // after a verb there
	breakOr                 // before a condition
	breakNumber             // in a number of it
	breakString             // in a quoted value of it
	breakValue              // after a value
	breakDash               // after a - then
	breakCompare            // after a comparison
	breakUnion              // after UNION
)

// open reports whether a word of SQL may complete the break-out.
func (s breakState) open() bool { return s == breakOr || s == breakCompare || s == breakUnion }

// breakout reads SQL that goes on after a value which a quote has ended. It is
// broken where it shows, so that nothing is held for all that comes before.
//
// Two constants that are compared say nothing in a statement of anybody's own;
// other conditions may well stand after a quote in prose and in programs.
type breakout struct {
	state  breakState
	note   note     // noteSlash, noteBlock or noteStar
	kind   wordKind // of the verb
	nested bool     // a parenthesis stands before the condition
	plain  bool     // no quote came before it, but OR and a number
	size   uint8    // of the value
	start  int      // first byte of what is held, or unset
}

// maxValue bounds a quoted value that is compared.
const maxValue = 32

// openBreakout begins one, unless the value of one that is being read holds it.
func (m *machine) openBreakout(x *env, state breakState) {
	b := &m.breakout
	if !x.acts(SQLBreakout) || state == breakWord && m.live&liveBreak != 0 && b.state != breakUnion {
		return
	}
	m.setBreakout(breakout{state: state, plain: state == breakCompare, start: unset})
	if state == breakStack {
		b.start = m.wordAt
	}
}

func (m *machine) setBreakout(b breakout) {
	m.breakout = b
	m.live |= liveBreak
}

func (m *machine) noBreakout() {
	m.breakout = breakout{start: unset}
	m.live &^= liveBreak
}

// breaks reports a break-out that shows at a position.
func (m *machine) breaks(x *env, rule string, at int) {
	x.hit(SQLBreakout, rule, at, at)
	m.noBreakout()
}

// wordBreakout reads a word.
func (m *machine) wordBreakout(x *env, kind wordKind, after symbol) {
	b := &m.breakout
	if kind == wordUnion {
		m.setBreakout(breakout{state: breakUnion, start: unset})
		return
	}
	if b.note == noteBlock || b.note == noteStar || b.state == breakString {
		return
	}
	switch b.state {
	case breakStack:
		m.stack(x, kind, after)
	case breakVerb:
		m.verb(x, kind)
	case breakUnion:
		switch kind {
		case wordSelect:
			m.breaks(x, ruleUnion, m.wordAt)
		case wordAll:
		default:
			m.noBreakout()
		}
	default:
		m.condition(x, kind, after)
	}
}

// stack reads the first word after a quote and a semicolon. What may as well be
// English needs another one after it, for people.
func (m *machine) stack(x *env, kind wordKind, after symbol) {
	sql := kind >= wordDrop && kind <= wordAlter || kind == wordSelect || kind == wordStatement
	switch {
	case kind == wordExec && (blank(after) || after == symSlash), sql && x.strict():
		m.breaks(x, ruleStacked, m.wordAt)
	case sql:
		m.breakout.state, m.breakout.kind = breakVerb, kind
	default:
		m.noBreakout()
	}
}

// verb reads a word after the verb of a statement.
func (m *machine) verb(x *env, kind wordKind) {
	switch kind {
	case wordTable, wordDatabase, wordObject, wordFrom, wordInto:
		m.breaks(x, ruleStacked, min(m.breakout.start, m.wordAt))
	default:
		m.noBreakout()
	}
}

// condition reads a word before, in or after a condition.
func (m *machine) condition(x *env, kind wordKind, after symbol) {
	b := &m.breakout
	switch {
	case kind == wordJoin && (b.state == breakWord || b.state == breakValue):
		b.state, b.nested = breakOr, false
	case b.state == breakOr && (kind == wordSelect && b.nested || kind == wordDelay && after == symLParen):
		m.breaks(x, ruleSubquery, m.wordAt)
	case b.state == breakNumber, b.state == breakOr && kind == wordTruth: // a number may have letters
		b.state = breakValue
	case b.state == breakCompare && kind == wordTruth && !b.plain:
		m.breaks(x, ruleTautology, m.wordAt)
	case b.state == breakValue && kind == wordLike:
		b.state = breakCompare
	default:
		m.noBreakout()
	}
}

// stepBreakout reads a character that is not within a word; begins says that it
// begins one.
func (m *machine) stepBreakout(x *env, sym symbol, at int, begins bool) {
	b := &m.breakout
	switch {
	case b.commented(sym), begins && b.state != breakString:
		return
	case sym == symEnd:
		m.noBreakout()
		return
	}
	switch b.state {
	case breakWord, breakStack:
		m.noBreakout() // the word has gone on with an underscore
	case breakVerb:
		m.afterVerb(x, sym, at)
	case breakOr:
		m.beforeValue(sym)
	case breakNumber, breakString, breakValue, breakDash:
		m.inValue(x, sym, at)
	case breakCompare:
		m.compare(x, sym, at)
	case breakUnion:
		if !blank(sym) && sym != symLParen && sym != symPlus && sym != symDigit {
			m.noBreakout()
		}
	}
}

// commented reads what belongs to a comment, and reports whether it did. What
// stands in /*! … */ is read, as MySQL runs it.
func (b *breakout) commented(sym symbol) bool {
	was := b.note
	switch {
	case was == noteBlock || was == noteStar:
		b.note = noteBlock
		switch {
		case sym == symStar:
			b.note = noteStar
		case sym == symSlash && was == noteStar, sym == symBang:
			b.note = noteNone
		}
		return true
	case sym == symSlash:
		b.note = noteSlash
		return true
	case sym == symStar:
		if was == noteSlash {
			b.note = noteBlock
		}
		return b.state != breakVerb || was == noteSlash
	}
	b.note = noteNone
	return false
}

func (m *machine) afterVerb(x *env, sym symbol, at int) {
	b := &m.breakout
	switch {
	case blank(sym):
	case sym == symStar && b.kind == wordSelect, sym == symLParen && (b.kind == wordSelect || b.kind == wordStatement):
		m.breaks(x, ruleStacked, min(b.start, at))
	default:
		m.noBreakout()
	}
}

func (m *machine) beforeValue(sym symbol) {
	b := &m.breakout
	switch {
	case sym == symLParen:
		b.nested = true
	case sym == symDigit:
		b.state = breakNumber
	case sym == symDQ || sym == symSQ:
		b.state, b.size = breakString, 0
	case !blank(sym) && sym != symPlus && sym != symDash && sym != symUnder:
		m.noBreakout()
	}
}

// inValue reads the value up to what compares it. In quotes it is of letters, so
// that no JSON passes for one.
func (m *machine) inValue(x *env, sym symbol, at int) {
	b := &m.breakout
	switch {
	case b.state == breakString && (sym == symDQ || sym == symSQ):
		b.state = breakValue
	case b.state == breakString && (continues(sym) || blank(sym)) && b.size < maxValue:
		b.size++
	case b.state == breakNumber && (sym == symDigit || sym == symDot):
	case b.state == breakString:
		m.noBreakout()
	case sym == symDash && b.state == breakDash:
		m.breaks(x, ruleComment, min(b.start, at))
	case sym == symDash:
		b.state, b.start = breakDash, at
	case b.state == breakDash:
		m.noBreakout()
	case sym == symEq || sym == symLT || sym == symGT || sym == symBang:
		b.state = breakCompare
	case blank(sym) || sym == symRParen:
		b.state = breakValue
	default:
		m.noBreakout()
	}
}

// compare reads what is compared with.
func (m *machine) compare(x *env, sym symbol, at int) {
	quote := (sym == symDQ || sym == symSQ) && !m.breakout.plain
	switch {
	case sym == symDigit, quote:
		m.breaks(x, ruleTautology, at)
	case (sym == symEq || sym == symLT || sym == symGT) && !m.breakout.plain:
	case !blank(sym) && sym != symLParen && sym != symPlus && sym != symDash:
		m.noBreakout()
	}
}

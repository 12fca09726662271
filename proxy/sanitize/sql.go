package sanitize

// mode is how an attempt reads comments.
type mode uint8

const (
	modeSkip   mode = iota // comments are white space; the first end closes one
	modeNested             // the same, but comments nest, as in PostgreSQL
	modeRead               // what stands in comments counts, as MySQL runs /*! … */
	numModes
)

// sqlState is where in a statement an attempt stands.
type sqlState uint8

const (
	sqlNone      sqlState = iota
	sqlDrop               // after the verb
	sqlTruncate           //
	sqlDelete             //
	sqlAlter              //
	sqlName               // before the name of what is destroyed
	sqlIf                 // after IF
	sqlDoubt              // after a name that needs a tail to be sure
	sqlAlterName          // before the name of what is altered
	sqlAlterIf            //
	sqlAltered            // after it
)

// doubt is what must follow a name, for a statement to be seen in it.
type doubt uint8

const (
	doubtNone doubt = iota
	doubtLine       // the end of a line, of a quotation or of the text will do
	doubtMuch       // a semicolon, or a word like CASCADE
)

// note is where in a comment an attempt stands.
type note uint8

const (
	noteNone  note = iota
	noteSlash      // after a / that may open one
	noteDash       // after a -
	noteBlock      // in /* */
	noteStar       // in it, after a *
	noteOpen       // in it, after a /
	noteLine       // up to the end of the line
)

// attempt reads one statement that has begun.
type attempt struct {
	state sqlState
	doubt doubt
	note  note
	depth uint8 // comments that are open
	verb  uint8 // which of the verbs
	// quoted: a quote has opened a name, and nothing has followed it yet.
	quoted bool
	start  int // first byte of the verb; unset where it has been sent already
}

func sqlRule(i uint8) string {
	return [...]string{ruleDrop, ruleTruncate, ruleDelete, ruleAlterDrop}[i]
}

// wordSQL lets the attempts read a word.
func (m *machine) wordSQL(x *env, kind wordKind, end int) {
	verb := kind >= wordDrop && kind <= wordAlter
	if verb {
		x.verb(end)
	}
	if m.live&liveSQL == 0 {
		m.split = false
	}
	m.live &^= liveSQL
	for i := range m.attempts() {
		a := &m.sql[i]
		if a.state != sqlNone && a.note >= noteBlock {
			m.live |= liveSQL // it stands in a comment
			continue
		}
		if a.state == sqlAltered && kind == wordDrop {
			x.hit(DestructiveSQL, ruleAlterDrop, m.first(a), m.wordAt)
		}
		if a.state == sqlDoubt && a.doubt == doubtLine && opener(kind) {
			m.matched(x, a) // the text may be cut before it
		}
		if verb {
			*a = attempt{state: sqlDrop + sqlState(kind-wordDrop), verb: uint8(kind - wordDrop), start: m.wordAt}
		} else if a.state != sqlNone {
			m.advance(x, a, kind)
			a.note, a.quoted = noteNone, false
		}
		if a.state != sqlNone {
			m.live |= liveSQL
		}
	}
}

// attempts is how many of the attempts count: one as long as no comment has made
// a difference between them.
func (m *machine) attempts() int {
	if m.split {
		return int(numModes)
	}
	return 1
}

// differs reports whether a symbol may make that difference.
func differs(s symbol) bool {
	return s == symSlash || s == symStar || s == symBang || s == symHash || s == symDash
}

// holdSQL is the first byte that the attempts hold.
func (m *machine) holdSQL() int {
	h := unset
	for i := range m.attempts() {
		if a := &m.sql[i]; a.state != sqlNone {
			h = min(h, a.start)
		}
	}
	return h
}

// first is where a match of an attempt begins: its verb, or the word that was
// the first to be held.
func (m *machine) first(a *attempt) int {
	if a.start == unset {
		return m.wordAt
	}
	return a.start
}

// advance moves one attempt on by a word that is no verb.
func (m *machine) advance(x *env, a *attempt, kind wordKind) {
	if a.note == noteDash {
		a.state = sqlNone // one dash is an operator, or a hyphen
	}
	switch a.state {
	case sqlDrop:
		a.object(kind, x.context == ToolCall)
	case sqlTruncate:
		a.truncate(kind)
	case sqlDelete:
		a.only(kind == wordFrom, kind == wordModifier, sqlName)
	case sqlAlter:
		a.only(kind == wordTable, kind == wordModifier, sqlAlterName)
	case sqlName:
		m.name(x, a, kind)
	case sqlIf:
		a.exists(kind, sqlName)
	case sqlDoubt:
		if kind == wordTail {
			m.matched(x, a)
			return
		}
		a.state = sqlNone
	case sqlAlterName:
		a.altered(kind)
	case sqlAlterIf:
		a.exists(kind, sqlAlterName)
	default:
		a.state = sqlNone
	}
}

// only goes on to a state by one kind of word, and stays for another.
func (a *attempt) only(goes, stays bool, next sqlState) {
	switch {
	case goes:
		a.state = next
	case !stays:
		a.state = sqlNone
	}
}

func (a *attempt) object(kind wordKind, sure bool) {
	switch kind {
	case wordTable:
		a.state = sqlName
	case wordDatabase:
		a.state, a.doubt = sqlName, doubtLine
	case wordObject:
		a.state, a.doubt = sqlName, doubtMuch
	case wordModifier:
		return
	default:
		a.state = sqlNone
	}
	if sure {
		a.doubt = doubtNone
	}
}

// truncate: the word TABLE may be left out, but then a semicolon must follow.
func (a *attempt) truncate(kind wordKind) {
	switch kind {
	case wordTable:
		a.state = sqlName
	case wordOther, wordObject, wordDatabase:
		a.state, a.doubt = sqlDoubt, doubtMuch
	default:
		a.only(false, kind == wordOnly, sqlNone)
	}
}

// name reads the name of what is destroyed. A word that is hardly one leaves
// great doubt: "drop table the" is prose, "drop table the;" is not.
func (m *machine) name(x *env, a *attempt, kind wordKind) {
	switch kind {
	case wordIf:
		a.state = sqlIf
		return
	case wordOnly, wordModifier:
		return
	case wordStop, wordFrom, wordExists, wordTail:
		a.doubt = doubtMuch
	}
	if a.doubt == doubtNone {
		m.matched(x, a)
		return
	}
	a.state = sqlDoubt
}

// exists reads the rest of IF EXISTS, after which there is no doubt.
func (a *attempt) exists(kind wordKind, next sqlState) {
	a.only(kind == wordExists, kind == wordStop, next) // IF NOT EXISTS
	if a.state == next {
		a.doubt = doubtNone
	}
}

func (a *attempt) altered(kind wordKind) {
	switch kind {
	case wordIf:
		a.state = sqlAlterIf
	case wordStop:
		a.state = sqlNone
	case wordOnly:
	default:
		a.state = sqlAltered
	}
}

func (m *machine) matched(x *env, a *attempt) {
	x.hit(DestructiveSQL, sqlRule(a.verb), m.first(a), m.wordAt)
	a.state = sqlNone
}

// stepSQL lets the attempts read a character that is part of no word.
func (m *machine) stepSQL(x *env, sym symbol, at int) {
	if sym == symSpace && m.sql[0].note == noteNone && !m.split && !m.sql[0].quoted {
		return
	}
	if m.live &^= liveSQL; !m.split && differs(sym) {
		m.split = true
		m.sql[modeNested], m.sql[modeRead] = m.sql[modeSkip], m.sql[modeSkip]
	}
	for i := range m.attempts() {
		a := &m.sql[i]
		if a.state == sqlNone {
			continue
		}
		if !a.comment(mode(i), sym) {
			m.mark(x, a, sym, at)
		}
		if a.state != sqlNone {
			m.live |= liveSQL
		}
	}
}

// comment reads what belongs to a comment, and reports whether it did.
func (a *attempt) comment(md mode, sym symbol) bool {
	if md == modeRead {
		return sym == symSlash || sym == symStar || sym == symBang || sym == symHash
	}
	switch a.note {
	case noteNone, noteSlash, noteDash:
		return a.opens(sym)
	case noteLine:
		if sym == symLine {
			a.note = noteNone
		}
		return true
	}
	return a.inBlock(md, sym)
}

func (a *attempt) opens(sym symbol) bool {
	was := a.note
	a.note = noteNone
	switch sym {
	case symSlash:
		a.note = noteSlash
	case symStar: // a stray end of a comment is white space, too
		if was == noteSlash {
			a.note, a.depth = noteBlock, 1
		}
	case symDash:
		a.note = noteDash
		if was == noteDash {
			a.note = noteLine
		}
	case symHash:
		a.note = noteLine
	default:
		if was == noteDash {
			a.state = sqlNone
		}
		return a.state == sqlNone
	}
	return true
}

func (a *attempt) inBlock(md mode, sym symbol) bool {
	was := a.note
	a.note = noteBlock
	switch {
	case sym == symStar && was == noteOpen && md == modeNested && a.depth < maxDepth:
		a.depth++
	case sym == symStar:
		a.note = noteStar
	case sym == symSlash && was == noteStar:
		if a.depth--; a.depth == 0 {
			a.note = noteNone
		}
	case sym == symSlash:
		a.note = noteOpen
	}
	return true
}

// maxDepth bounds the nesting of comments that is followed.
const maxDepth = 255

// mark reads a character outside comments and words.
func (m *machine) mark(x *env, a *attempt, sym symbol, at int) {
	if a.quoted && sym != symUnder && sym != symIdeo {
		a.state = sqlNone // what closes a quotation, as in "DROP TABLE" said aloud
		return
	}
	switch sym {
	case symSpace, symPlus, symUnder:
	case symLine, symLT, symEnd:
		m.ends(x, a, sym, at)
	case symSemi:
		m.doubtEnds(x, a, at)
	case symDQ, symSQ, symTick, symLBrack, symRBrack:
		m.quote(x, a, sym, at)
	case symIdeo:
		m.ideo(x, a, at)
	case symDot, symComma:
		a.joins(sym)
	case symStar: // DELETE * FROM
	default:
		a.state = sqlNone
	}
}

// ends handles the end of a line or of the text, and a <, before which the text
// may be cut.
func (m *machine) ends(x *env, a *attempt, sym symbol, at int) {
	if a.state == sqlDoubt && a.doubt == doubtLine {
		m.doubtEnds(x, a, at)
	}
	if sym != symLine {
		a.state = sqlNone
	}
}

// doubtEnds handles what ends a statement.
func (m *machine) doubtEnds(x *env, a *attempt, at int) {
	if a.state == sqlDoubt {
		x.hit(DestructiveSQL, sqlRule(a.verb), min(a.start, at), at)
	}
	a.state = sqlNone
}

// quote handles quotes of names, and of whole statements. Those of the former
// stand before the name; so "`DROP TABLE` is a statement" has none.
func (m *machine) quote(x *env, a *attempt, sym symbol, at int) {
	switch a.state {
	case sqlName, sqlAlterName:
		a.quoted = true
	case sqlDoubt:
		if a.doubt == doubtLine {
			m.doubtEnds(x, a, at)
		}
	case sqlAltered, sqlTruncate:
	default:
		a.state = sqlNone
	}
}

// ideo handles a letter of a script without spaces: a name.
func (m *machine) ideo(x *env, a *attempt, at int) {
	switch a.state {
	case sqlName:
		if a.doubt == doubtNone {
			x.hit(DestructiveSQL, sqlRule(a.verb), min(a.start, at), at)
			a.state = sqlNone
			return
		}
		a.state = sqlDoubt
	case sqlAlterName:
		a.state = sqlAltered
	case sqlDoubt, sqlAltered:
	default:
		a.state = sqlNone
	}
}

// joins handles the dots and commas between names.
func (a *attempt) joins(sym symbol) {
	switch {
	case a.state == sqlDoubt:
		a.state = sqlName
	case a.state == sqlAltered && sym == symDot:
		a.state = sqlAlterName
	case a.state == sqlName && sym == symDot: // db..table
	default:
		a.state = sqlNone
	}
}

// letGoSQL makes attempts that are too long hold nothing. Nobody puts so much
// white space or so long a comment into a statement but to deceive. A comment up
// to the end of the line may be prose with a dash: the next word after it is
// held instead. Of a word that is still being read, a name is long enough to be
// sure of, and what may still become a word of the grammar is spelled to deceive.
func (m *machine) letGoSQL(x *env, end int) {
	for i := range m.attempts() {
		a := &m.sql[i]
		switch {
		case a.state == sqlNone || !old(a.start, end):
		case a.note == noteLine, a.state > sqlName && m.st < stWord:
			a.start = unset
		case m.st < stWord, a.note >= noteBlock, x.words.is(m.st, maySpell):
			x.hit(DestructiveSQL, ruleLong, a.start, end)
			a.state = sqlNone
		case a.state == sqlName && a.doubt == doubtNone:
			m.matched(x, a)
		default:
			a.state = sqlNone
		}
	}
}

// holdWord lets what begins now be held for attempts that hold nothing.
func (m *machine) holdWord(at int) {
	for i := range m.attempts() {
		if a := &m.sql[i]; a.start == unset && a.note < noteBlock {
			a.start = at
		}
	}
}

// sentSQL notes that what attempts hold before a position has been sent. They
// may be in a comment that goes on.
func (m *machine) sentSQL(at int) {
	for i := range m.attempts() {
		if a := &m.sql[i]; a.start < at {
			a.start = unset
		}
	}
}

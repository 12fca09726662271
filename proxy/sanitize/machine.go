package sanitize

// unset is a position that stands for none: nothing is held for it.
const unset = 1<<63 - 1

// hit is a match that a machine has seen the end of.
type hit struct {
	class Class // 0 where there is none
	rule  string
	start int // first byte of the opener
	mark  int // where Marker breaks it
}

// env is what a step may look at besides the machine's own state. It outlives
// rewinds, as a machine does not.
type env struct {
	*Scanner
	next  []uint16 // of the word table
	found hit      // the match of this step, the strictest if there are several
	verbs []int    // ends of the verbs in the window, where Marker breaks a statement
	coded bool     // the character of this step is a percent escape
}

func (x *env) hit(class Class, rule string, start, mark int) {
	if x.acts(class) && x.actions[class] > x.actions[x.found.class] {
		x.found = hit{class, rule, start, mark}
	}
}

// maxVerbs bounds env.verbs: a window holds fewer.
const maxVerbs = MaxHeld

func (x *env) verb(end int) {
	if len(x.verbs) < maxVerbs {
		x.verbs = append(x.verbs, end)
	}
}

// Bits of machine.live: which machines read more than words.
const (
	liveSQL uint16 = 1 << iota
	liveTag
	liveURL
	liveImage
	liveScheme
	liveLoose // something is live that is not held any more
	liveName  // with liveTag: a name of an event handler is before its =
	liveBreak
	liveCommand
	livePath

	liveInjected = liveBreak | liveCommand | livePath
)

// machine reads one view of a text, character by character. It is a value: a
// copy is a point that one can return to.
type machine struct {
	st       wordState
	live     uint16
	wordAt   int // first byte of the word, or of what is held outside words
	schemeAt int // first byte of a script scheme whose colon was the last character
	colonAt  int
	split    bool // all of sql count, not the first alone
	sql      [numModes]attempt
	tags     [2]tag // the second is within a value of the first
	url      target
	image    image
	breakout breakout
	command  command
	climb    climb
	glue     glue
}

// quiet reports whether only the word table matters now.
func (m *machine) quiet() bool { return m.live == 0 }

// alike reports whether two machines will do the same from now on. It may say
// no for some that would.
func (m *machine) alike(w *words, o *machine) bool {
	if m.st != o.st || m.live != 0 || o.live != 0 {
		return false
	}
	placeless := m.st == stWord || m.st < stWord && !w.is(m.st, mayOpen)
	return placeless || m.wordAt == o.wordAt && m.glue == o.glue
}

// step reads one folded character that takes the bytes from at up to the next
// one's. What it finds is in x.found.
func (m *machine) step(x *env, c byte, at int) {
	sym := symbolOf[c]
	if sym == symSkip {
		return
	}
	st := m.st
	entry := x.next[int(st)*rowSymbols+int(sym)]
	m.st = wordState(entry & entryState)
	if st >= stQuoteHash && st <= stGapTail {
		m.glue = glue{m.wordAt, at}
	}
	switch {
	case st >= stWord && !continues(sym):
		if home := x.words.home[st]; home != stRoot && sym != symUnder && shows(x.words.kind[st], home) {
			m.shown(x, home)
		}
		if kind := x.words.kind[st]; sym != symUnder && (kind != wordOther || m.live != 0) {
			m.word(x, kind, at, sym)
		}
		if sym == symLT {
			m.wordAt = at
		}
	case st >= stWord: // within a word
		if m.live&(liveURL|liveScheme) == 0 {
			return
		}
	case m.st >= stWord || x.words.depth[m.st] == 1:
		m.begin(x, st, sym, at)
	}
	if x.coded && m.st <= stDots && m.st >= stDot {
		m.st += stDotCode - stDot
	}
	inImage := m.image.state == imageClose
	if m.live != 0 {
		if m.live&liveSQL != 0 && !continues(sym) {
			m.stepSQL(x, sym, at)
		}
		m.stepMarkup(x, c, sym, at)
		if m.live&liveInjected != 0 {
			m.stepInjected(x, st, sym, at)
		}
	}
	if entry >= entryLook && st >= stActs && st < stWord {
		if a := x.words.begins(st, sym); a != actNone {
			m.act(x, a, st, at, inImage)
		}
	}
}

// act begins what a symbol begins after a state outside words.
func (m *machine) act(x *env, a act, st wordState, at int, inImage bool) {
	switch a {
	case actImage, actLink, actDefine:
		m.bracket(x, a, inImage)
	case actParent:
		m.parent(x, st, at)
	case actFolder:
		m.openCommand(x, commandLead, st)
	case actComment:
		x.hit(SQLBreakout, ruleComment, min(m.wordAt, at), min(m.wordAt, at))
	case actOr:
		m.openBreakout(x, breakOr)
	default:
		m.openBreakout(x, breakCompare)
	}
}

// begin notes where a word or an opener starts.
func (m *machine) begin(x *env, st wordState, sym symbol, at int) {
	if st == stLT && isLetter(sym) && (x.acts(ExecutableHTML) || x.acts(ExternalImage) || x.acts(ExternalLink)) {
		m.openTag(m.wordAt)
	}
	if m.live&liveSQL != 0 && continues(sym) {
		m.holdWord(at)
	}
	if m.live&liveInjected != 0 && continues(sym) {
		m.holdArgument(at)
	}
	m.wordAt = at
}

// word handles a word that the symbol after it has ended.
func (m *machine) word(x *env, kind wordKind, end int, after symbol) {
	if m.live&liveSQL != 0 || kind >= wordDrop && kind <= wordAlter && x.acts(DestructiveSQL) {
		m.wordSQL(x, kind.inStatement(), end)
	}
	if m.live&liveTag != 0 {
		m.wordTag(x, kind, end, after)
	}
	if after == symColon && (kind == wordScript || kind == wordData) && x.acts(ExecutableHTML) {
		m.scheme(kind, end)
	}
	if m.live&liveBreak != 0 || kind == wordUnion && x.acts(SQLBreakout) {
		m.wordBreakout(x, kind, after)
	}
	if m.live&liveCommand != 0 {
		m.wordCommand(x, kind, end, after)
	}
	if m.live&livePath != 0 {
		m.wordClimb(x, kind)
	}
}

// scheme handles a scheme in free text.
func (m *machine) scheme(kind wordKind, colon int) {
	switch {
	case kind == wordScript:
		m.schemeAt, m.colonAt = m.wordAt, colon
		m.live |= liveScheme
	case m.live&liveURL == 0:
		m.expectMedia(m.wordAt, colon, true)
	}
}

// stepMarkup lets the machines that are live read a character.
func (m *machine) stepMarkup(x *env, c byte, sym symbol, at int) {
	if m.live&liveScheme != 0 && m.colonAt != at {
		m.live &^= liveScheme
		if runs(sym) {
			x.hit(ExecutableHTML, ruleScript, m.schemeAt, m.colonAt)
		}
	}
	if m.live&liveURL != 0 {
		m.stepURL(x, c, sym, at)
	}
	if m.live&liveTag != 0 {
		m.stepTags(x, c, sym, at)
	}
	if m.live&liveImage != 0 {
		m.stepImage(x, c, sym, at)
	}
}

// runs reports whether a script may begin right after the colon of its scheme
// in free text. In "JavaScript: a language" nothing does.
func runs(s symbol) bool {
	if s <= symUnder && s != symAlpha {
		return true
	}
	switch s {
	case symLParen, symLBrack, symSlash, symBang, symPlus, symDash, symSemi, symOther:
		return true
	case symLT, symRBrack: // none does, but the text may be rewritten from there on
		return true
	}
	return false
}

// hold is the first byte that must not be sent yet, or unset.
func (m *machine) hold(x *env) int {
	h := m.holds(x)
	if h == m.glue.end {
		return m.glue.at
	}
	return h
}

func (m *machine) holds(x *env) int {
	h := unset
	if x.words.may[m.st]&mayOpen != 0 {
		h = m.wordAt
	}
	if m.live == 0 {
		return h
	}
	if m.live&liveSQL != 0 {
		h = min(h, m.holdSQL())
	}
	if m.live&liveTag != 0 && x.words.may[m.st]&(mayTag|mayHandle) != 0 || m.live&liveName != 0 {
		h = min(h, m.holdTags(x))
	}
	if m.live&liveURL != 0 {
		h = min(h, m.url.start)
	}
	if m.live&liveImage != 0 && m.image.state == imageClose {
		h = min(h, m.image.closeAt)
	}
	if m.live&liveScheme != 0 {
		h = min(h, m.schemeAt)
	}
	if m.live&liveInjected != 0 {
		h = min(h, m.holdInjected(x))
	}
	return h
}

// old reports whether what starts at a position has been held for too long.
func old(start, end int) bool { return start != unset && end-start > maxOpener }

// letGo makes the machine hold no more of what has been held for too long. White
// space in a tag or a URL goes on, and is broken later; a word of a dozen
// letters is spelled to deceive, and counts as a match.
func (m *machine) letGo(x *env, end int) {
	m.letGoSQL(x, end)
	m.live |= liveLoose
	m.letGoTags(x, end)
	if old(m.url.start, end) {
		m.url.start = unset
	}
	m.letGoInjected(x, end)
	if m.st != stWord && old(m.wordAt, end) {
		m.letGoWord(x, end)
	}
	if m.live&liveScheme != 0 && old(m.schemeAt, end) {
		x.hit(ExecutableHTML, ruleScript, m.schemeAt, m.colonAt)
		m.live &^= liveScheme
	}
	if m.image.state == imageClose && old(m.image.closeAt, end) {
		x.hit(ExternalImage, ruleLong, m.image.closeAt, end)
		m.noImage()
	}
}

func (m *machine) letGoWord(x *env, end int) {
	class := m.shows(x.words.may[m.st])
	if class != 0 {
		x.hit(class, ruleLong, m.wordAt, m.wordAt)
	}
	switch {
	case m.st == stLT:
		x.hit(ExecutableHTML, ruleLong, m.wordAt, end)
		m.st = stRoot
	case m.st < stWord && x.words.is(m.st, mayOpen):
		x.hit(SQLBreakout, ruleLong, m.wordAt, m.wordAt)
		m.st = stRoot
	case x.words.home[m.st] != stRoot:
		for _, c := range [...]Class{SQLBreakout, CommandInjection, DestructiveSQL, ExecutableHTML} {
			x.hit(c, ruleLong, m.wordAt, m.wordAt) // it may be of any of them
		}
		m.st = stWord
	case x.words.is(m.st, mayOpen|mayTag):
		x.hit(DestructiveSQL, ruleLong, m.wordAt, end)
		x.hit(ExecutableHTML, ruleLong, m.wordAt, end)
		m.st = stWord
	case class != 0:
		m.st = stWord
	}
}

// sent notes that the text before a position has been sent: openers in it are no
// longer held, and a word was none after all.
func (m *machine) sent(w *words, at int) {
	m.sentSQL(at)
	if m.live != 0 {
		m.live |= liveLoose
	}
	if m.wordAt < at && m.st >= stFirst && w.is(m.st, mayOpen|mayTag|mayHandle) {
		m.st = stWord
	}
	if m.url.start < at {
		m.url.start = unset
	}
	if m.glue.at < at {
		m.glue = glue{}
	}
	if m.breakout.start < at {
		m.breakout.start = unset
	}
	if m.command.start < at {
		m.command.start = unset
	}
	m.live &^= liveScheme
	m.image.closeAt = max(m.image.closeAt, at)
	for i := range m.tags {
		if t := &m.tags[i]; t.attrAt < at {
			t.attrAt = unset
		}
	}
}

// tighten notes that nothing is live any more.
func (m *machine) tighten() {
	if m.live == liveLoose {
		m.live = 0
	}
}

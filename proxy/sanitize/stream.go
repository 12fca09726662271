package sanitize

import "unicode/utf8"

// Bounds of one Stream.
const (
	// MaxHeld bounds the bytes of text that are held: a window and an escape.
	MaxHeld   = maxWindow + maxEscape
	maxWindow = 192
	minWindow = 64  // bytes up to which a window need not start where it must
	maxOpener = 128 // bytes after which an opener that is not decided is no longer held
)

// automaton is all that a text has done to a Stream so far, but for what is
// held. It is a value: a copy is a point that one can return to.
type automaton struct {
	n      machine // reads what is decoded
	r      machine // reads what is raw, where forked
	forked bool
	fence  fence
}

// point is an automaton before the character at a position.
type point struct {
	automaton
	at int
}

// Stream sanitizes one text. It belongs to one goroutine.
//
// Positions are those of what is sent: bytes of the text so far with what was
// put into it.
type Stream struct {
	x   env
	cur automaton
	pos int // of the next character

	// The window: text that is held.
	held   bool
	window point  // where it starts
	win    []byte // as far as it came with earlier pieces
	pend   []byte // the start of a character, or of an escape, that is not whole

	mark point // before the latest character at which a window may start

	out       []byte // what is sent of this piece,
	clean     string // or this, without a copy
	sub       substitute
	flag      flag
	origin    origin
	rewrites  int // at one position
	rewriteAt int
	blocked   bool
	closed    bool
	report
}

// Stream begins a text.
func (s *Scanner) Stream() *Stream {
	st := &Stream{x: env{Scanner: s, next: s.words.next}}
	if s.context == Markdown {
		st.cur.fence.state = fenceStart
	}
	return st
}

// Text sanitizes a whole text. Blocked reports whether it was cut.
func (s *Scanner) Text(text string) (clean string, findings []Finding, blocked bool) {
	st := s.Stream()
	first, found := st.Write(text)
	rest, more := st.Close()
	return first + rest, append(found, more...), st.Blocked()
}

// Write takes the next piece of the text and returns what can be sent, which
// may be empty. After a match that blocks, and after Close, nothing is sent any
// more.
func (s *Stream) Write(delta string) (release string, findings []Finding) {
	return s.piece(delta, false)
}

// Close ends the text and returns what was held.
func (s *Stream) Close() (release string, findings []Finding) {
	return s.piece("", true)
}

// Blocked reports whether a match has ended the text.
func (s *Stream) Blocked() bool { return s.blocked }

func (s *Stream) piece(delta string, final bool) (string, []Finding) {
	s.out, s.clean, s.findings = s.out[:0], "", nil
	if s.blocked || s.closed {
		return "", nil
	}
	s.feed(delta, final)
	if final && !s.blocked {
		s.end()
	}
	if len(s.out) > 0 {
		return string(s.out), s.findings
	}
	return s.clean, s.findings
}

// halt is why a scan stopped.
type halt uint8

const (
	haltNone halt = iota
	haltMore      // the text ends within a character
	haltMatch
	haltControl // s.sub says what to put there
	haltBlock
)

// feed takes text that follows what was fed before. Whatever the halt, it goes
// on where the scan stopped, in what was pending and then in the text.
func (s *Stream) feed(text string, final bool) {
	for !s.blocked {
		whole, stop, joined := text, len(text), len(s.pend)
		if joined > 0 {
			// INVARIANT: no character is longer than maxEscape, so that what is
			// pending is whole with as much.
			whole, stop = string(s.pend)+text[:min(len(text), maxEscape)], joined
			s.pend = s.pend[:0]
		}
		i, h := s.scan(whole, stop, final && len(whole) >= joined+len(text))
		switch h {
		case haltNone:
			if joined == 0 {
				return
			}
		case haltMore:
			s.pend = append(s.pend, whole[i:]...)
			return
		case haltMatch:
			s.rewrite()
		case haltControl:
			i += s.sub.length
			s.substitute()
		case haltBlock:
			s.block()
			return
		}
		if i < joined {
			s.pend = append(s.pend, whole[i:joined]...)
			i = joined
		}
		text = text[i-joined:]
	}
}

// scan reads text up to stop; what follows is only looked ahead to. It returns
// where it stopped and why.
func (s *Stream) scan(text string, stop int, final bool) (i int, h halt) {
	base := s.pos
	src := source{names: s.x.names, text: text, final: final}
	for i < stop && h == haltNone {
		s.relax(i, base)
		switch {
		case s.idle(text[i]):
			if i = s.skim(text, i, stop, base); s.x.words.is(s.cur.n.st, mayOpen) {
				s.pause(base + i)
			}
		case !s.cur.forked:
			i, h = s.walk(src, i, stop, base)
		}
		if i < stop && h == haltNone {
			var n int
			n, h = s.look(src, i, base)
			i += n
		}
	}
	s.pos = base + i
	s.settle(text[:i], base)
	return i, h
}

// relax ends a window that only holds the start of a word, as skim will begin
// it again where that matters.
func (s *Stream) relax(i, base int) {
	m := &s.cur.n
	if !s.held || !m.quiet() || s.cur.forked || s.cur.fence.watching() {
		return
	}
	here := len(s.win) == 0 && s.window.at >= base && s.window.fence == s.cur.fence
	if here && m.wordAt != m.glue.end && base+i-m.wordAt == int(s.x.words.depth[m.st]) {
		s.held = false
	}
}

// idle reports whether only the word table matters at a byte.
func (s *Stream) idle(b byte) bool {
	return !s.held && s.cur.n.quiet() && !s.cur.forked && (!s.cur.fence.watching() || b == '\n' || b == '\r')
}

// skim goes through text as long as nothing in it is of interest. This is the
// loop that nearly all text sees nothing but.
func (s *Stream) skim(text string, i, stop, base int) int {
	next, classes, st, from := s.x.next, s.x.bytes, uint(s.cur.n.st), i
	for i < stop {
		e := next[st*rowSymbols+uint(classes[text[i]])]
		if e < entryLook {
			st = uint(e)
			i++
			continue
		}
		to, n := s.glance(text, i, wordState(st), base+i)
		if n == 0 {
			break
		}
		st = uint(to)
		i += n
	}
	if i > from {
		s.flag = flag{}
	}
	s.cur.n.st = wordState(st)
	return i
}

// glance reads a character that the loop of skim can't, if it is of no
// interest. It returns n = 0 if it is.
func (s *Stream) glance(text string, i int, st wordState, at int) (to wordState, n int) {
	if s.x.words.may[st]&mayOpen != 0 {
		return 0, 0
	}
	sym := symOther
	switch b := text[i]; {
	case b >= utf8.RuneSelf:
		sym, n = s.x.folds.wide(text, i)
	case b == '\n' || b == '\r':
		if sym = symLine; s.newLine(text, i, at) {
			n = 1
		}
	case opensEscape(b) && !(source{names: s.x.names, text: text}).mayEscape(i):
		sym, n = symbolOf[b], 1
	}
	if n == 0 {
		return 0, 0
	}
	row := s.x.next[int(st)*rowSymbols:][:rowSymbols]
	e := row[sym]
	if e >= entryLook || s.x.words.may[e]&mayOpen != 0 || text[i] >= utf8.RuneSelf && twofold(sym) && e != row[symOther] {
		return 0, 0
	}
	return wordState(e), n
}

// newLine lets the fence read the end of a line, if the next line begins with
// what is of no interest to it.
func (s *Stream) newLine(text string, i, at int) bool {
	if i+1 >= len(text) {
		return false
	}
	switch b := text[i+1]; b {
	case '`', '~', ' ', '<':
		return false
	case '\n', '\r':
		s.cur.fence.line(at)
	default:
		s.cur.fence.line(at)
		s.cur.fence.start(b)
	}
	return true
}

// pause begins a window at an opener that skim has gone through.
//
// INVARIANT: skim reads openers in ASCII only, so that their length is the
// depth of their state.
func (s *Stream) pause(at int) {
	m := &s.cur.n
	m.wordAt = at - int(s.x.words.depth[m.st])
	s.held = true
	s.open(m.wordAt)
}

package sanitize

import "slices"

const (
	// Marker is what breaks a match. It is ASCII, so that no conversion drops
	// it; it is no white space and no part of a word, a tag, a scheme or a
	// statement, and it needs no escape in JSON, HTML, URLs or Markdown.
	Marker = "(!)"
	// Redacted is what takes the place of a match. It begins as Marker does.
	Redacted = "(redacted)"
)

// maxRewrites bounds the rewrites before one character: each class may match
// once there.
const maxRewrites = int(numClasses)

// matched decides what becomes of a match before the character at a position.
func (s *Stream) matched(at int) halt {
	f := s.x.found
	action, fenced := s.x.actions[f.class], false
	if (action == Defang || action == Redact) && s.cur.fence.open(f.start) {
		action, fenced = Flag, true
		s.fenced = f.class
	}
	s.add(Finding{
		Class: f.class, Rule: f.rule, Action: action, Fenced: fenced,
		Offset: s.origin.of(f.start), Length: s.origin.of(at) - s.origin.of(f.start),
	})
	switch {
	case action == Flag:
		s.x.found = hit{}
		return haltNone
	case action == Block || s.rescans || s.stuck(at):
		// INVARIANT: what was rewritten holds no match; if it does, nothing of
		// it is sent.
		return haltBlock
	}
	if !s.held { // it is broken at the very character that shows it
		if s.mark.at != at {
			return haltBlock // INVARIANT: it was remembered
		}
		return max(haltMatch, s.begin(at))
	}
	return haltMatch
}

// stuck reports whether rewriting leads nowhere.
func (s *Stream) stuck(at int) bool {
	if s.rewriteAt != at {
		s.rewriteAt, s.rewrites = at, 0
	}
	s.rewrites++
	return s.rewrites > maxRewrites
}

// rewrite breaks the match in the window, which ends where the scan stopped,
// and reads the result from where the window starts.
func (s *Stream) rewrite() {
	f, was := s.x.found, len(s.win)
	s.x.found = hit{}
	text := Redacted
	if s.x.actions[f.class] == Defang {
		text = s.broken(f)
	}
	s.origin.pass()
	s.origin.edit(s.pos, len(text)-was, false)
	s.cur.copy(&s.window.automaton)
	s.pos, s.rewriteAt = s.window.at, s.rewriteAt+len(text)-was
	s.held, s.win, s.x.verbs = false, s.win[:0], s.x.verbs[:0]
	s.rescans = true
	s.feed(text, false)
	s.rescans = false
}

// broken is the window with markers: where the match wants it, and after all
// verbs, as one that stood in a comment may begin a statement when the one
// before it is broken.
func (s *Stream) broken(f hit) string {
	var marks []int
	if s.x.actions[DestructiveSQL] >= Defang {
		marks = append(marks, s.x.verbs...)
	}
	start := s.window.at
	inside := func(p int) bool { return p > start && p <= start+len(s.win) }
	marks = slices.DeleteFunc(marks, func(p int) bool { return !inside(p) })
	if f.class != DestructiveSQL || f.rule == ruleLong || len(marks) == 0 {
		marks = append(marks, min(max(f.mark, start), start+len(s.win)))
	}
	slices.Sort(marks)
	var out []byte
	from := start
	for _, p := range slices.Compact(marks) {
		out = append(append(out, s.win[from-start:p-start]...), Marker...)
		from = p
	}
	return string(append(out, s.win[from-start:]...))
}

// end reads the end of the text.
func (s *Stream) end() {
	s.closed = true
	for h := haltMatch; h != haltNone; {
		at := s.pos
		s.remember(glyph{c: charEnd}, at)
		s.cur.fence.read("\n", at)
		s.cur.n.step(&s.x, charEnd, at)
		if s.cur.forked {
			s.cur.r.step(&s.x, charEnd, at)
		}
		h = haltNone
		if s.x.found.class != 0 {
			h = s.matched(at)
		}
		switch h {
		case haltMatch:
			s.rewrite()
			s.feed("", true) // what it ends with is whole now
		case haltBlock:
			s.block()
			return
		}
		if s.blocked {
			return
		}
	}
	s.release()
	s.openFence()
}

// block ends the text before the window.
func (s *Stream) block() {
	s.blocked, s.held = true, false
	s.win, s.pend = nil, nil
}

// settle files text that was read from a position on: what the window does not
// hold is sent.
func (s *Stream) settle(text string, from int) {
	h := len(text)
	if s.held {
		h = min(max(s.window.at-from, 0), h)
	}
	s.emit(text[:h])
	s.win = append(s.win, text[h:]...)
}

// emit sends text. The first of a piece is not copied.
func (s *Stream) emit(text string) {
	switch {
	case text == "":
	case len(s.out) == 0 && s.clean == "":
		s.clean = text
	default:
		s.out = append(append(s.out, s.clean...), text...)
		s.clean = ""
	}
}

func (s *Stream) emitBytes(text []byte) {
	if len(text) > 0 {
		s.out = append(append(s.out, s.clean...), text...)
		s.clean = ""
	}
}

// origin maps positions back to the text that came in.
type origin struct {
	grown int // bytes put in before the window
	edits []edit
}

type edit struct{ at, by int }

// edit notes that from a position on the text has grown.
func (o *origin) edit(at, by int, held bool) {
	if held && len(o.edits) < MaxHeld {
		o.edits = append(o.edits, edit{at, by})
		return
	}
	o.grown += by
}

// pass notes that the window has gone.
func (o *origin) pass() {
	for _, e := range o.edits {
		o.grown += e.by
	}
	o.edits = o.edits[:0]
}

func (o *origin) of(p int) int {
	p -= o.grown
	for _, e := range o.edits {
		if e.at < p+o.grown {
			p -= e.by
		}
	}
	return p
}

// report is what a Stream tells of a text.
type report struct {
	findings []Finding
	reported int
	fenced   Class // of the latest match in a fence
	rescans  bool  // the text was rewritten, and reported, already
}

func (r *report) add(f Finding) {
	if r.reported < MaxFindings && !r.rescans {
		r.reported++
		r.findings = append(r.findings, f)
	}
}

// openFence reports matches that were only flagged as they stood in a fence
// which then had no end: they have been sent.
func (s *Stream) openFence() {
	if s.fenced != 0 && s.cur.fence.mark != 0 {
		s.add(Finding{Class: s.fenced, Rule: ruleOpenFence, Action: Flag, Offset: s.origin.of(s.cur.fence.openAt), Fenced: true})
	}
}

package sanitize

// update moves the window on after a character of n bytes at i.
func (s *Stream) update(src source, i, n, base int) (int, halt) {
	if s.x.found.class != 0 {
		if h := s.matched(base + i); h != haltNone {
			return 0, h
		}
	}
	s.cur.merge(s.x.words)
	if h := s.hold(src, i+n, base, base+i); h != haltNone {
		return 0, h
	}
	return n, haltNone
}

// hold holds what may become a match, now that the text has been read up to i;
// at is where the last character began.
func (s *Stream) hold(src source, i, base, at int) halt {
	return s.holdFrom(s.oldest(), src, i, base, at)
}

// holdFrom is hold, where the oldest opener is known.
func (s *Stream) holdFrom(from int, src source, i, base, at int) halt {
	end := base + i
	if from != unset && end-from > maxOpener {
		s.cur.n.letGo(&s.x, end)
		if s.cur.forked {
			s.cur.r.letGo(&s.x, end)
		}
		if s.x.found.class != 0 {
			if h := s.matched(at); h != haltNone {
				return h
			}
		}
		from = s.oldest()
	}
	switch {
	case from == unset:
		s.release()
		s.cur.n.tighten()
		s.cur.r.tighten()
	case !s.held:
		return s.begin(from)
	case from > s.window.at && s.cur.n.quiet() && !s.cur.forked && from != s.cur.n.glue.at:
		s.advance(from)
		s.open(from)
	case from == s.mark.at && end-s.window.at >= minWindow && !s.mark.forked && !s.cur.forked:
		s.mark.sent(s.x.words)
		s.advance(s.mark.at)
		s.window.set(&s.mark)
	case end-s.window.at > maxWindow:
		return s.slide(src, i, base, from, at)
	}
	return haltNone
}

// oldest is where the oldest opener that is live starts, or unset.
func (s *Stream) oldest() int {
	from := s.cur.n.hold(&s.x)
	if s.cur.forked {
		from = min(from, s.cur.r.hold(&s.x))
	}
	return from
}

// begin begins a window.
//
// INVARIANT: an opener starts at the character that was remembered last, or
// within it.
func (s *Stream) begin(from int) halt {
	if s.mark.at > from || s.mark.at < s.pos {
		return haltBlock
	}
	s.held = true
	s.window.set(&s.mark)
	return haltNone
}

// release ends the window: what was held can be sent.
func (s *Stream) release() {
	if !s.held {
		return
	}
	s.held = false
	s.emitBytes(s.win)
	s.win, s.x.verbs = s.win[:0], s.x.verbs[:0]
	s.origin.pass()
}

// open lets the window start before an opener that nothing is live but.
func (s *Stream) open(at int) {
	s.window.at = at
	s.window.copy(&s.cur)
	s.window.n.st = s.x.words.home[s.cur.n.st]
}

// advance sends what the window holds before a position.
func (s *Stream) advance(at int) {
	sent := min(len(s.win), at-s.window.at)
	s.emitBytes(s.win[:sent])
	s.win = s.win[:copy(s.win, s.win[sent:])]
}

// set copies no more than what counts.
func (p *point) set(from *point) {
	p.at = from.at
	p.copy(&from.automaton)
}

// slide lets the window start at a later opener, by reading it again up to
// there. What is sent then must be no match where the text is cut there: one
// machine may have read on where the other has found the opener.
func (s *Stream) slide(src source, i, base, from, at int) halt {
	start := max(s.window.at-base, 0)
	again := src
	again.text = string(s.win) + src.text[start:min(len(src.text), i+maxEscape)]
	p, verbs := s.window, len(s.x.verbs)
	for p.at < from {
		k := p.at - s.window.at
		g := s.parse(again, k)
		if g.kind == glyphMore {
			return haltBlock // INVARIANT: it was read before, and was whole
		}
		if p.at+g.n > from {
			break // the opener stands within an escape
		}
		s.read(&p.automaton, g, again.text[k:k+g.n], p.at)
		p.merge(s.x.words)
		p.at += g.n
	}
	s.x.found, s.x.verbs = hit{}, s.x.verbs[:verbs]
	if s.cut(p.automaton, p.at); s.x.found.class != 0 {
		if h := s.matched(at); h != haltNone {
			return h
		}
	}
	p.sent(s.x.words)
	s.advance(p.at)
	s.window.set(&p)
	return haltNone
}

// cut reads the end of the text at a point.
func (s *Stream) cut(a automaton, at int) {
	verbs := len(s.x.verbs)
	a.n.step(&s.x, charEnd, at)
	if a.forked {
		a.r.step(&s.x, charEnd, at)
	}
	s.x.verbs = s.x.verbs[:verbs]
}

// merge goes back to one machine where both do the same.
func (a *automaton) merge(w *words) {
	if a.forked && a.n.alike(w, &a.r) {
		a.forked = false
		a.n.image.seen |= a.r.image.seen
	}
}

// sent notes that the text before the point has been sent.
func (p *point) sent(w *words) {
	p.n.sent(w, p.at)
	if p.forked {
		p.r.sent(w, p.at)
	}
}

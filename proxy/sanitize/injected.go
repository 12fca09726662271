package sanitize

// What the machines share that read SQL, commands and paths of somebody else's
// making: break-outs, commands and climbs.

// glue is what the end of the text would have made a match, had it come before
// end. It goes with what is held from there on, as the text may be cut there.
type glue struct {
	at, end int
}

// stepInjected lets the machines read a character that is not within a word.
func (m *machine) stepInjected(x *env, st wordState, sym symbol, at int) {
	begins := continues(sym) && m.st >= stWord
	if begins && st >= stWord {
		return
	}
	if m.live&liveBreak != 0 {
		m.stepBreakout(x, sym, at, begins)
	}
	if m.live&liveCommand != 0 {
		m.stepCommand(x, sym, at, begins)
	}
	if m.live&livePath != 0 {
		m.stepClimb(sym, begins)
	}
}

// holdInjected is the first byte that those machines hold: what has begun, or a
// word that may show it.
func (m *machine) holdInjected(x *env) int {
	h, may := unset, x.words.may[m.st]
	if m.live&liveBreak != 0 {
		h = m.breakout.start
	}
	if m.live&liveCommand != 0 {
		h = min(h, m.command.start)
	}
	if m.shows(may) != 0 {
		h = min(h, m.wordAt)
	}
	return h
}

// shows is the class that a word may come to show, or 0.
func (m *machine) shows(may may) Class {
	switch {
	case may&mayBreak != 0 && m.live&liveBreak != 0 && m.breakout.state.open():
		return SQLBreakout
	case may&mayRun != 0 && m.live&liveCommand != 0 && m.command.state == commandWord:
		return CommandInjection
	case may&maySystem != 0 && m.live&livePath != 0:
		return PathTraversal
	}
	return 0
}

// holdArgument lets a word that begins be held for what has let go of all before.
func (m *machine) holdArgument(at int) {
	if m.live&liveBreak != 0 && m.breakout.state == breakVerb && m.breakout.start == unset {
		m.breakout.start = at
	}
	if m.live&liveCommand != 0 && m.command.state == commandArg && m.command.start == unset {
		m.command.start = at
	}
}

// letGoInjected: nobody puts so much white space there but to deceive, so that the
// machines go on and hold the next word. A word that is as long is an argument
// where any word is one, and spelled to deceive where it may still become one.
func (m *machine) letGoInjected(x *env, end int) {
	long := m.st >= stWord
	spelled := long && x.words.is(m.st, maySpell)
	if m.glue.end > 0 && old(m.glue.at, end) {
		if m.holds(x) == m.glue.end {
			x.hit(SQLBreakout, ruleLong, m.glue.at, m.glue.at)
			x.hit(CommandInjection, ruleLong, m.glue.at, m.glue.at)
		}
		m.glue = glue{}
	}
	if b := &m.breakout; m.live&liveBreak != 0 && old(b.start, end) {
		switch {
		case spelled:
			x.hit(SQLBreakout, ruleLong, b.start, b.start)
			m.noBreakout()
		case long:
			m.noBreakout()
		}
		b.start = unset
	}
	if c := &m.command; m.live&liveCommand != 0 && old(c.start, end) {
		switch {
		case spelled, long && x.strict(), !long && c.whole():
			x.hit(CommandInjection, ruleLong, c.start, c.start)
			m.noCommand(unset)
		case long:
			m.noCommand(unset)
		}
		c.start = unset
	}
}

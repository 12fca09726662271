package sanitize

// commandState is where in a command the text stands.
type commandState uint8

const (
	commandNone commandState = iota
	commandLead              // before a word that may be one
	commandWord              // in it
	commandArg               // after it
	commandDash              // after a - then
)

// separator is what came before a command.
type separator uint8

const (
	afterSemi  separator = iota // ; or &
	afterAnd                    // && or ||
	afterPipe                   // |
	afterSubst                  // $(, <( or a backtick
)

// command reads a command that follows another one, or stands within it. It is
// held from its name on, until what follows shows that it is one: prose has
// semicolons, and tables have bars.
type command struct {
	state commandState
	sep   separator
	kind  wordKind
	apart bool  // white space has followed the name
	words uint8 // before the name
	start int   // first byte of the name; unset before it, or where it has been sent
}

// maxLead bounds the folders, and the commands that run others, before a name.
const maxLead = 8

// openCommand begins one after what stands before it.
func (m *machine) openCommand(x *env, state commandState, home wordState) {
	if !x.acts(CommandInjection) {
		return
	}
	c := command{state: state, start: unset}
	switch home {
	case stAnd:
		c.sep = afterAnd
	case stPipe:
		c.sep = afterPipe
	case stSubst, stTick:
		c.sep = afterSubst
	}
	m.command = c
	m.live |= liveCommand
}

// noCommand ends a command that is none, as is seen at a position.
func (m *machine) noCommand(at int) {
	c := &m.command
	if c.start < at && at != unset {
		m.glue = glue{c.start, at}
	}
	*c = command{start: unset}
	m.live &^= liveCommand
}

// injects handles a command that is one, where it is more than how people write
// them: they join commands of all kinds.
func (m *machine) injects(x *env, at int) {
	c := &m.command
	rule, harms := ruleChained, c.kind == wordTool || c.kind == wordShell
	switch c.sep {
	case afterAnd:
		harms = harms || x.strict()
	case afterPipe:
		if c.kind == wordShell {
			rule = rulePipe
		}
	case afterSubst:
		rule, harms = ruleSubst, true
	default:
		harms = true
	}
	if harms {
		start := min(c.start, at)
		x.hit(CommandInjection, rule, start, start)
	}
	m.noCommand(unset)
}

// wordCommand reads a word.
func (m *machine) wordCommand(x *env, kind wordKind, end int, after symbol) {
	c := &m.command
	switch {
	case c.state == commandWord && (after == symSlash || (kind == wordSudo || kind == wordExec) && blank(after)) && c.words < maxLead:
		c.state, c.words = commandLead, c.words+1
	case c.state == commandWord && (kind.runs() || kind == wordDelay):
		c.state, c.kind, c.start = commandArg, kind, m.wordAt
		if c.sep == afterSubst && endsCommand(after) {
			m.injects(x, m.wordAt)
		} else if c.sep == afterSubst {
			m.noCommand(end)
		}
	case c.state == commandArg && c.argument(x, kind, after), c.state == commandDash:
		m.injects(x, m.wordAt)
	default:
		m.noCommand(m.wordAt)
	}
}

// argument reports whether a word after the name is an argument. Prose goes on
// with a word as well.
func (c *command) argument(x *env, kind wordKind, after symbol) bool {
	switch {
	case kind == wordWeb && after == symColon:
		return true
	case c.kind == wordTool, c.kind == wordShell && c.sep == afterPipe:
		return x.strict()
	}
	return false
}

// endsCommand reports whether a symbol ends the name of a command.
func endsCommand(s symbol) bool {
	switch s {
	case symRParen, symDollar, symLT, symGT, symLBrace:
		return true
	}
	return blank(s) || endsLine(s)
}

// endsLine reports whether a symbol ends a command.
func endsLine(s symbol) bool {
	switch s {
	case symLine, symEnd, symDQ, symSQ, symTick, symSemi, symAmp, symPipe, symHash:
		return true
	}
	return false
}

// stepCommand reads a character that is not within a word; begins says that it
// begins one.
func (m *machine) stepCommand(x *env, sym symbol, at int, begins bool) {
	c := &m.command
	switch c.state {
	case commandLead:
		m.beforeName(sym, at, begins)
	case commandArg:
		m.afterName(x, sym, at, begins)
	case commandDash:
		if !continues(sym) && sym != symDash && c.kind != wordShell {
			m.noCommand(at) // a dash of prose
			return
		}
		m.injects(x, at)
	case commandWord:
		if !begins {
			m.noCommand(at) // the word has gone on with an underscore
		}
	}
}

// beforeName reads what stands before a name: folders, and blanks.
func (m *machine) beforeName(sym symbol, at int, begins bool) {
	switch {
	case begins:
		m.command.state = commandWord
	case sym != symSpace && sym != symSlash:
		m.noCommand(at)
	}
}

// afterName reads what follows a name.
func (m *machine) afterName(x *env, sym symbol, at int, begins bool) {
	c := &m.command
	switch {
	case begins && c.apart:
	case sym == symSpace:
		c.apart = true
	case sym == symDash && c.apart:
		c.state = commandDash
	case endsLine(sym) || sym == symRParen:
		m.afterCommand(x, sym, at)
	case c.evident(x, sym):
		m.injects(x, at)
	default:
		m.noCommand(at)
	}
}

// whole reports whether a command needs no argument.
func (c *command) whole() bool {
	return c.kind == wordBare || c.kind == wordShell && (c.sep == afterPipe || c.state == commandDash)
}

// afterCommand reads what ends a command without arguments. In a table of
// Markdown the next bar ends a cell.
func (m *machine) afterCommand(x *env, sym symbol, at int) {
	c := &m.command
	cell := sym == symPipe && !x.strict()
	if c.whole() && !(cell && c.kind == wordShell) {
		m.injects(x, at)
		return
	}
	m.noCommand(at)
}

// evident reports whether a symbol shows an argument: a path, a variable, an
// address.
func (c *command) evident(x *env, sym symbol) bool {
	harms := c.kind == wordTool || c.kind == wordShell || x.strict()
	switch sym {
	case symDollar, symLT, symGT:
		return true
	case symSlash, symStar, symBack:
		return c.apart
	case symDigit, symDot, symPlus, symOther:
		return c.apart && harms
	}
	return false
}

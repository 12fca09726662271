package sanitize

import "strings"

// twin is a state of a word that means more where it stands: the name of a command
// after a semicolon. It does what the plain state does, and shows what came before
// the word when the word has ended. So nothing has to be remembered, and text in
// which such a word does not come to its end costs nothing.
type twin struct{ st, plain wordState }

// graft adds the twins.
func (w *words) graft() (twins []twin) {
	lists := vocabulary()
	commands := []wordKind{wordTool, wordShell, wordCommand, wordDelay, wordBare, wordSudo, wordExec}
	for home, g := range map[wordState]struct {
		kinds []wordKind
		from  []wordState
	}{
		stQuote:     {[]wordKind{wordJoin}, []wordState{stQuote, stQuoteGap, stQuoteLoose}},
		stQuoteSemi: {append(statements(), commands...), []wordState{stQuoteSemi}},
		stSemi:      {commands, []wordState{stSemi, stAmp, stQuoteAmp}},
		stAnd:       {commands, []wordState{stAnd}},
		stPipe:      {commands, []wordState{stPipe, stQuotePipe}},
		stSubst:     {commands, []wordState{stSubst, stTick}},
	} {
		for _, kind := range g.kinds {
			for word := range strings.FieldsSeq(lists[kind]) {
				twins = append(twins, w.graftWord(word, home, g.from)...)
			}
		}
	}
	return twins
}

// statements are the kinds of words that begin one.
func statements() []wordKind {
	return []wordKind{wordDrop, wordTruncate, wordDelete, wordAlter, wordSelect, wordStatement}
}

// graftWord adds the twins of one word, as far as they are not there.
func (w *words) graftWord(word string, home wordState, from []wordState) (twins []twin) {
	plain := stRoot
	for i := range len(word) {
		sym := symbolOf[word[i]]
		plain = wordState(*w.entry(plain, sym))
		st := wordState(*w.entry(from[0], sym))
		if st < stSpelled {
			st = w.state(uint8(i + 1))
			w.kind[st], w.may[st], w.home[st] = w.kind[plain], w.may[plain]|mayOpen, home
			twins = append(twins, twin{st, plain})
		}
		for _, f := range from {
			*w.entry(f, sym) = uint16(st)
		}
		from = []wordState{st}
	}
	return twins
}

// connectTwin fills the entries that no word has filled: where nothing is shown, a
// twin leads to where its plain state leads.
func (w *words) connectTwin(t twin) {
	for s := range symbol(numSymbols) {
		e := w.entry(t.st, s)
		if *e < uint16(stSpelled) {
			*e = *w.entry(t.plain, s)
		}
		if shows(w.kind[t.st], w.home[t.st]) && !continues(s) && s != symUnder {
			*e |= entryLook
		}
	}
}

// shows reports whether a whole word shows something, with what came before it.
func shows(kind wordKind, home wordState) bool {
	switch home {
	case stRoot:
		return false
	case stQuote:
		return kind == wordJoin
	case stQuoteSemi:
		if kind >= wordDrop && kind <= wordAlter || kind == wordSelect || kind == wordStatement {
			return true
		}
	}
	return kind.runs() || kind == wordDelay || kind == wordSudo || kind == wordExec
}

// shown begins what a whole word shows.
func (m *machine) shown(x *env, home wordState) {
	switch home {
	case stQuote:
		m.openBreakout(x, breakWord)
	case stQuoteSemi:
		m.openBreakout(x, breakStack)
		m.openCommand(x, commandWord, home)
	default:
		m.openCommand(x, commandWord, home)
	}
}

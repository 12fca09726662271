package sanitize

// outside is an opener that is no word.
type outside struct {
	depth uint8     // symbols that led there
	home  wordState // where the text stands before them
}

// openers are the states outside words that are held.
func openers() map[wordState]outside {
	return map[wordState]outside{
		stLT: {1, stRoot}, stQuoteHash: {1, stQuote}, stGapHash: {1, stQuoteGap}, stQuoteDash: {1, stQuote}, stQuoteDashes: {2, stQuote},
		stGapDash: {1, stQuoteGap}, stGapDashes: {2, stQuoteGap}, stGapTail: {3, stQuoteGap},
	}
}

// alone is the state after a symbol outside words, whatever stood before it.
func (w *words) alone(s symbol) wordState {
	switch s {
	case symLT:
		return stLT
	case symBang:
		return stBang
	case symRBrack:
		return stBrack
	case symSQ:
		return stQuote
	case symDQ:
		return stQuoteLoose // programs have "#" and "--" for what they are
	case symSemi:
		return stSemi
	case symAmp:
		return stAmp
	case symPipe:
		return stPipe
	case symDollar:
		return stDollar
	case symDot:
		return stDot
	case symTick:
		if w.calls {
			return stTick
		}
	}
	return stRoot
}

// between is the state after a symbol where that depends on what stood before.
func (w *words) between(st wordState, s symbol) (to wordState, ok bool) {
	switch {
	case st >= stQuote && st <= stGapTail:
		return quoted(st, s)
	case st >= stSemi && st <= stTick:
		return separated(st, s)
	case st >= stDot && st <= stDotsCode:
		return dotted(st), s == symDot
	}
	return w.joined(st, s)
}

// dotted follows dots: three are none of a path, and four are as good as two where
// something removes ../ once.
func dotted(st wordState) wordState {
	switch st {
	case stDot:
		return stDots
	case stDots:
		return stDot
	case stDotCode:
		return stDotsCode
	}
	return stDotCode
}

// quoted follows what may end a value in quotes, and go on with a statement.
func quoted(st wordState, s symbol) (to wordState, ok bool) {
	switch st {
	case stQuote, stQuoteGap, stQuoteLoose:
		return ended(st, s)
	case stQuoteSemi:
		return semicolon(s)
	case stQuotePipe:
		return separated(stPipe, s)
	case stQuoteAmp:
		return separated(stAmp, s)
	case stQuoteDash, stGapDash:
		return st + 1, s == symDash
	case stGapDashes:
		return stGapTail, s == symSpace
	}
	return 0, false
}

func ended(st wordState, s symbol) (to wordState, ok bool) {
	switch s {
	case symSpace, symSlash, symStar, symPlus:
		return max(st, stQuoteGap), true
	case symLine:
		return stQuoteLoose, true
	case symRParen:
		return st, true
	case symSemi:
		return stQuoteSemi, true
	case symPipe:
		return stQuotePipe, true
	case symAmp:
		return stQuoteAmp, true
	}
	// The next line may be a heading, or end a letter.
	switch {
	case s == symHash && st != stQuoteLoose:
		return stQuoteHash + (st - stQuote), true
	case s == symDash && st == stQuote:
		return stQuoteDash, true
	case s == symDash && st == stQuoteGap:
		return stGapDash, true
	}
	return 0, false
}

// semicolon follows a quote and a semicolon. After a line break the next
// statement is one of a script.
func semicolon(s symbol) (to wordState, ok bool) {
	switch s {
	case symSpace, symSemi:
		return stQuoteSemi, true
	case symDash:
		return stQuoteDash, true
	case symHash:
		return stQuoteHash, true
	}
	return separated(stSemi, s)
}

// separated follows what may begin another command.
func separated(st wordState, s symbol) (to wordState, ok bool) {
	switch {
	case st == stDollar:
		return stSubst, s == symLParen
	case st == stTick:
		return 0, false
	case s == symSpace && st == stAmp:
		return stSemi, true
	case s == symSpace, s == symLParen, s == symLBrace && st != stSubst:
		return st, true
	case s == symAmp && st == stAmp, s == symPipe && st == stPipe:
		return stAnd, true
	case s == symAmp && st == stPipe:
		return stPipe, true
	}
	return 0, false
}

// joined follows OR and a number, and what of the rest depends on the state.
func (w *words) joined(st wordState, s symbol) (to wordState, ok bool) {
	switch {
	case st == stLT:
		return stSubst, s == symLParen
	case st == w.or, st == stOrGap && (blank(s) || s == symLParen):
		return stOrGap, blank(s) || st != w.or
	case (st == stOrGap || st == stOrNumber) && s == symDigit:
		return stOrNumber, true
	case st == stOrNumber || st == stOrNumberGap:
		return stOrNumberGap, blank(s)
	}
	return 0, false
}

// act is what begins, or is seen, at a symbol after a state outside words.
type act uint8

const (
	actNone    act = iota
	actImage       // ![
	actLink        // ](
	actDefine      // ]:
	actOr          // a condition after a quote, and || or &&
	actCompare     // a comparison after OR and a number
	actComment     // a comment after a quote
	actFolder      // the path of a command after what separates it
	actParent      // ../
)

// begins is what a symbol begins after a state.
func (w *words) begins(st wordState, s symbol) act {
	switch {
	case st < stActs || st >= stWord:
		return actNone
	case st == stBang && s == symLBrack:
		return actImage
	case st == stBrack && s == symLParen:
		return actLink
	case st == stBrack && s == symColon:
		return actDefine
	case st <= stBrack:
		return actNone
	case st <= stGapTail && st != stQuoteSemi && st != stQuotePipe && st != stQuoteAmp:
		return afterQuote(st, s)
	case st == stQuotePipe && s == symPipe, st == stQuoteAmp && s == symAmp:
		return actOr
	case st >= stDot && st <= stDotsCode:
		return when((st == stDots || st == stDotsCode) && (s == symSlash || s == symBack), actParent)
	case st >= stOrGap:
		return when(st > stOrGap && s == symEq, actCompare)
	}
	return when(s == symSlash && st != stAmp && st != stTick && st != stDollar, actFolder)
}

// when is a where a condition holds.
func when(holds bool, a act) act {
	if holds {
		return a
	}
	return actNone
}

// afterQuote looks for the comment that ends a statement.
func afterQuote(st wordState, s symbol) act {
	ends := s == symLine || s == symEnd || s == symDQ
	switch st {
	case stQuoteHash:
		return when(ends, actComment)
	case stQuoteDashes:
		return when(ends || s == symSpace || s == symPlus, actComment)
	case stGapHash:
		return when(ends, actComment)
	case stGapDashes:
		return when(ends || s == symPlus, actComment)
	case stGapTail:
		return when(ends || s == symDash || s == symPlus, actComment)
	}
	return actNone
}

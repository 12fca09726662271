package sanitize

import (
	"strings"
	"sync"
)

// wordKind is what a word means to the machines.
type wordKind uint8

const (
	wordOther    wordKind = iota // any other word
	wordDrop                     // verbs
	wordTruncate                 //
	wordDelete                   //
	wordAlter                    //
	wordTable                    // what a statement may destroy: says so alone,
	wordDatabase                 // at the end of a line,
	wordObject                   // or only at a semicolon
	wordModifier                 // between verb and object
	wordFrom                     // the rest of the grammar
	wordIf                       //
	wordExists                   //
	wordOnly                     //
	wordTail                     // follows a name and ends the doubt
	wordStop                     // is hardly a name: an article, a word about statements
	wordTag                      // elements that run code or redirect
	wordSource                   // attributes whose value is fetched
	wordHandler                  // on and three more letters: a name like an event handler's
	wordScript                   // schemes of URLs that run code
	wordData                     // the scheme data
)

// vocabulary lists the words of each kind.
func vocabulary() map[wordKind]string {
	return map[wordKind]string{
		wordDrop: "drop", wordTruncate: "truncate", wordDelete: "delete", wordAlter: "alter",
		wordTable:    "table",
		wordDatabase: "database schema tablespace keyspace",
		wordObject: "view index user role function procedure trigger sequence type column constraint partition domain " +
			"extension policy server publication subscription event login synonym rule aggregate collation tables",
		wordModifier: "temporary temp foreign external unique materialized global concurrently low priority quick ignore owned",
		wordFrom:     "from", wordIf: "if", wordExists: "exists", wordOnly: "only",
		wordTail: "cascade restrict where purge",
		wordStop: "a an the this that these those my your our their his her its it all any each every some both and or not in on to " +
			"as with when is are was were be been then than will would can could should may might must has have had do does did " +
			"for of at by but so because which who what how using use statement statements command commands clause query queries " +
			"operation operations privilege privileges permission permissions syntax example examples action into out off up " +
			"down again also before after during once without within via per",
		wordTag:    "script iframe frame frameset object embed applet svg math base meta link style portal fencedframe",
		wordSource: "src srcset poster background lowsrc dynsrc",
		wordScript: "javascript vbscript livescript", wordData: "data",
	}
}

// wordState is a state of the word table.
type wordState uint16

// The states outside words, and the word that is none of the vocabulary.
const (
	stRoot    wordState = iota
	stLT                // after <
	stBang              // after !
	stBrack             // after ]
	stUnder             // after _
	stWord              // in a word that is not in the vocabulary, or beyond its end
	stOn3               // in a word of three letters that begins with on,
	stOn4               // of four,
	stOn5               // of five or more
	stSpelled           // the first state of the vocabulary

	stFirst = stOn3 // the first that says how long the word is
)

// Entries of the word table: the next state, and whether the machines must look.
const (
	entryState = 1<<15 - 1
	entryLook  = 1 << 15
)

// words is the DFA over symbols that finds the vocabulary in a text, and what
// is known of its states. It is immutable.
type words struct {
	next  []uint16 // [state*rowSymbols + symbol]
	kind  []wordKind
	depth []uint8 // symbols that led here from outside words
	may   []may
}

// may says what a state may become.
type may uint8

const (
	mayOpen   may = 1 << iota // an opener, so that it is held
	mayTag                    // a wordTag
	maySpell                  // a word of the vocabulary
	mayHandle                 // a wordHandler
)

// is reports whether a state may become one of several things.
func (w *words) is(st wordState, what may) bool { return w.may[st]&what != 0 }

// wordTables builds the table once, for all Scanners.
var wordTables = sync.OnceValue(func() *words {
	w := &words{}
	for range stSpelled {
		w.state(0)
	}
	w.kind[stOn5] = wordHandler
	for st := stOn3; st <= stOn5; st++ {
		w.depth[st], w.may[st] = uint8(st-stOn3)+3, mayHandle
	}
	for kind, list := range vocabulary() {
		for word := range strings.FieldsSeq(list) {
			w.spell(word, kind)
		}
	}
	for st := range w.kind {
		w.connect(wordState(st))
	}
	w.depth[stLT], w.may[stLT] = 1, mayOpen
	return w
})

func (w *words) state(depth uint8) wordState {
	w.next = append(w.next, make([]uint16, rowSymbols)...)
	w.kind = append(w.kind, wordOther)
	w.depth = append(w.depth, depth)
	w.may = append(w.may, 0)
	return wordState(len(w.kind) - 1)
}

func (w *words) entry(st wordState, s symbol) *uint16 { return &w.next[int(st)*rowSymbols+int(s)] }

// spell adds the states of one word.
func (w *words) spell(word string, kind wordKind) {
	st := stRoot
	for i := range len(word) {
		e := w.entry(st, symbolOf[word[i]])
		if *e == 0 {
			next := w.state(uint8(i + 1))
			e = w.entry(st, symbolOf[word[i]]) // the table may have moved
			*e = uint16(next)
		}
		st = wordState(*e)
		w.may[st] |= becomes(word[:i+1], kind)
	}
	w.kind[st] = kind
}

// becomes is what the start of a word may become.
func becomes(part string, kind wordKind) may {
	m := maySpell
	if opener(kind) {
		m |= mayOpen
	}
	if kind == wordTag {
		m |= mayTag
	}
	if part == "o" || strings.HasPrefix(part, "on") {
		m |= mayHandle
	}
	return m
}

func opener(k wordKind) bool {
	return k >= wordDrop && k <= wordAlter || k == wordScript || k == wordData
}

// connect fills the entries of a state that no word has filled.
func (w *words) connect(st wordState) {
	for s := range symbol(numSymbols) {
		e := w.entry(st, s)
		if *e >= uint16(stSpelled) {
			continue
		}
		*e = w.otherwise(st, s)
	}
	w.look(st)
}

// otherwise is where a symbol leads that spells nothing.
func (w *words) otherwise(st wordState, s symbol) uint16 {
	inWord := st >= stWord
	switch {
	case s == symSkip || s == slowByte:
		return uint16(st)
	case s == symUnder:
		return uint16(stUnder)
	case isLetter(s) && w.on(st):
		return uint16(min(stOn3+wordState(w.depth[st])-2, stOn5))
	case continues(s) && inWord:
		return uint16(stWord)
	case s == symDigit:
		return uint16(stRoot) // digits before letters are no part of the word
	case continues(s) && st != stRoot && isLetter(s):
		return *w.entry(stRoot, s) // connected first
	case continues(s):
		return uint16(stWord)
	case s == symLT:
		return uint16(stLT)
	case s == symBang:
		return uint16(stBang)
	case s == symRBrack:
		return uint16(stBrack)
	}
	return uint16(stRoot)
}

// on reports whether a state is that of a word that begins with on.
func (w *words) on(st wordState) bool { return w.is(st, mayHandle) && w.depth[st] >= 2 }

// look marks the entries at which the machines have work to do.
func (w *words) look(st wordState) {
	for s := range symbol(numSymbols) {
		ended := opener(w.kind[st]) && !continues(s) && s != symUnder
		tag := st == stLT && isLetter(s)
		image := st == stBang && s == symLBrack
		link := st == stBrack && (s == symLParen || s == symColon)
		if ended || tag || image || link || s == slowByte {
			*w.entry(st, s) |= entryLook
		}
	}
}

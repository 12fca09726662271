package llm

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of one JSON document.
const (
	// MaxDepth is how deep values may be nested.
	MaxDepth = 128
	// MaxValues is how many values a document may hold; it bounds the index,
	// which takes 32 bytes per value.
	MaxValues = 1 << 18
	// keepValues is how many of them a parser keeps memory for between
	// documents, so that one large frame does not stay with its stream.
	keepValues = 1 << 8
)

// span is a range of bytes of the text.
type span struct{ start, end int32 }

// node is one value of a document.
type node struct {
	kind   jsontext.Kind // { [ " 0 t f n
	name   span          // quoted, as sent; empty in arrays and at the root
	value  span          // as sent
	next   int32         // index of the first node that is not below this one
	parent int32         // index of the container; of itself at the root
	place  int32         // position in the container
}

// document is an index over JSON text, in the order of the text. The text
// stays as it was sent, so that a rewrite can leave it alone.
type document struct {
	text  []byte
	nodes []node
}

// root returns the one top-level value.
func (d *document) root() elem { return elem{d, 0} }

// parser builds documents, one after the other in the same memory.
type parser struct {
	doc  document
	dec  *jsontext.Decoder
	src  bytes.Buffer
	open []opened // containers that are not closed
	name span     // of the member whose value comes next
}

// opened is a container that is not closed.
type opened struct {
	index int32
	kids  int32 // values in it so far
}

func newParser() *parser {
	return &parser{dec: jsontext.NewDecoder(new(bytes.Buffer))}
}

// parse indexes text. The document is valid until the next call.
func (p *parser) parse(text []byte) (*document, error) {
	p.src = *bytes.NewBuffer(text)
	p.dec.Reset(&p.src)
	if cap(p.doc.nodes) > keepValues {
		p.doc.nodes = nil
	}
	p.doc.text, p.doc.nodes = text, p.doc.nodes[:0]
	p.open, p.name = p.open[:0], span{}
	for first := true; first || len(p.open) > 0; first = false {
		if err := p.step(); err != nil {
			return nil, err
		}
	}
	if _, err := p.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, refuse(Malformed, Fault{Code: "syntax", Message: "Only one JSON value is allowed."})
	}
	return &p.doc, nil
}

// step takes in a name, a scalar, or one end of a container.
func (p *parser) step() error {
	switch kind := p.dec.PeekKind(); kind {
	case '{', '[':
		return p.begin(kind)
	case '}', ']':
		return p.end()
	default:
		return p.scalar(kind)
	}
}

func (p *parser) begin(kind jsontext.Kind) error {
	if len(p.open) == MaxDepth {
		return refuse(Malformed, Fault{p.at(), "too_deep", "The document is nested too deep."})
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return p.syntax(err)
	}
	end := int32(p.dec.InputOffset())
	index := int32(len(p.doc.nodes))
	if err := p.add(node{kind: kind, value: span{end - 1, end}}); err != nil {
		return err
	}
	p.open = append(p.open, opened{index: index})
	return nil
}

func (p *parser) end() error {
	if _, err := p.dec.ReadToken(); err != nil {
		return p.syntax(err)
	}
	top := len(p.open) - 1
	n := &p.doc.nodes[p.open[top].index]
	n.value.end, n.next = int32(p.dec.InputOffset()), int32(len(p.doc.nodes))
	p.open = p.open[:top]
	return nil
}

// scalar reads a name or a value without parts.
func (p *parser) scalar(kind jsontext.Kind) error {
	raw, err := p.dec.ReadValue()
	if err != nil {
		return p.syntax(err)
	}
	end := int32(p.dec.InputOffset())
	at := span{end - int32(len(raw)), end}
	if p.name == (span{}) && p.inObject() {
		p.name = at
		return nil
	}
	return p.add(node{kind: kind, value: at, next: int32(len(p.doc.nodes)) + 1})
}

func (p *parser) inObject() bool {
	top := len(p.open) - 1
	return top >= 0 && p.doc.nodes[p.open[top].index].kind == '{'
}

// add appends a node under the name that was read for it.
func (p *parser) add(n node) error {
	if len(p.doc.nodes) == MaxValues {
		return refuse(TooLarge, Fault{p.at(), "too_many", "The document has too many values."})
	}
	n.name, p.name = p.name, span{}
	if top := len(p.open) - 1; top >= 0 {
		n.parent, n.place = p.open[top].index, p.open[top].kids
		p.open[top].kids++
	}
	p.doc.nodes = append(p.doc.nodes, n)
	return nil
}

// at returns the place that the decoder has reached.
func (p *parser) at() string { return string(p.dec.StackPointer()) }

// syntax says what the decoder refused, without the decoder's excerpts of the text.
func (p *parser) syntax(err error) error {
	f := Fault{Code: "syntax", Message: "The document is not valid JSON."}
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		f.Pointer = string(e.JSONPointer)
	}
	if errors.Is(err, jsontext.ErrDuplicateName) {
		f.Code, f.Message = "duplicate", "A name stands twice in the same object."
	}
	return refuse(Malformed, f)
}

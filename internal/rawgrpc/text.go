package rawgrpc

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrMessage is the error of every message that can not be read.
var ErrMessage = errors.New("the message is not well-formed")

// Text is a message, or a part of one, both as bytes and as a string, so that
// to take a field as either copies nothing. Either keeps all of the message in
// memory: clone what outlives it.
type Text struct {
	b []byte
	s string // INVARIANT: the same as b
}

// Text copies m once, as a string.
func (m Message) Text() Text { return Text{m, string(m)} }

// Bytes is the text as bytes of the message, which must not be changed.
func (t Text) Bytes() []byte { return t.b }

// String is the text as a string. It need not be valid UTF-8: Envoy's paths
// and headers are bytes.
func (t Text) String() string { return t.s }

// Field is one field of a message. One of the three numbers is set, or none
// for a field of yet another wire type: a field that comes with a wire type
// which is not its own is an unknown field to protobuf.
type Field struct {
	Number  protowire.Number // of a string, bytes or message field
	Integer protowire.Number // of an integer, bool or enum field
	Fixed64 protowire.Number // of a double or fixed64 field; its value is skipped
	Varint  uint64           // the value of an integer field
	Text    Text             // the value of a string, bytes or message field
}

// Each visits the fields in the order of the wire (protobuf's encoding guide).
// A caller reads them as protobuf does if of a field that stands twice it
// takes the last, and of a message that does both, one over the other. Each
// ends at the first error of visit and returns it, or returns ErrMessage at
// what is no field; the fields before it have been visited.
func (t Text) Each(visit func(Field) error) error {
	for len(t.b) > 0 {
		f, n := t.first()
		if n < 0 {
			return ErrMessage
		}
		t = Text{t.b[n:], t.s[n:]}
		if err := visit(f); err != nil {
			return err
		}
	}
	return nil
}

// first is the field that t begins with and how many bytes it takes, less
// than 0 where there is none.
func (t Text) first() (f Field, size int) {
	number, kind, tag := protowire.ConsumeTag(t.b)
	if tag < 0 {
		return f, tag
	}
	rest := t.b[tag:]
	n := 0
	switch kind {
	case protowire.BytesType:
		f.Number = number
		if f.Text.b, n = protowire.ConsumeBytes(rest); n >= 0 {
			f.Text.s = t.s[tag+n-len(f.Text.b) : tag+n]
		}
	case protowire.VarintType:
		f.Integer = number
		f.Varint, n = protowire.ConsumeVarint(rest)
	case protowire.Fixed64Type:
		f.Fixed64 = number
		_, n = protowire.ConsumeFixed64(rest)
	default:
		n = protowire.ConsumeFieldValue(number, kind, rest)
	}
	if n < 0 {
		return f, n
	}
	return f, tag + n
}

package sanitize

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// checker walks one value and copies what is not dropped.
//
// INVARIANT: the value is complete and well-formed, so that reading it can't
// fail; if it does, that is a fault as any other.
type checker struct {
	lenient bool
	in      *jsontext.Decoder
	faults  []Fault
	out     jsontext.Value
	enc     *jsontext.Encoder
	broken  error
}

func (c *checker) read(k Kind, raw string) {
	var out bytes.Buffer
	c.in, c.enc = decoder(raw), jsontext.NewEncoder(&out, jsontext.AllowDuplicateNames(true))
	s := shapeOf(k)
	c.value(&s, "")
	c.out = bytes.TrimSpace(out.Bytes())
	if c.broken != nil {
		c.fault("", "malformed", c.broken.Error())
	}
}

func (c *checker) fault(at jsontext.Pointer, code, message string) {
	if len(c.faults) < MaxFaults {
		c.faults = append(c.faults, Fault{string(at), code, message})
	}
}

// token reads a token and, unless it is to be dropped, copies it.
func (c *checker) token() jsontext.Token {
	tok, err := c.in.ReadToken()
	if err == nil {
		err = c.enc.WriteToken(tok)
	}
	c.note(err)
	return tok
}

// note keeps the first error; the walk ends with it.
func (c *checker) note(err error) {
	if c.broken == nil {
		c.broken = err
	}
}

func (c *checker) more(end jsontext.Kind) bool { return c.broken == nil && c.in.PeekKind() != end }

func (c *checker) value(s *shape, at jsontext.Pointer) {
	if c.in.PeekKind() != s.kind {
		c.fault(at, "type", "want "+named(s.kind))
		c.drop("null")
		return
	}
	switch s.kind {
	case '{':
		c.object(s, at)
	case '[':
		c.array(s, at)
	case '"':
		c.text(s, at, c.token().String())
	default:
		c.number(s, at, c.token().String())
	}
}

// drop reads a value and copies another one in its place, if any.
func (c *checker) drop(instead string) {
	c.note(c.in.SkipValue())
	if instead != "" {
		c.note(c.enc.WriteValue(jsontext.Value(instead)))
	}
}

func (c *checker) array(s *shape, at jsontext.Pointer) {
	c.token()
	n := 0
	for ; c.more(']'); n++ {
		c.value(s.elements, at.AppendToken(strconv.Itoa(n)))
	}
	c.token()
	c.size(s, at, n, "elements")
}

func (c *checker) object(s *shape, at jsontext.Pointer) {
	c.token()
	seen := make(map[string]bool, len(s.members))
	for c.more('}') {
		tok, err := c.in.ReadToken()
		c.note(err)
		c.member(s, at, tok.String(), seen)
	}
	c.token()
	for _, m := range s.members {
		if m.required && !seen[m.name] {
			c.fault(at.AppendToken(m.name), "required", "the member is missing")
		}
	}
}

// member checks one member whose name has been read.
func (c *checker) member(s *shape, at jsontext.Pointer, name string, seen map[string]bool) {
	here := at.AppendToken(short(name))
	i := slices.IndexFunc(s.members, func(m member) bool { return m.name == name })
	switch {
	case i >= 0 && seen[name]:
		c.fault(here, "duplicate", "the member stands twice")
	case i >= 0:
		seen[name] = true
		c.note(c.enc.WriteToken(jsontext.String(name)))
		c.value(&s.members[i].shape, here)
		return
	case c.almost(s, name):
		// A reader that ignores case would take it, so that lenient is no reason
		// to drop it.
		c.fault(here, "unknown", "there is no such member; names are in lower case")
	case !c.lenient:
		c.fault(here, "unknown", "there is no such member")
	}
	c.drop("")
}

// almost reports whether a name differs from a member's in case only.
func (c *checker) almost(s *shape, name string) bool {
	return slices.ContainsFunc(s.members, func(m member) bool { return strings.EqualFold(m.name, name) })
}

func (c *checker) text(s *shape, at jsontext.Pointer, v string) {
	if s.oneOf == nil {
		c.size(s, at, utf8.RuneCountInString(v), "characters")
	} else if !slices.Contains(s.oneOf, v) {
		c.fault(at, "not_allowed", "want one of "+strings.Join(s.oneOf, ", "))
	}
}

func (c *checker) size(s *shape, at jsontext.Pointer, n int, of string) {
	switch {
	case n < s.min:
		c.fault(at, "too_short", fmt.Sprintf("want at least %d %s", s.min, of))
	case n > s.max:
		c.fault(at, "too_long", fmt.Sprintf("want at most %d %s", s.max, of))
	}
}

func (c *checker) number(s *shape, at jsontext.Pointer, v string) {
	f, err := strconv.ParseFloat(v, 64)
	switch {
	case s.whole && !isWhole(v):
		c.fault(at, "type", "want a whole number, written without fraction and exponent")
	case s.whole && (err != nil || f < float64(s.min) || f > float64(s.max)):
		c.fault(at, "out_of_range", fmt.Sprintf("want %d to %d", s.min, s.max))
	case !s.whole && (err != nil || f < 0 || f > 1):
		c.fault(at, "out_of_range", "want 0 to 1")
	}
}

func isWhole(v string) bool { return !strings.ContainsAny(v, ".eE") }

// decode makes the typed answer of a value that was checked.
func decode(kind Kind, raw jsontext.Value) (*Answer, error) {
	a := &Answer{Kind: kind, JSON: raw}
	var err error
	switch kind {
	case KindSynthesis:
		err = json.Unmarshal(raw, &a.Synthesis)
	case KindPatterns:
		err = json.Unmarshal(raw, &a.Patterns)
	default:
		err = json.Unmarshal(raw, &a.Consensus)
	}
	if err != nil {
		return nil, errors.Join(invalid(kind, "malformed", "the value can't be read"), err)
	}
	return a, nil
}

package spec

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/apierr"
)

// MaxFaults bounds the faults that one check collects.
const MaxFaults = 100

// maxValues bounds the values that one body may hold, whatever its size: a
// deep or wide body is refused as malformed.
const maxValues = 10_000

// maxName bounds the bytes of an unknown name that a fault repeats.
const maxName = 128

// ErrMalformed is the error of a body that is not one JSON value in UTF-8.
var ErrMalformed = errors.New("the body is not one JSON value in UTF-8")

// CheckJSON checks a body. The faults are all that it found, in the order of
// the body, then those of members that are missing; at most MaxFaults. The
// error is ErrMalformed.
func (s *Schema) CheckJSON(body []byte) ([]apierr.Field, error) {
	if err := wellFormed(body); err != nil {
		return nil, err
	}
	c := checker{in: jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true))}
	c.value(s, "")
	if c.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, c.err)
	}
	return c.faults, nil
}

// wellFormed reads the body once without looking into it, so that a fault of
// grammar is found before any fault of meaning.
func wellFormed(body []byte) error {
	in := jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true))
	for n := 0; ; n++ {
		if n > maxValues {
			return fmt.Errorf("%w: over %d values", ErrMalformed, maxValues)
		}
		if _, err := in.ReadToken(); err != nil {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if in.StackDepth() == 0 {
			break
		}
	}
	if in.PeekKind() != 0 || len(bytes.TrimLeft(body[in.InputOffset():], " \t\r\n")) > 0 {
		return fmt.Errorf("%w: more follows the value", ErrMalformed)
	}
	return nil
}

// checker walks one body.
// INVARIANT: the body is well-formed, so reading fails only by a defect; err
// keeps that, and the walk ends.
type checker struct {
	in     *jsontext.Decoder
	faults []apierr.Field
	err    error
}

func (c *checker) fault(at jsontext.Pointer, code, message string) {
	if len(c.faults) < MaxFaults {
		c.faults = append(c.faults, apierr.Field{Pointer: string(at), Code: code, Message: message})
	}
}

func (c *checker) value(s *Schema, at jsontext.Pointer) {
	if want := kindOf(s.kind); !slices.Contains(want, c.in.PeekKind()) {
		c.fault(at, "type", "want "+article(s.kind))
		c.skip()
		return
	}
	switch s.kind {
	case Object:
		c.object(s, at)
		return
	case Array:
		c.array(s, at)
		return
	}
	tok, err := c.in.ReadToken()
	if err != nil {
		c.err = err
		return
	}
	if code, message := s.CheckText(tok.String()); code != "" {
		c.fault(at, code, message)
	}
}

func (c *checker) skip() {
	if err := c.in.SkipValue(); err != nil {
		c.err = err
	}
}

func (c *checker) array(s *Schema, at jsontext.Pointer) {
	c.skipDelimiter()
	n := 0
	for ; c.err == nil && c.in.PeekKind() != ']'; n++ {
		c.value(s.items, at.AppendToken(strconv.Itoa(n)))
	}
	c.skipDelimiter()
	if n > s.maxItems {
		c.fault(at, "too_many", fmt.Sprintf("want at most %d", s.maxItems))
	}
}

func (c *checker) object(s *Schema, at jsontext.Pointer) {
	c.skipDelimiter()
	seen := make(map[string]bool, len(s.properties))
	for c.err == nil && c.in.PeekKind() != '}' {
		tok, err := c.in.ReadToken()
		if err != nil {
			c.err = err
			return
		}
		c.member(s, at, tok.String(), seen)
	}
	c.skipDelimiter()
	c.missing(s, at, seen)
}

// member checks one member. A name that stands twice is a fault whatever its
// values are: readers differ in which one counts.
func (c *checker) member(s *Schema, at jsontext.Pointer, name string, seen map[string]bool) {
	here := at.AppendToken(short(name))
	p := s.properties[name]
	var code, message string
	if p == nil && s.others != nil {
		p = s.others
		code, message = s.otherNames.textFault(name)
	}
	switch {
	case p == nil:
		c.fault(here, "unknown", "there is no such member")
		c.skip()
	case seen[name]:
		c.fault(here, "duplicate", "the member stands twice")
		c.skip()
	case code != "":
		seen[name] = true
		c.fault(here, code, "the name: "+message)
		c.skip()
	default:
		seen[name] = true
		c.value(p, here)
	}
}

// short cuts a name that a caller chose, at a character.
func short(name string) string {
	if len(name) <= maxName {
		return name
	}
	return strings.ToValidUTF8(name[:maxName], "")
}

func (c *checker) missing(s *Schema, at jsontext.Pointer, seen map[string]bool) {
	for _, name := range s.required {
		if !seen[name] {
			c.fault(at.AppendToken(name), "required", "the member is missing")
		}
	}
	if len(seen) < s.minProperties {
		c.fault(at, "too_few", strings.TrimSuffix(fmt.Sprintf("want at least %d of %s", s.minProperties, strings.Join(s.names(), ", ")), " of "))
	}
	if s.others != nil && len(seen) > s.maxProperties {
		c.fault(at, "too_many", fmt.Sprintf("want at most %d", s.maxProperties))
	}
}

func (c *checker) skipDelimiter() {
	if c.err != nil {
		return
	}
	_, c.err = c.in.ReadToken()
}

func (s *Schema) names() []string {
	names := make([]string, 0, len(s.properties))
	for name := range s.properties {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// textFault is the first thing wrong with a string.
func (s *Schema) textFault(v string) (code, message string) {
	n := utf8.RuneCountInString(v)
	switch {
	case s.enum != nil && !slices.Contains(s.enum, v):
		return "not_allowed", "want one of " + strings.Join(s.enum, ", ")
	case n < s.minLength:
		return "too_short", fmt.Sprintf("want at least %d characters", s.minLength)
	case s.maxLength >= 0 && n > s.maxLength:
		return "too_long", fmt.Sprintf("want at most %d characters", s.maxLength)
	case s.pattern != nil && !s.pattern.MatchString(v):
		return "pattern", "want text of the form " + s.pattern.String()
	}
	return "", ""
}

// CheckText checks a plain value: a string, true or false, or an integer in plain
// decimal, which is what all readers of it take. It returns the code and message of a fault, "" where there is none.
func (s *Schema) CheckText(v string) (code, message string) {
	switch s.kind {
	case String:
		return s.textFault(v)
	case Boolean:
		if v != "true" && v != "false" {
			return "type", "want true or false"
		}
		return "", ""
	}
	n, err := strconv.ParseInt(v, 10, 64)
	switch {
	case err != nil || strconv.FormatInt(n, 10) != v:
		return "type", "want " + article(s.kind)
	case n < s.minimum:
		return "too_small", fmt.Sprintf("want at least %d", s.minimum)
	case n > s.maximum:
		return "too_large", fmt.Sprintf("want at most %d", s.maximum)
	}
	return "", ""
}

func kindOf(k Kind) []jsontext.Kind {
	switch k {
	case Object:
		return []jsontext.Kind{'{'}
	case String:
		return []jsontext.Kind{'"'}
	case Integer:
		return []jsontext.Kind{'0'}
	case Array:
		return []jsontext.Kind{'['}
	}
	return []jsontext.Kind{'t', 'f'}
}

func article(k Kind) string {
	if k == Object || k == Integer || k == Array {
		return "an " + string(k)
	}
	return "a " + string(k)
}

// CheckQuery checks all members of a query. One that stands twice is a fault:
// readers differ in which one counts.
func (o *Operation) CheckQuery(query url.Values) []apierr.Field {
	var faults []apierr.Field
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if f, bad := o.queryFault(name, query[name]); bad && len(faults) < MaxFaults {
			faults = append(faults, f)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.InQuery)) {
		if o.InQuery[name].Required && len(query[name]) == 0 {
			faults = append(faults, apierr.Field{Pointer: queryPointer(name), Code: "required", Message: "the parameter is missing"})
		}
	}
	return faults
}

func (o *Operation) queryFault(name string, values []string) (apierr.Field, bool) {
	f := apierr.Field{Pointer: queryPointer(short(name))}
	p := o.InQuery[name]
	switch {
	case p == nil:
		f.Code, f.Message = "unknown", "there is no such parameter"
	case len(values) > 1:
		f.Code, f.Message = "duplicate", "the parameter stands twice"
	default:
		f.Code, f.Message = p.Schema.CheckText(values[0])
	}
	return f, f.Code != ""
}

func queryPointer(name string) string {
	return string(jsontext.Pointer("/query").AppendToken(name))
}

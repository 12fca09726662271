package token

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Bounds of every JSON text that is read here.
const (
	maxDepth         = 8    // nested objects and arrays, the outermost included
	maxTokenElements = 1024 // names, values and delimiters in one part of a token
	maxSetElements   = 8192 // the same in a key set
)

// The kinds of JSON values that are told apart.
const (
	kindObject = jsontext.Kind('{')
	kindArray  = jsontext.Kind('[')
	kindString = jsontext.Kind('"')
	kindNumber = jsontext.Kind('0')
)

// value is a JSON value as it was written.
type value struct {
	kind    jsontext.Kind
	text    string   // of a string: unescaped; of a number: as written
	items   []value  // of an array
	members []member // of an object, names distinct
}

type member struct {
	name  string
	value value
}

// get returns the member of exactly that name.
func (v value) get(name string) (value, bool) {
	for _, m := range v.members {
		if m.name == name {
			return m.value, true
		}
	}
	return value{}, false
}

// lookalike returns a member that a less careful reader takes for one of the
// known names: the same letters in another case, by Unicode's simple folding.
func (v value) lookalike(known []string) (string, bool) {
	for _, m := range v.members {
		if !slices.Contains(known, m.name) && slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, m.name) }) {
			return m.name, true
		}
	}
	return "", false
}

// strings returns the elements of an array of strings.
func (v value) strings() ([]string, bool) {
	if v.kind != kindArray {
		return nil, false
	}
	out := make([]string, len(v.items))
	for i, item := range v.items {
		if item.kind != kindString {
			return nil, false
		}
		out[i] = item.text
	}
	return out, true
}

// parseObject reads exactly one JSON object: valid UTF-8, names distinct on
// every level, no byte before or after it, depth and elements bounded.
func parseObject(b []byte, maxElements int) (value, error) {
	if len(b) < 2 || b[0] != '{' || b[len(b)-1] != '}' {
		return value{}, errors.New("not one JSON object")
	}
	// INVARIANT: the decoder's defaults refuse duplicate names and bad UTF-8.
	r := &reader{dec: jsontext.NewDecoder(bytes.NewBuffer(b)), left: maxElements}
	v, err := r.value()
	if err != nil {
		return value{}, err
	}
	if _, err := r.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return value{}, errors.New("data after the JSON object")
	}
	return v, nil
}

type reader struct {
	dec  *jsontext.Decoder
	left int
}

func (r *reader) next() (jsontext.Token, error) {
	if r.left--; r.left < 0 {
		return jsontext.Token{}, errors.New("too many JSON elements")
	}
	t, err := r.dec.ReadToken()
	if err != nil {
		return t, errors.New("malformed JSON") // the decoder's text may quote the input
	}
	if r.dec.StackDepth() > maxDepth {
		return t, errors.New("JSON nested too deep")
	}
	return t, nil
}

func (r *reader) value() (value, error) {
	t, err := r.next()
	if err != nil {
		return value{}, err
	}
	switch t.Kind() {
	case kindObject:
		return r.object()
	case kindArray:
		return r.array()
	case kindString, kindNumber:
		return value{kind: t.Kind(), text: t.String()}, nil
	}
	return value{kind: t.Kind()}, nil
}

func (r *reader) object() (value, error) {
	v := value{kind: kindObject}
	for r.dec.PeekKind() != '}' {
		name, err := r.next()
		if err != nil {
			return value{}, err
		}
		m := member{name: name.String()}
		if m.value, err = r.value(); err != nil {
			return value{}, err
		}
		v.members = append(v.members, m)
	}
	_, err := r.next()
	return v, err
}

func (r *reader) array() (value, error) {
	v := value{kind: kindArray}
	for r.dec.PeekKind() != ']' {
		item, err := r.value()
		if err != nil {
			return value{}, err
		}
		v.items = append(v.items, item)
	}
	_, err := r.next()
	return v, err
}

// foldedApart reports an error if two different names look alike, since one of
// them would then always be refused as the other's look-alike.
func foldedApart(names []string) error {
	for i, a := range names {
		for _, b := range names[i+1:] {
			if a != b && strings.EqualFold(a, b) {
				return fmt.Errorf("claim names %q and %q differ only in case", a, b)
			}
		}
	}
	return nil
}

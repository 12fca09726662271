package policies

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/open-policy-agent/opa/v1/ast"
)

// maxNumberBytes bounds one number's text. Arithmetic on a longer one costs
// more than its bytes, as big integers do.
const maxNumberBytes = 64

var (
	errDepth    = errors.New("nested too deep")
	errNumber   = errors.New("a number is too large")
	errTrailing = errors.New("more than one JSON value")
)

// jsonReader builds Rego terms from JSON text without a tree in between.
type jsonReader struct {
	dec   *jsontext.Decoder
	depth int // levels that may still be opened
}

// value reads the next value.
func (r *jsonReader) value() (*ast.Term, error) {
	tok, err := r.dec.ReadToken()
	if err != nil {
		return nil, fmt.Errorf("not valid JSON: %w", err)
	}
	switch tok.Kind() {
	case '{', '[':
		return r.nested(tok.Kind())
	case '"':
		return ast.StringTerm(tok.String()), nil
	case '0':
		return number(tok.String())
	case 't', 'f':
		return ast.InternedTerm(tok.Bool()), nil
	default: // the decoder refuses a stray end, so only null is left
		return ast.NullTerm(), nil
	}
}

func (r *jsonReader) nested(kind jsontext.Kind) (*ast.Term, error) {
	if r.depth == 0 {
		return nil, errDepth
	}
	r.depth--
	defer func() { r.depth++ }()
	if kind == '{' {
		return r.object()
	}
	return r.array()
}

// object reads up to the closing brace. INVARIANT: the decoder refuses
// duplicate names, so no Insert replaces a value.
func (r *jsonReader) object() (*ast.Term, error) {
	obj := ast.NewObject()
	for r.dec.PeekKind() != '}' {
		name, err := r.value()
		if err != nil {
			return nil, err
		}
		value, err := r.value()
		if err != nil {
			return nil, err
		}
		obj.Insert(name, value)
	}
	_, err := r.dec.ReadToken()
	return ast.NewTerm(obj), err
}

func (r *jsonReader) array() (*ast.Term, error) {
	var elems []*ast.Term
	for r.dec.PeekKind() != ']' {
		elem, err := r.value()
		if err != nil {
			return nil, err
		}
		elems = append(elems, elem)
	}
	_, err := r.dec.ReadToken()
	return ast.ArrayTerm(elems...), err
}

// end says that nothing but white space may follow.
func (r *jsonReader) end() error {
	if _, err := r.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return errTrailing
	}
	return nil
}

// number keeps the digits as they were sent.
func number(text string) (*ast.Term, error) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) || len(text) > maxNumberBytes {
		return nil, errNumber
	}
	return ast.NumberTerm(json.Number(text)), nil
}

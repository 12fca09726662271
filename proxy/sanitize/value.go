package sanitize

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

var (
	errNoValue  = errors.New("no value")
	errTooMany  = fmt.Errorf("there are over %d tokens in the value", maxValues)
	errOpenings = fmt.Errorf("there are over %d braces and brackets before a complete value", maxOpenings)
)

// firstValue finds the first complete object or array in a text. What only
// begins like one, as {name} does in prose, is passed over.
//
// It reads at most maxOpenings times maxValues tokens.
func firstValue(text string) (string, error) {
	at := 0
	for range maxOpenings {
		i := strings.IndexAny(text[at:], "{[")
		if i < 0 {
			return "", errNoValue
		}
		at += i
		n, err := valueLength(text[at:])
		if err == nil || errors.Is(err, errTooMany) {
			return text[at : at+n], err
		}
		at++
	}
	return "", errOpenings
}

// valueLength is the length of the JSON value that a text begins with. Names
// may stand twice in it: that is a fault of the value, not of the text.
func valueLength(text string) (int, error) {
	in := decoder(text)
	for range maxValues {
		if _, err := in.ReadToken(); err != nil {
			return 0, err
		}
		if in.StackDepth() == 0 {
			return int(in.InputOffset()), nil
		}
	}
	return 0, errTooMany
}

func decoder(text string) *jsontext.Decoder {
	return jsontext.NewDecoder(strings.NewReader(text), jsontext.AllowDuplicateNames(true))
}

// shape is what a value must be.
type shape struct {
	kind     jsontext.Kind // of the value
	members  []member      // of an object
	elements *shape        // of an array
	min, max int           // characters of a string, elements of an array, values of a whole number
	oneOf    []string      // a string is one of these
	whole    bool          // a number has no fraction; others are from 0 to 1
}

type member struct {
	name     string
	shape    shape
	required bool
}

func characters(min, max int) shape    { return shape{kind: '"', min: min, max: max} }
func oneOf(names ...string) shape      { return shape{kind: '"', oneOf: names} }
func integer(min, max int) shape       { return shape{kind: '0', min: min, max: max, whole: true} }
func share() shape                     { return shape{kind: '0'} }
func list(min, max int, e shape) shape { return shape{kind: '[', min: min, max: max, elements: &e} }
func object(members ...member) shape   { return shape{kind: '{', members: members} }

func required(name string, s shape) member { return member{name, s, true} }
func optional(name string, s shape) member { return member{name, s, false} }

// shapeOf is the shape of a kind.
func shapeOf(k Kind) shape {
	switch k {
	case KindSynthesis:
		return object(
			required("synthesis_reasoning", characters(1, 2000)),
			required("action_plan", list(1, 50, object(
				required("priority", integer(1, 100)),
				required("type", oneOf("fix", "improve", "refactor", "test")),
				required("issue", characters(1, 1000)),
				required("agent", characters(1, 100)),
			))),
		)
	case KindPatterns:
		return list(0, 20, object(
			required("pattern_type", oneOf("skill_gap", "agent_conflict", "process_issue")),
			required("root_cause", characters(0, 500)),
			required("suggested_fix", characters(0, 1000)),
			optional("agents_involved", list(0, 10, characters(0, MaxAnswer))),
			optional("confidence", share()),
		))
	default:
		return object(
			required("decision", oneOf("approve", "reject", "conditional")),
			required("confidence", share()),
			required("reasoning", characters(0, 2000)),
			optional("concerns", list(0, 10, characters(0, 500))),
		)
	}
}

// named is what a kind of value is called in a fault.
func named(k jsontext.Kind) string {
	switch k {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	}
	return "a number"
}

// short cuts a name that an answer chose, at a character.
func short(name string) string {
	if len(name) <= maxName {
		return name
	}
	for n := maxName; ; n-- {
		if utf8.RuneStart(name[n]) {
			return name[:n]
		}
	}
}

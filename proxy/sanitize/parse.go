package sanitize

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Kind is one of the structures that agents answer with.
type Kind uint8

// The kinds.
const (
	KindSynthesis Kind = iota
	KindPatterns
	KindConsensus
	numKinds
)

func kindNames() []string { return []string{"synthesis", "patterns", "consensus"} }

// String is the name in configuration and in the API.
func (k Kind) String() string { return kindNames()[k] }

// ParseKind reads a kind's name.
func ParseKind(name string) (Kind, error) {
	i, err := parseName("parser", name, kindNames())
	return Kind(i), err
}

// Bounds of what is parsed.
const (
	MaxAnswer   = 64 << 10 // bytes of a text that is parsed
	MaxFaults   = 100      // faults that are reported of one answer
	maxValues   = 10_000   // tokens within one answer, whatever its size
	maxName     = 128      // bytes of an unknown name that a fault repeats
	maxOpenings = 64       // places where the value is looked for
)

// Options say how an answer is read.
type Options struct {
	// Lenient drops members that are not known, which are faults otherwise.
	Lenient bool
}

// Fault is one thing that is wrong with an answer.
type Fault struct {
	Pointer string `json:"pointer"` // JSON pointer (RFC 6901) of the value, "" for the whole
	Code    string `json:"code"`
	Message string `json:"message"`
}

// InvalidError is the error of an answer that is not of its kind. It holds all
// faults, in the order of the answer, at most MaxFaults.
type InvalidError struct {
	Kind   Kind
	Faults []Fault
}

// Error says the faults, one a line.
func (e *InvalidError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "not a valid %s:", e.Kind)
	for _, f := range e.Faults {
		fmt.Fprintf(&b, "\n%q: %s (%s)", f.Pointer, f.Message, f.Code)
	}
	return b.String()
}

// Synthesis is an answer of KindSynthesis. Lengths are in characters.
type Synthesis struct {
	Reasoning  string         `json:"synthesis_reasoning"` // 1 to 2000
	ActionPlan []PlannedIssue `json:"action_plan"`         // 1 to 50
}

// PlannedIssue is a step of a Synthesis.
type PlannedIssue struct {
	Priority int    `json:"priority"` // 1 to 100
	Type     string `json:"type"`     // fix, improve, refactor or test
	Issue    string `json:"issue"`    // 1 to 1000
	Agent    string `json:"agent"`    // 1 to 100
}

// Pattern is an element of an answer of KindPatterns, which has up to 20.
type Pattern struct {
	Type       string   `json:"pattern_type"`              // skill_gap, agent_conflict or process_issue
	RootCause  string   `json:"root_cause"`                // up to 500
	Fix        string   `json:"suggested_fix"`             // up to 1000
	Agents     []string `json:"agents_involved,omitempty"` // up to 10
	Confidence *float64 `json:"confidence,omitempty"`      // 0 to 1
}

// Consensus is an answer of KindConsensus.
type Consensus struct {
	Decision   string   `json:"decision"`           // approve, reject or conditional
	Confidence float64  `json:"confidence"`         // 0 to 1
	Reasoning  string   `json:"reasoning"`          // up to 2000
	Concerns   []string `json:"concerns,omitempty"` // up to 10, each up to 500
}

// Answer is a parsed answer: the member of its kind is set, and JSON is its
// text as it stands, without members that were dropped.
type Answer struct {
	Kind      Kind
	Synthesis *Synthesis
	Patterns  []Pattern
	Consensus *Consensus
	JSON      jsontext.Value
}

// Parse reads the first complete JSON value that begins with a brace or a
// bracket in text, which may stand in a fence or in prose, and checks that it is
// of its kind. The error is an *InvalidError.
//
// Names are read as they are written: one that stands twice, or in another
// case, is a fault (RFC 8259, 4 leaves it open which one counts).
func Parse(kind Kind, text string, o Options) (*Answer, error) {
	if kind >= numKinds {
		return nil, fmt.Errorf("parser %d is unknown", kind)
	}
	if len(text) > MaxAnswer {
		return nil, invalid(kind, "too_long", fmt.Sprintf("want at most %d bytes", MaxAnswer))
	}
	raw, err := firstValue(text)
	switch {
	case errors.Is(err, errNoValue):
		return nil, invalid(kind, "no_json", "there is no complete JSON value in the text")
	case err != nil:
		return nil, invalid(kind, "malformed", err.Error())
	}
	c := &checker{lenient: o.Lenient}
	c.read(kind, raw)
	if len(c.faults) > 0 {
		return nil, &InvalidError{Kind: kind, Faults: c.faults}
	}
	return decode(kind, c.out)
}

func invalid(kind Kind, code, message string) error {
	return &InvalidError{Kind: kind, Faults: []Fault{{Code: code, Message: message}}}
}

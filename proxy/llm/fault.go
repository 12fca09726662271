package llm

import "strings"

// Kind says what is wrong with a document.
type Kind uint8

// The kinds of Error.
const (
	Malformed Kind = iota + 1 // not JSON as we accept it: 400, or 502 for an answer
	Invalid                   // JSON, but fields are wrong: 422, or 502 for an answer
	TooLarge                  // over a limit of this package: 413
)

// maxFaults bounds the faults that one Error carries.
const maxFaults = 64

// Fault is one thing that is wrong at one place.
type Fault struct {
	Pointer string // RFC 6901, "" for the whole document
	Code    string // syntax, duplicate, ambiguous, type, range, required, too_large, too_deep, too_many
	Message string // a sentence for the caller; never repeats values
}

// Error is why a document was refused. Its text is safe to show, since it
// repeats names and positions only, never values.
type Error struct {
	Kind   Kind
	Faults []Fault // at least one
}

func (e *Error) Error() string {
	parts := make([]string, 0, len(e.Faults))
	for _, f := range e.Faults {
		parts = append(parts, strings.TrimSpace(f.Pointer+" "+f.Message))
	}
	return strings.Join(parts, " ")
}

// refuse makes an Error of one fault.
func refuse(kind Kind, f Fault) *Error { return &Error{Kind: kind, Faults: []Fault{f}} }

// faults collects what is wrong, so that all of it is said at once.
type faults struct{ list []Fault }

func (f *faults) add(e elem, code, message string) {
	if len(f.list) < maxFaults {
		f.list = append(f.list, Fault{Pointer: e.pointer(), Code: code, Message: message})
	}
}

func (f *faults) err() error {
	if len(f.list) == 0 {
		return nil
	}
	return &Error{Kind: Invalid, Faults: f.list}
}

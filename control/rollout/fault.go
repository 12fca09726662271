package rollout

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"gatehouse/internal/apierr"
	"gatehouse/internal/config"
	"gatehouse/policies"
)

// Code says what kind of thing is wrong with the content of a policy set.
type Code string

// The codes of faults.
const (
	ConfigInvalid Code = "config_invalid" // gatehouse.yaml, or a file that has no place in a set
	RegoInvalid   Code = "rego_invalid"   // Rego or data.json
	TestFailed    Code = "test_failed"    // a test of the set's own
	TooLarge      Code = "too_large"
)

// Bounds of what one answer says.
const (
	maxFaults       = 100
	maxMessageBytes = 1000
)

// Fault is one thing wrong with a policy set. File is "" where it is the set as
// a whole; Line and Col count from 1 and are 0 where there is no place.
type Fault struct {
	File    string
	Line    int
	Col     int
	Code    Code
	Message string
}

// String is the fault as file:line:col: message, as far as there is a place.
func (f Fault) String() string {
	switch {
	case f.File == "":
		return f.Message
	case f.Line == 0:
		return f.File + ": " + f.Message
	case f.Col == 0:
		return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Col, f.Message)
}

// field is the fault in the API's words: where it is in the request (RFC 6901),
// and in a form that tools for text can follow.
func (f Fault) field() apierr.Field {
	pointer := "/files"
	if f.File != "" {
		pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(f.File)
	}
	return apierr.Field{Pointer: pointer, Code: string(f.Code), Message: cut(f.String(), maxMessageBytes)}
}

// fieldsOf turns faults into fields behind those that there are, maxFaults in
// all. Where some are left out, the last says how many.
func fieldsOf(fields []apierr.Field, faults []Fault) []apierr.Field {
	left := len(fields) + len(faults) - maxFaults
	for _, f := range faults {
		if len(fields) == maxFaults {
			break
		}
		fields = append(fields, f.field())
	}
	if left > 0 {
		last := &fields[maxFaults-1]
		last.Pointer, last.Message = "/files", fmt.Sprintf("and %d more", left+1)
	}
	return fields
}

// cut shortens a text to max bytes, between characters.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max]
}

func configFaults(list config.Faults) (faults []Fault) {
	for _, f := range list {
		faults = append(faults, Fault{f.File, f.Line, f.Col, ConfigInvalid, f.Message})
	}
	return faults
}

func regoFaults(list policies.Faults) (faults []Fault) {
	for _, f := range list {
		faults = append(faults, Fault{f.File, f.Line, f.Col, RegoInvalid, f.Message})
	}
	return faults
}

// testFaults are the tests that did not pass, by their full names.
func testFaults(report policies.Report) (faults []Fault) {
	for _, r := range report.Results {
		if !r.Passed && !r.Skipped {
			faults = append(faults, Fault{File: r.File, Line: r.Line, Code: TestFailed, Message: r.Name + ": " + r.Message})
		}
	}
	return faults
}

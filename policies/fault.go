package policies

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxFaults bounds how many faults one compilation reports.
const maxFaults = 100

// Fault is one thing wrong with a policy set. Line and Col count from 1; they
// are 0 where the fault has no place in a file, and File is "" then, too.
type Fault struct {
	File    string
	Line    int
	Col     int
	Message string
}

// Error returns the fault as file:line:col: message.
func (f Fault) Error() string {
	switch {
	case f.File == "":
		return f.Message
	case f.Line == 0:
		return fmt.Sprintf("%s: %s", f.File, f.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Col, f.Message)
}

// Faults is the error of [Compile] and [Test]: all faults found, in the order
// of files and lines. It is never empty.
type Faults []Fault

// Error returns one fault a line.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// faultsOrNil returns faults sorted, bounded and as an error, or nil if there
// are none.
func faultsOrNil(faults []Fault) error {
	if len(faults) == 0 {
		return nil
	}
	slices.SortStableFunc(faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return Faults(slices.Compact(faults[:min(len(faults), maxFaults)]))
}

// faultAt is a fault at a place in a Rego file.
func faultAt(loc *ast.Location, format string, args ...any) Fault {
	f := Fault{Message: fmt.Sprintf(format, args...)}
	if loc != nil {
		f.File, f.Line, f.Col = loc.File, loc.Row, loc.Col
	}
	return f
}

// faultsOf turns OPA's error into faults; file is for errors without a place.
func faultsOf(file string, err error) []Fault {
	list, ok := errors.AsType[ast.Errors](err)
	if !ok {
		return []Fault{{File: file, Message: err.Error()}}
	}
	faults := make([]Fault, 0, len(list))
	for _, e := range list {
		f := faultAt(e.Location, "%s", e.Message)
		f.File = cmp.Or(f.File, file)
		faults = append(faults, f)
	}
	return faults
}

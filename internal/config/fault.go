package config

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// maxFaults is how many faults one run reports.
	maxFaults = 100
	// maxCollected is how many faults are kept before they are sorted; what
	// is found after that is only counted.
	maxCollected = 10_000
	// maxQuoted is how many bytes of the user's text a message repeats.
	maxQuoted = 60
)

// Fault is one thing wrong with a file. Line and Col count from 1; both are 0
// for configuration that was not read from a file.
type Fault struct {
	File    string
	Line    int
	Col     int
	Message string
}

// String returns "file:line:col: message".
func (f Fault) String() string {
	if f.Line == 0 {
		return f.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Col, f.Message)
}

// Faults is every fault of a run, sorted by position. It has at most 100
// entries and one more that says how many were left out.
type Faults []Fault

// Error returns one line per fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// place is a position in a file; the zero place is no position.
type place struct{ line, col int }

// report collects the faults of one file.
type report struct {
	file   string
	widths []int // characters of each line; nil if there is no text
	faults Faults
	total  int
}

// newReport starts a report about a text.
func newReport(file string, data []byte) *report {
	r := &report{file: file}
	if len(data) > maxDocument {
		return r // refused as a whole
	}
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		r.widths = append(r.widths, utf8.RuneCount(line))
	}
	return r
}

// within moves a position into the text: the parser puts a value that is only
// implied, and an unexpected end, behind what it has read.
func (r *report) within(at place) place {
	if r.widths == nil {
		return at
	}
	line := min(max(at.line, 1), len(r.widths))
	return place{line, min(max(at.col, 1), r.widths[line-1]+1)}
}

// add records a fault of what stands at path ("" is the whole document).
func (r *report) add(at place, path, format string, args ...any) {
	r.total++
	if len(r.faults) >= maxCollected {
		return
	}
	at = r.within(at)
	message := fmt.Sprintf(format, args...)
	if path != "" {
		message = path + ": " + message
	}
	r.faults = append(r.faults, Fault{File: r.file, Line: at.line, Col: at.col, Message: message})
}

// err returns the faults as Faults, or nil when there are none.
func (r *report) err() error {
	if r.total == 0 {
		return nil
	}
	slices.SortStableFunc(r.faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	if r.total <= maxFaults {
		return r.faults
	}
	last := r.faults[maxFaults]
	last.Message = fmt.Sprintf("and %d more", r.total-maxFaults)
	return append(r.faults[:maxFaults:maxFaults], last)
}

// quote repeats a piece of the user's text in a message, cut to a length that
// keeps the message on a line.
func quote(text string) string {
	if len(text) > maxQuoted {
		return fmt.Sprintf("%q...", strings.ToValidUTF8(text[:maxQuoted], ""))
	}
	return fmt.Sprintf("%q", text)
}

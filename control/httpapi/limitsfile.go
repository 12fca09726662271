package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxLimitsFile bounds the bytes of a file of limits.
const maxLimitsFile = 16 << 10

// ParseLimits reads a file of limits: YAML of one level, whose lines are
// "name: number" and comments. What is not there stays as DefaultLimits has it.
// The error joins all faults, by line.
func ParseLimits(text []byte) (Limits, error) {
	l := DefaultLimits()
	if len(text) > maxLimitsFile {
		return Limits{}, fmt.Errorf("a file of %d bytes, want at most %d", len(text), maxLimitsFile)
	}
	into := l.byName()
	seen := map[string]bool{}
	var faults []error
	n := 0
	for line := range bytes.Lines(text) {
		n++
		if err := readLimit(string(line), into, seen); err != nil {
			faults = append(faults, fmt.Errorf("line %d: %w", n, err))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return Limits{}, err
	}
	return l, nil
}

// byName are the limits by their names in a file.
func (l *Limits) byName() map[string]*int {
	return map[string]*int{
		"admin": &l.Admin, "operator": &l.Operator, "developer": &l.Developer, "observer": &l.Observer,
		"anonymous": &l.Anonymous, "probe": &l.Probe, "sessions": &l.Sessions, "failed_logins": &l.FailedLogins,
		"budget_requests": &l.Budget, "breaker_resets": &l.Breaker,
	}
}

// readLimit reads one line. Numbers are in plain decimal: YAML has readings of
// others that surprise.
func readLimit(line string, into map[string]*int, seen map[string]bool) error {
	line = uncommented(line)
	if line == "" {
		return nil
	}
	name, value, ok := strings.Cut(line, ":")
	value = strings.TrimLeft(value, " ")
	to := into[name]
	switch {
	case !ok:
		return fmt.Errorf("%.64q is not of the form name: number", line)
	case to == nil:
		return fmt.Errorf("there is no limit %.64q", name)
	case seen[name]:
		return fmt.Errorf("%s stands twice", name)
	}
	seen[name] = true
	v, err := strconv.Atoi(value)
	if err != nil || strconv.Itoa(v) != value || v < 1 || v > maxLimit || !strings.HasPrefix(line, name+": ") {
		return fmt.Errorf("%s is %.64q, want a number of 1 to %d", name, value, maxLimit)
	}
	*to = v
	return nil
}

// uncommented takes off a comment, which stands at the beginning or behind
// white space, and the white space at the end.
func uncommented(line string) string {
	text, _, _ := strings.Cut(" "+line, " #")
	return strings.TrimRight(strings.TrimPrefix(text, " "), " \t\r\n")
}

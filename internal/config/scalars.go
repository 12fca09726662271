package config

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// maxFilePath is the longest path of a file in bytes.
const maxFilePath = 1024

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)

var (
	namePattern       = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	permissionPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$`)
	methodPattern     = regexp.MustCompile(`^[A-Z][A-Z_-]{0,31}$`)
	envPattern        = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	ratePattern       = regexp.MustCompile(`^([1-9][0-9]{0,8})/([a-z]+)$`)
	sizePattern       = regexp.MustCompile(`^(0|[1-9][0-9]{0,11})([KMG]iB)$`)
)

// keep makes a check of a text into a parser that returns the text.
func keep(check func(string) error) func(string) (string, error) {
	return func(s string) (string, error) { return s, check(s) }
}

// oneOf checks that a text is one of a fixed set.
func oneOf(values ...string) func(string) error {
	return func(s string) error {
		if slices.Contains(values, s) {
			return nil
		}
		return fmt.Errorf("%s is not one of %s", quote(s), strings.Join(values, ", "))
	}
}

// checkName checks the name of an issuer, upstream, limit, route or credential.
func checkName(s string) error {
	if !namePattern.MatchString(s) {
		return fmt.Errorf("%s is not a name: a-z, 0-9, _ and -, at most 63, the first no _ or -", quote(s))
	}
	return nil
}

// checkWord checks a value that travels in headers and tokens: printable
// ASCII without spaces, at most 255 bytes.
func checkWord(s string) error {
	if len(s) > 255 || !allIn(s, '!', '~') {
		return errors.New("must be printable ASCII without spaces, at most 255 bytes")
	}
	return nil
}

// allIn reports whether all bytes of s lie between two bytes, both included.
func allIn(s string, low, high byte) bool {
	for i := range len(s) {
		if s[i] < low || s[i] > high {
			return false
		}
	}
	return true
}

// checkFile checks the path of a file on the sidecar's machine. Spaces are
// refused too: the parser takes {a: /x b: /y} for one text.
func checkFile(s string) error {
	if len(s) > maxFilePath || !allIn(s, '!', '~') {
		return fmt.Errorf("must be a path in printable ASCII without spaces, at most %d bytes", maxFilePath)
	}
	if !path.IsAbs(s) || path.Clean(s) != s || s == "/" {
		return errors.New("must be an absolute path in its shortest form")
	}
	return nil
}

// checkMethod checks a request method. TRACE and CONNECT are refused on every
// route, so naming them can only be a mistake.
func checkMethod(s string) error {
	if !methodPattern.MatchString(s) {
		return fmt.Errorf("%s is not a method in capitals", quote(s))
	}
	if s == "TRACE" || s == "CONNECT" {
		return fmt.Errorf("%s is refused on every route", s)
	}
	return nil
}

// duration returns a parser of Go durations within a range.
func duration(low, high time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if err != nil || s[0] == '+' || s[0] == '-' {
			return 0, fmt.Errorf("%s is not a duration such as 15s", quote(s))
		}
		if d < low || d > high {
			return 0, fmt.Errorf("must be from %s to %s", short(low), short(high))
		}
		return d, nil
	}
}

// short writes a duration without the zero units that Go's String adds.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// duration returns the duration under a key.
func (o object) duration(key string, missing, low, high time.Duration) time.Duration {
	e, ok := o.fields[key]
	if !ok {
		return missing
	}
	switch e.value.ast.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		o.fault(key, "a duration needs a unit, such as 15s")
		return missing
	}
	return text(o, key, missing, duration(low, high))
}

// size returns the number of bytes under a key: a plain number of bytes, or
// text such as 64KiB.
func (o object) size(key string, missing, low, high int64) int64 {
	e, ok := o.fields[key]
	if !ok {
		return missing
	}
	digits, plain := decimal(e.value.ast)
	if !plain {
		return text(o, key, missing, func(s string) (int64, error) { return parseSize(s, low, high) })
	}
	v, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || v < low || v > high {
		o.fault(key, "must be from %s to %s", sizeText(low), sizeText(high))
		return missing
	}
	return v
}

// parseSize reads "64KiB", "1MiB" and "2GiB".
func parseSize(s string, low, high int64) (int64, error) {
	m := sizePattern.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("%s is not a size: bytes, or a number with KiB, MiB or GiB", quote(s))
	}
	// INVARIANT: twelve digits times 2^30 would overflow, so the count is
	// compared before it is multiplied.
	unit := map[string]int64{"KiB": kib, "MiB": mib, "GiB": gib}[m[2]]
	count, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || count > high/unit || count*unit < low {
		return 0, fmt.Errorf("must be from %s to %s", sizeText(low), sizeText(high))
	}
	return count * unit, nil
}

func sizeText(bytes int64) string {
	switch {
	case bytes >= gib && bytes%gib == 0:
		return fmt.Sprintf("%dGiB", bytes/gib)
	case bytes >= mib && bytes%mib == 0:
		return fmt.Sprintf("%dMiB", bytes/mib)
	case bytes >= kib && bytes%kib == 0:
		return fmt.Sprintf("%dKiB", bytes/kib)
	}
	return fmt.Sprintf("%dB", bytes)
}

// maxRate is the largest count of a rate and the largest burst.
const maxRate = 1_000_000

// parseRate reads "600/min".
func parseRate(s string) (Rate, error) {
	m := ratePattern.FindStringSubmatch(s)
	if m == nil {
		return Rate{}, fmt.Errorf("%s is not a rate such as 600/min", quote(s))
	}
	per, ok := map[string]time.Duration{
		"s": time.Second, "second": time.Second, "min": time.Minute, "minute": time.Minute,
		"h": time.Hour, "hour": time.Hour, "day": 24 * time.Hour,
	}[m[2]]
	if !ok {
		return Rate{}, fmt.Errorf("%s is not one of s, second, min, minute, h, hour, day", quote(m[2]))
	}
	count, err := strconv.Atoi(m[1])
	if err != nil || count > maxRate {
		return Rate{}, fmt.Errorf("the count must be from 1 to %d", maxRate)
	}
	return Rate{Count: count, Per: per}, nil
}

package cli

import (
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"
)

// shortRevision is how much of a revision's id is shown in tables, as much as
// commands need to be given.
const shortRevision = 12

func short(id string) string { return orDash(id[:min(len(id), shortRevision)]) }

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// value is what p points to, or the zero value.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// optional is a pointer to v, or nil for the zero value.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// plain makes text safe to print on a terminal, and one line: names and paths
// are what callers sent, and an escape in one would be obeyed.
func plain(text string) string {
	if utf8.ValidString(text) && !strings.ContainsFunc(text, unprintable) {
		return text
	}
	var b strings.Builder
	for _, c := range text {
		if unprintable(c) {
			quoted := strconv.QuoteRuneToASCII(c)
			b.WriteString(quoted[1 : len(quoted)-1])
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

func unprintable(c rune) bool { return !unicode.IsPrint(c) }

// rows prints a table of items.
func rows[T any](list []T, heads []string, cells func(T) []string) func(io.Writer) error {
	return func(out io.Writer) error {
		w := table(out, heads...)
		for _, item := range list {
			row(w, cells(item)...)
		}
		return w.Flush()
	}
}

// table begins a table; it is printed when it is flushed.
func table(out io.Writer, heads ...string) *tabwriter.Writer {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row(w, heads...)
	return w
}

// row adds a row; what goes wrong with the writer is said by its Flush.
func row(w *tabwriter.Writer, cells ...string) {
	for i, c := range cells {
		if i > 0 {
			_, _ = io.WriteString(w, "\t")
		}
		_, _ = io.WriteString(w, plain(c))
	}
	_, _ = io.WriteString(w, "\n")
}

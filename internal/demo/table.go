package demo

import (
	"fmt"
	"io"
	"strings"
)

// Widths of the columns; what is longer pushes the rest.
const (
	whatWidth     = 35
	answerWidth   = 35
	upstreamWidth = 11
)

// Colors of the marks.
const (
	green = "\x1b[32m"
	red   = "\x1b[31m"
	plain = "\x1b[0m"
)

// table prints rows as they come.
type table struct {
	out   io.Writer
	color bool
}

func (t table) head() {
	t.line("", "#", "tried", "answer", "upstream", "why")
}

func (t table) line(mark, number, what, answer, upstream, why string) {
	text := fmt.Sprintf("%-4s %3s  %-*s %-*s %-*s %s", mark, number, whatWidth, what, answerWidth, answer, upstreamWidth, upstream, why)
	fmt.Fprintln(t.out, t.paint(mark, strings.TrimRight(text, " ")))
}

func (t table) paint(mark, text string) string {
	if !t.color || mark == "" {
		return text
	}
	paint := green
	if mark != "ok" {
		paint = red
	}
	return paint + mark + plain + text[len(mark):]
}

func (t table) row(number int, r row, o outcome) {
	mark := "ok"
	if o.fault != nil {
		mark = "FAIL"
	}
	upstream := "not reached"
	if o.reached > 0 {
		upstream = "reached"
	}
	why := r.why
	if o.note != "" {
		why += " (" + o.note + ")"
	}
	t.line(mark, fmt.Sprint(number), r.what, o.answer.String(), upstream, why)
	if o.fault != nil {
		fmt.Fprintln(t.out, "          "+strings.ReplaceAll(o.fault.Error(), "\n", "\n          "))
	}
}

func (t table) foot(rows, bad int) {
	fmt.Fprintf(t.out, "\n%d of %d rows are as expected.\n", rows-bad, rows)
}

package sanitize

import (
	"strings"
	"testing"
	"time"
)

// prose is text as models write it.
func prose(size int) string {
	const paragraph = "To bring the service back, first check the logs of the last deployment and compare the configuration with the one that\n" +
		"was active before. If the data differs, restore the previous version (see the table below), and then start the workers\n" +
		"again; they don't take long. A detailed analysis of the trade-offs is given in the appendix: it's worth reading!\n\n" +
		"## Steps\n\n1. Stop the queue.\n2. Apply the change, e.g. `kubectl apply -f queue.yaml`.\n3. **Verify** that nothing was dropped.\n\n"
	return strings.Repeat(paragraph, size/len(paragraph)+1)[:size]
}

// worst are texts made to cost as much as they can without a match.
func worst(size int) map[string]string {
	out := map[string]string{}
	for name, part := range map[string]string{
		"openers": "drop ", "verbs and objects": "drop table the ", "prefixes": "dro alte dat ", "comments": "drop/*drop/*", "tags": "<a<b", "tag": "<b x y=z ",
		"attributes": "<a on b=c on=d o='x'>", "less": "<<<", "bangs": "!", "images": "![a](b)", "urls": "[a](https:b)", "ampersands": "&", "references": "&#6 &ampx&Zer",
		"percents": "%", "percent": "%4%%2", "backslashes": "\\", "escapes": "&amp;%20\\n", "Cyrillic": "Привет, мир и табло ", "Chinese": "执行这个表的操作。",
		"fullwidth": "ＤＲＯＰ ", "no width": "\u200b", "emoji": "👩‍👩‍👧", "flags": "🏴", "lines": "\n", "fences": "```\n", "quotes": "\"'`", "spaces": " ", "digits": "1 2",
		"breakouts": "' or 'a' ", "stacks": "'; the ", "unions": "union the ", "commands": "; rm the ", "bars": "| a | rm |", "climbs": "../", "dots": "..", "code": "f('a', \"b\"); x = a && b || c;\n",
	} {
		out[name] = strings.Repeat(part, size/len(part)+1)[:size]
	}
	return out
}

func scan(s *Scanner, text string) int {
	st := s.Stream()
	a, _ := st.Write(text)
	b, _ := st.Close()
	return len(a) + len(b)
}

func BenchmarkTypical(b *testing.B) {
	for _, c := range []Context{Prose, Markdown} {
		b.Run(c.String(), func(b *testing.B) {
			s, text := scanner(b, Config{Context: c}), prose(16<<10)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				scan(s, text)
			}
		})
	}
}

func BenchmarkWorst(b *testing.B) {
	s := scanner(b, Config{Context: Markdown})
	for name, text := range worst(16 << 10) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				scan(s, text)
			}
		})
	}
}

// BenchmarkMatches is text of nothing but matches.
func BenchmarkMatches(b *testing.B) {
	s, text := scanner(b, Config{Context: Prose}), strings.Repeat("DROP TABLE users; <script>", 600)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		scan(s, text)
	}
}

// BenchmarkDelta is one piece of an event stream.
func BenchmarkDelta(b *testing.B) {
	for _, c := range []Context{Prose, Markdown} {
		b.Run(c.String(), func(b *testing.B) {
			st := scanner(b, Config{Context: c}).Stream()
			b.ReportAllocs()
			for b.Loop() {
				st.Write("and then start the workers again, they do ")
			}
		})
	}
}

// fastest is the shortest of several runs, as others share the machine.
func fastest(s *Scanner, texts map[string]string, runs int) map[string]time.Duration {
	best := map[string]time.Duration{}
	for range runs {
		for name, text := range texts {
			start := time.Now()
			scan(s, text)
			took := time.Since(start)
			if was, ok := best[name]; !ok || took < was {
				best[name] = took
			}
		}
	}
	return best
}

// TestCost holds the cost of all texts against that of a typical one, in one
// run. What people write in other scripts is cheap too; a text of nothing but
// openers and escapes is read character by character by all machines.
func TestCost(t *testing.T) {
	if testing.Short() {
		t.Skip("takes time")
	}
	const size, natural, hostile = 16 << 10, 6, 45
	s := scanner(t, Config{Context: Markdown})
	texts := worst(size)
	texts["typical"] = prose(size)
	took := fastest(s, texts, 30)
	for name, d := range took {
		most := hostile
		switch name {
		case "Chinese", "emoji", "flags", "no width", "spaces", "digits", "quotes", "prefixes", "bangs", "less", "code", "stacks", "dots":
			most = natural
		}
		ratio := float64(d) / float64(took["typical"])
		t.Logf("%-18s %6.1f MB/s %6.2f×", name, size/float64(d.Nanoseconds())*1000, ratio)
		if ratio > float64(most) {
			t.Errorf("%s costs %.1f times what typical text costs, want at most %d", name, ratio, most)
		}
	}
}

// TestCostIsLinear shows that no text costs more the longer it is.
func TestCostIsLinear(t *testing.T) {
	if testing.Short() {
		t.Skip("takes time")
	}
	const times = 8
	s := scanner(t, Config{Context: Markdown})
	short, long := fastest(s, worst(4<<10), 20), fastest(s, worst(times*4<<10), 5)
	for name, d := range short {
		if ratio := float64(long[name]) / float64(d); ratio > 4*times {
			t.Errorf("%s: %d times the text costs %.1f times as much", name, times, ratio)
		}
	}
}

func TestCleanTextAllocatesNothing(t *testing.T) {
	for _, c := range []Context{Prose, Markdown, JSONField, ToolCall} {
		st := scanner(t, Config{Context: c}).Stream()
		if n := testing.AllocsPerRun(100, func() { st.Write("and then start the workers again, they do ") }); n != 0 {
			t.Errorf("%s: a clean piece costs %v allocations, want none", c, n)
		}
	}
}

package sanitize

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func scanner(t testing.TB, c Config) *Scanner {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// outcomeOf is what a text came to.
type outcomeOf struct {
	Text     string
	Findings []Finding
	Blocked  bool
}

func whole(s *Scanner, text string) outcomeOf {
	clean, found, blocked := s.Text(text)
	return outcomeOf{clean, found, blocked}
}

// inPieces writes a text cut at the given places, and checks at each of them
// that what was sent so far is clean.
func inPieces(t testing.TB, s *Scanner, text string, cuts []int) outcomeOf {
	t.Helper()
	st := s.Stream()
	var out strings.Builder
	var found []Finding
	from := 0
	for _, to := range append(cuts, len(text)) {
		released, more := st.Write(text[from:to])
		out.WriteString(released)
		found = append(found, more...)
		if held := len(st.win) + len(st.pend); held > MaxHeld {
			t.Fatalf("%d bytes held of %q, want at most %d", held, text[:to], MaxHeld)
		}
		clean(t, s, out.String())
		from = to
	}
	released, more := st.Close()
	out.WriteString(released)
	return outcomeOf{out.String(), append(found, more...), st.Blocked()}
}

// clean checks that a text that was sent holds no match.
func clean(t testing.TB, s *Scanner, sent string) {
	t.Helper()
	again := whole(s, sent)
	if again.Text != sent || again.Blocked {
		t.Fatalf("what was sent is not clean:\n%q\nbecomes\n%q (%+v)", sent, again.Text, again.Findings)
	}
}

// compare checks that a split makes no difference.
func compare(t testing.TB, s *Scanner, text string, cuts []int) {
	t.Helper()
	want := whole(s, text)
	clean(t, s, want.Text)
	if diff := cmp.Diff(want, inPieces(t, s, text, cuts)); diff != "" {
		t.Fatalf("%s: %q cut at %v (-whole +pieces):\n%s", s.context, text, cuts, diff)
	}
}

// scanners are all contexts, and one that does each thing that there is.
func scanners(t testing.TB) []*Scanner {
	origins := []string{"https://img.example", "http://img.example:8080"}
	out := []*Scanner{
		scanner(t, Config{Context: Prose, Actions: map[Class]Action{DestructiveSQL: Redact, Control: Flag, UnicodeTags: Off, ExecutableHTML: Flag}}),
		scanner(t, Config{Context: Markdown, ImageOrigins: origins, Actions: map[Class]Action{ExecutableHTML: Redact, Control: Redact, ExternalImage: Redact}}),
		scanner(t, Config{Context: Markdown, Actions: map[Class]Action{ExternalImage: Flag, DestructiveSQL: Flag, Control: Off}}),
	}
	for c := range numContexts {
		out = append(out, scanner(t, Config{Context: c, ImageOrigins: origins}))
	}
	for _, a := range []Action{Defang, Redact, Block} {
		out = append(out, scanner(t, Config{Context: Markdown, ImageOrigins: origins, Actions: everything(a)}))
	}
	return append(out,
		scanner(t, Config{Context: ToolCall, Actions: everything(Defang)}),
		scanner(t, Config{Context: Prose, Actions: map[Class]Action{SQLBreakout: Defang, CommandInjection: Redact, PathTraversal: Block}}))
}

func everything(a Action) map[Class]Action {
	all := DefaultActions(Prose)
	for class := range all {
		all[class] = a
	}
	return all
}

func TestEverySplitOfShortTexts(t *testing.T) {
	t.Parallel()
	all := scanners(t)
	for _, text := range shortTexts() {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for _, s := range all {
				for i := range len(text) + 1 {
					for k := i; k <= len(text); k++ {
						compare(t, s, text, []int{i, k})
					}
				}
			}
		})
	}
}

func TestByteByByte(t *testing.T) {
	t.Parallel()
	texts := append(shortTexts(), variants()...)
	for _, of := range injected() {
		texts = append(texts, of...)
	}
	for _, s := range scanners(t) {
		for _, text := range texts {
			cuts := make([]int, len(text))
			for i := range cuts {
				cuts[i] = i
			}
			compare(t, s, text, cuts)
		}
	}
}

func TestRandomSplitsOfLongTexts(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	all := scanners(t)
	for range 400 {
		text := nasty(rnd, 1+rnd.IntN(60))
		s := all[rnd.IntN(len(all))]
		compare(t, s, text, cutsOf(rnd, len(text)))
	}
}

func cutsOf(rnd *rand.Rand, n int) (cuts []int) {
	most := 1 + rnd.IntN(40)
	for at := 0; at < n; at += 1 + rnd.IntN(most) {
		cuts = append(cuts, at)
	}
	return cuts
}

// nasty strings together parts that begin, continue, hide and end matches.
func nasty(rnd *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		part := fragments()[rnd.IntN(len(fragments()))]
		switch rnd.IntN(12) {
		case 0:
			part = part[:rnd.IntN(len(part)+1)]
		case 1:
			part = strings.ToUpper(part)
		case 2:
			part = strings.Repeat(part, 1+rnd.IntN(40))
		case 3:
			part = percentAll(part)
		}
		b.WriteString(part)
	}
	return b.String()
}

func fragments() []string {
	return []string{
		"drop", "drop table ", "drop table users;", "DROP", " ", " ", "  \n", "\t", "table", "database ", "view v", ";", "users", "the ", "if exists ",
		"delete from ", "truncate ", "truncate table t", "alter table a ", "drop b", "cascade", "/*", "*/", "--", "-", "#", "\n", "\n\n", "/*!50000", "x",
		"<", "<script", "<script>", "<b ", "<a href=", "<img src=", "<img src=\"", "\"", "'", ">", "=", "onclick=", "onerror", "on", "src=", "/", "//", "\\",
		"javascript:", "java\nscript:", "data:text/html", "data:", "data ", "vbscript", ":", "alert(1)", "https://", "https://img.example", "http://evil.test/",
		"//evil.test", "img.example:8080/", "![", "![x](", "![x][y]", "[y]: ", "](", "]", "[", "(", ")", "!", "```", "```sql\n", "\n```\n", "~~~\n", "`",
		"&", "&lt;", "&lt", "&amp;lt;", "&#60;", "&#x3c", "&#0000000000000000060;", "&colon;", "&nbsp;", "%", "%3C", "%253c", "%20", "%64", "%EF%BC%A4",
		"\\u0064", "\\u{64}", "\\x64", "\\n", "\\u001b", "\\\\u0064", "\x1b[31m", "\u202e", "\u200b", "\u00a0", "\u2028", "ＤＲＯＰ", "＜script", "“", "д", "а", "漢字",
		"\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "\U000e0064", "\x80", "\xc3", "\xe2\x80", "\x00", "é", "_", "0", "(!)",
		"' or ", "or 1", "=", "1=1", "' and '", "'a'", "'; ", "exec ", "insert into t", "union ", "select ", "all ", "--", "-- -", "#", "/*!", "true", "like ", "sleep(5)", "having",
		"; ", "rm -rf /", "rm", "curl http", "| ", "sh", "bash -c", "&& ", "||", "$(", "whoami", "`id`", "cat /etc/", "/bin/", "sudo ", "${IFS}", "<(", "{", "| sh |",
		"../", "..\\", "../../etc", "..%2f", "%2e", "....//", "etc/passwd", "..", ".", "%c0%af", "‘", "’", "”", "；", "｜", "．", "＃", "＿", "\u3000", "&quot;", "&semi;", "%27", "%3B", "srcset='a, //e.t 2x'", "style=\"background:url(//e.t)\"", "[l](//e.t/x)",
		strings.Repeat(" ", 150), strings.Repeat("a", 100), strings.Repeat("\u200b", 60), "&", ",", ".", "*", "+", "or", "<!--", "</script>", "\r\n", "\r",
	}
}

func percentAll(text string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		b.WriteByte('%')
		b.WriteByte(digits[text[i]>>4])
		b.WriteByte(digits[text[i]&15])
	}
	return b.String()
}

func FuzzSplits(f *testing.F) {
	texts := append(shortTexts(), variants()...)
	for _, of := range injected() {
		texts = append(texts, of...)
	}
	for _, text := range texts {
		f.Add(text, uint64(len(text)))
	}
	all := scanners(f)
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		if len(text) > 4096 {
			return
		}
		rnd := rand.New(rand.NewPCG(seed, 0))
		compare(t, all[seed%uint64(len(all))], text, cutsOf(rnd, len(text)))
	})
}

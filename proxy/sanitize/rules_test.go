package sanitize

import (
	"strings"
	"sync"
	"testing"
)

// rulesOf are the rules that a text breaks, in order.
func rulesOf(s *Scanner, text string) string {
	var out []string
	for _, f := range whole(s, text).Findings {
		out = append(out, f.Rule)
	}
	return strings.Join(out, " ")
}

func TestStatements(t *testing.T) {
	t.Parallel()
	s := scanner(t, Config{Context: Prose})
	for text, want := range map[string]string{
		"DROP DATABASE prod;": "drop", "drop schema if exists app cascade": "drop", "DROP INDEX idx_users;": "drop", "DROP USER bob": "", "drop view v": "",
		"DROP USER IF EXISTS bob": "drop", "drop view v cascade": "drop", "DROP MATERIALIZED VIEW v;": "drop", "DROP INDEX CONCURRENTLY i;": "drop",
		"drop database connections when idle": "", "Run drop database prod": "drop", "drop database prod\nnow": "drop", "`drop database prod`": "drop",
		"drop view a, b;": "drop", "drop index app.idx;": "drop", "drop function f;": "drop", "drop column c;": "drop", "drop type checking": "",
		"TRUNCATE TABLE users": "truncate", "TRUNCATE TABLE ONLY users": "truncate", "TRUNCATE users;": "truncate", "truncate users": "", "truncate the;": "",
		"DELETE FROM users": "delete", "DELETE FROM users WHERE 1=1": "delete", "delete low_priority from users": "delete", "DELETE * FROM users": "delete",
		"delete from the list": "", "DELETE FROM the;": "delete", "delete from": "", "delete rows from users": "",
		"ALTER TABLE users DROP COLUMN email": "alter_drop", "alter table if exists only app.users drop email": "alter_drop", "ALTER TABLE `users` DROP x": "alter_drop",
		"alter table users add x int": "", "ALTER TABLE 用户 DROP x": "alter_drop", "drop table": "", "drop table;": "", "drop table <name>": "", "drop table {name}": "",
		"xdrop table users": "", "drop tables users": "", "drop_table users": "", "drop-table users": "", "drop - table users": "", "drop = table users": "",
		"drop table 5": "", "drop table x.b.c": "drop", "DROP TABLE ''": "", "say \"DROP TABLE\" and": "", "drop table if users": "", "drop table if not exists users": "drop",
	} {
		if got := rulesOf(s, text); got != want {
			t.Errorf("%q: got rules %q, want %q", text, got, want)
		}
	}
}

func TestToolCallsLeaveNoDoubt(t *testing.T) {
	t.Parallel()
	s := scanner(t, Config{Context: ToolCall})
	for text, want := range map[string]string{
		`{"sql": "DROP USER bob"}`: "drop", `{"sql": "drop view v"}`: "drop", `{"sql": "drop the user"}`: "", `{"a": "\u001b[2J"}`: "terminal_escape",
		`{"a": "\u202e"}`: "bidi_override", `{"a": "\ndrop\ttable users"}`: "drop", `{"a": "\n\t\b\f\r\/\\\""}`: "", `{"path": "C:\\new\\table"}`: "",
	} {
		if got := rulesOf(s, text); got != want {
			t.Errorf("%q: got rules %q, want %q", text, got, want)
		}
	}
}

func TestDefangedArgumentsStayJSON(t *testing.T) {
	t.Parallel()
	s := scanner(t, Config{Context: ToolCall, Actions: map[Class]Action{AnsiEscape: Defang, DestructiveSQL: Defang}})
	for text, want := range map[string]string{
		`{"a": "\u001b[2J"}`:             `{"a": "(U+001B)[2J"}`,
		`{"a": "\u0044ROP TABLE users"}`: `{"a": "\u0044ROP(!) TABLE users"}`,
	} {
		if got := whole(s, text).Text; got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestMarkup(t *testing.T) {
	t.Parallel()
	s := scanner(t, Config{Context: Prose})
	for text, want := range map[string]string{
		"<script>x</script>": "tag", "<SCRIPT/x>": "tag", "<script": "tag", "<iframe src=x>": "tag", "<svg onload=x>": "tag", "<object\n>": "tag", "< script>": "",
		"</script>": "", "<scripts>": "", "<script-x>": "", "<x-script>": "", "<my script>": "", "<!-- script -->": "", "<img src=x onerror=a()>": "event_handler",
		"<img/src='x'/onerror=a()>": "event_handler", "<img src=x/onerror=a()>": "", "<img src=\"x\"onerror=a()>": "event_handler", "<a\nonclick\n=\nx>": "event_handler", "<a onclick>": "",
		"<a title=\" onclick=x\">": "", "<a title=\">\" onclick=x>": "event_handler", "<a b=x' title='>' onclick=x>": "event_handler", "<a title=' onclick=x'>": "",
		"<a title=&quot; onclick=x>": "event_handler", "<a title=“ onclick=x>": "event_handler", "<a b=\u00a0\" onclick=x c=\">": "event_handler",
		"<p title=\"</p><img src=x onerror=a()>\">": "event_handler", "<a one=1 on=2 only=3>": "", "x onerror=alert(1)": "", "<b>on</b> onclick=x": "",
		"a < b onclick=x": "", "&lt;script&gt;": "tag", "&amp;lt;script&gt;": "tag", "&ltscript>": "tag", "%3Cscript%3E": "tag", "\\u003cscript>": "tag",
		"<scr\u200bipt>": "tag", "＜script>": "tag", "<ｓｃｒｉｐｔ>": "tag", "<\x00script>": "control_character",
		"<a href=javascript:x>": "script_url", "<a href=' javascript:x'>": "script_url", "<a href='java\n\tscript :x'>": "script_url", "<a href=\"&#106;avascript&colon;x\">": "script_url",
		"<a href=vbscript:x>": "script_url", "<a href=data:text/html,x>": "data_url", "<a href='data: TEXT/HTML;base64,x'>": "data_url", "<a href=data:image/svg+xml,x>": "data_url",
		"<img src=data:image/svg+xml,x>": "", "<img src=data:image/png,x>": "", "<a href=https://javascript:x>": "script_url",
		"[a](javascript:x)": "script_url", "[a](<javascript:x>)": "script_url", "[a]( javascript:x)": "script_url", "[a](data:text/html,x)": "data_url", "[a](javascript)": "",
		"javascript:alert(1)": "script_url", "javascript:(x)": "script_url", "JavaScript: x": "", "JavaScript:\n": "", "javascript": "", "data:text/html,x": "data_url", "data: text/html": "",
	} {
		if got := rulesOf(s, text); got != want {
			t.Errorf("%q: got rules %q, want %q", text, got, want)
		}
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	s := scanner(t, Config{Context: Markdown, ImageOrigins: []string{"https://img.example", "http://Other.example:8080"}})
	for text, want := range map[string]string{
		"![a](https://evil.test/?q=x)": "image_source", "![a](http://img.example/x)": "image_source", "![a](https://img.example/x.png)": "", "![a](https://IMG.example)": "",
		"![a](http://other.example:8080/x)": "", "![a](https://other.example:8080/x)": "image_source", "![a](https://img.example.evil.test/x)": "image_source",
		"![a](https://img.example@evil.test)": "image_source", "![a](//evil.test/x)": "image_source", "![a](//img.example/x)": "", "![a](\\\\evil.test)": "image_source",
		"![a](/\\evil.test)": "image_source", "![a](https:evil.test)": "image_source", "![a](https:///evil.test)": "image_source", "![a](/local.png)": "", "![a](local.png)": "",
		"![a](data:image/png;base64,x)": "", "![a]( <https://evil.test> \"t\")": "image_source", "![a](ht\ntps://evil.test)": "image_source", "![a](https&colon;//evil.test)": "image_source",
		"![a [b](https://ok.test) c](https://evil.test)": "image", "![a\\](x](https://evil.test)": "image", "![`](`](https://evil.test)": "image",
		"[a](https://evil.test)": "", "![a] (https://evil.test)": "", "![a][b]": "", "![a][b]\n\n[b]: https://evil.test": "image_reference", "[b]: //evil.test\n\n![b]": "image_reference",
		"[b]: https://img.example/x\n\n![b]": "", "![b]\n\n[b]: local": "", "<img src=https://evil.test>": "image_source", "<img alt='a' src='https://img.example/a'>": "",
		"<video poster=//evil.test>": "image_source", "<a href=https://evil.test>": "", "<img data-src=https://evil.test>": "", "![a\n\n](https://evil.test)": "",
		"!\u200b[a](https://evil.test)": "image_source", "![" + strings.Repeat("a", 1000) + "](https://evil.test)": "image_source",
	} {
		if got := rulesOf(s, text); got != want {
			t.Errorf("%q: got rules %q, want %q", text, got, want)
		}
	}
}

func TestControlCharacters(t *testing.T) {
	t.Parallel()
	s := scanner(t, Config{Context: Prose})
	for text, want := range map[string]string{
		"a\x1b[31mb": "a(U+001B)[31mb", "\x00\x07\x08\x7f": "(U+0000)(U+0007)(U+0008)(U+007F)", "\u009b2J": "(U+009B)2J", "\u202ea\u2066": "(U+202E)a(U+2066)",
		"\U000e0041\U000e007f": "(U+E0041)(U+E007F)", "a\x80b\xc3": "a(0x80)b(0xC3)", "\xc0\xbcscript>": "(0xC0)(0xBC)script>", "\t\r\n\u200f\u200d\ufeff": "\t\r\n\u200f\u200d\ufeff",
		"🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f": "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
		"🏴\U000e0075": "🏴(U+E0075)", "&#00000000000000068;x": "&(!)#00000000000000068;x", "\ufffd": "\ufffd",
	} {
		if got := whole(s, text).Text; got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestFences(t *testing.T) {
	t.Parallel()
	s := scanner(t, Config{Context: Markdown, Actions: map[Class]Action{ExecutableHTML: Block}})
	const st = "DROP TABLE x;"
	fenced := func(text string) (fenced, plain int) {
		for _, f := range whole(s, text).Findings {
			switch {
			case f.Rule == ruleOpenFence:
			case f.Fenced && f.Action == Flag:
				fenced++
			default:
				plain++
			}
		}
		return fenced, plain
	}
	for text, want := range map[string][2]int{
		"```\n" + st + "\n```\n":                  {1, 0},
		"~~~~ sql\n" + st + "\n~~~\n" + st + "\n": {2, 0},
		"```\r\n" + st + "\r\n```\r\n" + st:       {1, 1},
		"````\n" + st + "\n```\n" + st:            {2, 0},
		"```\n" + st + "\n  ````  \n" + st:        {1, 1},
		"```\n" + st + "\n``` x\n" + st:           {2, 0},
		"```\n" + st + "\n    ```\n" + st:         {2, 0},
		" ```\n" + st + "\n":                      {0, 1}, // a list may hold it
		"> ```\n> " + st + "\n":                   {0, 1},
		"- ```\n  ```\n" + st:                     {0, 1},
		"``` a`b\n" + st:                          {0, 1},
		"``\n" + st:                               {0, 1},
		"x```\n" + st:                             {0, 1},
		"<div>\n```\n" + st:                       {0, 1}, // a block of HTML may hold it
		"DROP\n```\nTABLE x;\n```":                {0, 0},
		"```\n<script>\n```":                      {0, 1}, // the operator said block
	} {
		if f, p := fenced(text); f != want[0] || p != want[1] {
			t.Errorf("%q: got %d fenced and %d plain, want %v", text, f, p, want)
		}
	}
	if got := rulesOf(s, "```\n"+st); got != "drop open_fence" {
		t.Errorf("a fence without an end: got rules %q", got)
	}
	if got := whole(scanner(t, Config{Context: JSONField}), "```\n"+st).Text; strings.Contains(got, st) {
		t.Errorf("a fence counts in a field: %q", got)
	}
}

func TestActions(t *testing.T) {
	t.Parallel()
	const text = "a DROP TABLE users; b\x1bc"
	for action, want := range map[Action]outcomeOf{
		Off:    {Text: text},
		Flag:   {Text: text, Findings: []Finding{{Offset: 2, Length: 16}, {Offset: 21, Length: 1}}},
		Defang: {Text: "a DROP(!) TABLE users; b(U+001B)c", Findings: []Finding{{Offset: 2, Length: 16}, {Offset: 21, Length: 1}}},
		Redact: {Text: "a (redacted); b(redacted)c", Findings: []Finding{{Offset: 2, Length: 16}, {Offset: 21, Length: 1}}},
		Block:  {Text: "a ", Findings: []Finding{{Offset: 2, Length: 16}}, Blocked: true},
	} {
		got := whole(scanner(t, Config{Actions: map[Class]Action{DestructiveSQL: action, AnsiEscape: action}}), text)
		if got.Text != want.Text || got.Blocked != want.Blocked || len(got.Findings) != len(want.Findings) {
			t.Errorf("%s: got %+v, want %+v", action, got, want)
			continue
		}
		for i, f := range got.Findings {
			if w := want.Findings[i]; f.Action != action || f.Offset != w.Offset || f.Length != w.Length {
				t.Errorf("%s: finding %d is %+v, want %+v", action, i, f, w)
			}
		}
	}
}

func TestOffsetsAreThoseOfTheText(t *testing.T) {
	t.Parallel()
	s := scanner(t, Config{Context: Prose})
	const text = "\x1b<script> é DR\x00OP TABLE a; d\u202erop table b; DROP /* \x07 */ TABLE users; \x07<iframe>"
	for _, f := range whole(s, text).Findings {
		got := text[f.Offset : f.Offset+f.Length]
		want := map[string]string{ruleDrop: "DROP /* \x07 */ TABLE users", ruleTag: "<script"}[f.Rule]
		if f.Offset > 50 && f.Rule == ruleTag {
			want = "<iframe"
		}
		if want != "" && got != want {
			t.Errorf("%s is %q, want %q", f.Rule, got, want)
		}
		if f.Class == Control && len([]rune(got)) != 1 {
			t.Errorf("%s is %q, want one character", f.Rule, got)
		}
	}
	if got := rulesOf(s, text); got != "terminal_escape tag control_character bidi_override control_character drop control_character tag" {
		t.Errorf("got rules %q", got)
	}
}

func TestFindingsAreBounded(t *testing.T) {
	t.Parallel()
	got := whole(scanner(t, Config{}), strings.Repeat("\x1b", 2*MaxFindings))
	if len(got.Findings) != MaxFindings || strings.Contains(got.Text, "\x1b") {
		t.Errorf("got %d findings, want %d, and no escape left", len(got.Findings), MaxFindings)
	}
}

func TestNothingAfterBlockOrClose(t *testing.T) {
	t.Parallel()
	st := scanner(t, Config{Context: ToolCall}).Stream()
	first, _ := st.Write("ok drop table ")
	second, found := st.Write("users; more")
	third, more := st.Write("still more")
	rest, last := st.Close()
	if first+second+third+rest != "ok " || len(found) != 1 || len(more)+len(last) != 0 || !st.Blocked() {
		t.Errorf("got %q, %q, %q, %q", first, second, third, rest)
	}
	st = scanner(t, Config{}).Stream()
	st.Close()
	if got, _ := st.Write("late"); got != "" {
		t.Errorf("after Close got %q", got)
	}
}

func TestReleaseUpToTheOpener(t *testing.T) {
	t.Parallel()
	st := scanner(t, Config{Context: Markdown}).Stream()
	for _, step := range [][2]string{
		{"Hello, wor", "Hello, wor"}, {"ld. Then d", "ld. Then "}, {"rop", ""}, {" it", ""}, {" and drop table", "drop it and "}, {" the rest", ""},
		{" a <", "drop table the rest a "}, {"b> and <scr", "<b> and "}, {"atch>", "<scratch>"}, {" x &am", " x "}, {"p; y", "&amp; y"}, {" [a](java", " [a]("}, {".html)", "java.html)"},
		{" \xe2\x82", " "}, {"\xac", "€"}, {" <a o", " <a "}, {"ne=1", "one=1"},
	} {
		if got, _ := st.Write(step[0]); got != step[1] {
			t.Fatalf("Write(%q) sent %q, want %q", step[0], got, step[1])
		}
	}
}

func TestConfigFaults(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]Config{
		"context 4":            {Context: numContexts},
		"of class 0":           {Actions: map[Class]Action{0: Off}},
		"of class 11":          {Actions: map[Class]Action{numClasses: Off}},
		"action 5":             {Actions: map[Class]Action{Control: numActions}},
		`"img.example"`:        {ImageOrigins: []string{"img.example"}},
		`"https://a/b"`:        {ImageOrigins: []string{"https://ok.example", "https://a/b"}},
		`"ftp://a"`:            {ImageOrigins: []string{"ftp://a"}},
		`"https://u@a"`:        {ImageOrigins: []string{"https://u@a"}},
		`"https://%zz"`:        {ImageOrigins: []string{"https://%zz"}},
		"more than 64":         {ImageOrigins: make([]string, MaxOrigins+1)},
		strings.Repeat("a", 9): {ImageOrigins: []string{"https://" + strings.Repeat("a", maxOrigin)}},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want an error that says %s", c, err, want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for c := range numContexts {
		if got, err := ParseContext(c.String()); got != c || err != nil {
			t.Errorf("%s: got %s, %v", c, got, err)
		}
		for class := range DefaultActions(c) {
			if got, err := ParseClass(class.String()); got != class || err != nil {
				t.Errorf("%s: got %s, %v", class, got, err)
			}
		}
	}
	for a := range numActions {
		if got, err := ParseAction(a.String()); got != a || err != nil {
			t.Errorf("%s: got %s, %v", a, got, err)
		}
	}
	_, context := ParseContext("html")
	_, class := ParseClass("")
	_, action := ParseAction("delete")
	for what, err := range map[string]error{"prose": context, "destructive_sql": class, "defang": action} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("got %v, want an error that lists %s", err, what)
		}
	}
}

func TestScannerIsShared(t *testing.T) {
	t.Parallel()
	s := scanner(t, Config{Context: Markdown})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, v := range variants() {
				if got := whole(s, v); len(got.Findings) == 0 {
					t.Errorf("%q is not found", v)
				}
			}
		})
	}
	wg.Wait()
}

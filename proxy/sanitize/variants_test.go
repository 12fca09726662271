package sanitize

import (
	"regexp"
	"strings"
	"testing"
)

// variants are ways to write DROP TABLE users; so that something that reads it
// will do it.
func variants() []string {
	tags := strings.Map(func(r rune) rune { return 0xe0000 + r }, "DROP TABLE users;")
	return []string{
		"DROP TABLE users;", "drop table users;", "Drop Table Users;", "dRoP tAbLe UsErS;", "DROP TABLE users", "DROP TABLE users\n",
		"DROP  \t TABLE\n\nusers;", "DROP\r\nTABLE\r\nusers;", "DROP\vTABLE\fusers;", "DROP\u00a0TABLE\u3000users;", "DROP\u2028TABLE users;",
		"DROP/**/TABLE/**/users;", "DROP /* a */ TABLE /* b\n */ users;", "DROP/* /* nested */ */TABLE users;", "DROP /* a /* b */ c */ TABLE users;",
		"/*!50000DROP*/ /*!TABLE*/ users;", "DROP -- a comment\nTABLE users;", "DROP # a comment\nTABLE -- more\nusers;", "DROP/*drop*/TABLE users;",
		"DROP /*" + strings.Repeat("x", 300) + "*/ TABLE users;", "DROP" + strings.Repeat(" ", 1000) + "TABLE users;",
		"DROP TABLE " + strings.Repeat("\n", 500) + "users;", "DROP TABLE" + strings.Repeat(" x", 0) + " " + strings.Repeat("u", 300) + ";",
		"DR\u200bOP TA\u200bBLE us\u200bers;", "D\u200cR\u200dO\u2060P T\ufeffA\u00adBLE users;", "D\u0336R\u0336O\u0336P T\u0336ABLE users;",
		"ＤＲＯＰ ＴＡＢＬＥ ｕｓｅｒｓ；", "𝐃𝐑𝐎𝐏 𝐓𝐀𝐁𝐋𝐄 users;", "𝖣𝖱𝖮𝖯 𝖳𝖠𝖡𝖫𝖤 users;", "ⒹⓇⓄⓅ ⓉⒶⒷⓁⒺ users;", "DRОР ТАВLЕ users;", "dгop tаble users; DRΟΡ TΑBLE users;",
		"&#68;&#82;&#79;&#80; TABLE users;", "&#x44;ROP&#x20;TABLE&#32;users;", "&#68ROP&nbsp;TABLE users;", "&amp;#68;ROP TABLE users;", "&#0000000068;ROP TABLE users;",
		"&#00000000000000000000000000000068;ROP TABLE users;", "%44%52%4F%50%20%54%41%42%4C%45%20users;", "DROP%20TABLE%20users;", "DROP+TABLE+users;",
		"%2544ROP%2520TABLE users;", "%EF%BC%A4ROP TABLE users;", "\\u0044\\u0052OP TABLE users;", "\\\\u0044ROP\\\\nTABLE users;", "DROP\\nTABLE\\tusers;",
		"\\x44ROP TABLE users;", "\\u{44}ROP TABLE users;", "DROP TABLE IF EXISTS users;", "DROP TABLE `users`;", "DROP TABLE \"users\";", "DROP TABLE [dbo].[users];",
		"DROP TEMPORARY TABLE users;", "DROP TABLE public.users CASCADE;", "DROP TABLE users, roles;", "'; DROP TABLE users; --", "Sure! Run this: DROP TABLE users;",
		"**DROP TABLE users;**", "_DROP TABLE users;_", "1; DROP TABLE users;", "运行DROP TABLE users;", "DROP TABLE 用户;", "{\"sql\": \"DROP TABLE users;\"}",
		"SELECT 1;DROP TABLE users;", "(DROP TABLE users)", "DROP DROP TABLE users;", "DROP TDROP TABLEABLE users; DROP TABLE users;", "DROP DROP TABLE TABLE users;",
		"DROP /*%2A/ */TABLE users;", "DROP --%0A x\nTABLE users;", "DR\x00OP TABLE users;", "DR\u202eOP TABLE users;", tags,
		"<b title=\"DROP TABLE users;\">", "a < b DROP TABLE users;", "javascript DROP TABLE users;", "DROP TABLE #users;", "DROP TABLE 1users;",
	}
}

// statement finds what a plain reader would: it knows nothing of the machines.
var statement = regexp.MustCompile(`(?i)\bdrop(\s|\+|%20|/\*.*?\*/|--[^\n]*\n)+table\b`)

func TestVariantsAreNeutralised(t *testing.T) {
	t.Parallel()
	if len(variants()) < 40 {
		t.Fatalf("%d variants, want at least 40", len(variants()))
	}
	for _, c := range []Context{Prose, Markdown, JSONField} {
		s := scanner(t, Config{Context: c})
		for _, v := range variants() {
			got := whole(s, v)
			if got.Text == v || len(got.Findings) == 0 || got.Blocked {
				t.Errorf("%s: %q became %q, findings %+v", c, v, got.Text, got.Findings)
			}
			if statement.MatchString(got.Text) {
				t.Errorf("%s: %q became %q, which is a statement still", c, v, got.Text)
			}
			clean(t, s, got.Text)
		}
	}
}

func TestVariantsAreBlockedInToolCalls(t *testing.T) {
	t.Parallel()
	s := scanner(t, Config{Context: ToolCall})
	for _, v := range variants() {
		if got := whole(s, v); !got.Blocked || statement.MatchString(got.Text) {
			t.Errorf("%q became %q, blocked %v", v, got.Text, got.Blocked)
		}
	}
}

// shortTexts are short enough to try all their splits.
func shortTexts() []string {
	return []string{
		"DROP TABLE users;", "drop drop table x", "drop database foo", "drop/*drop*/table x y", "alter table a drop b", "&#68;rop table x", "\\u0064rop table x",
		"%64rop%20table x", "ＤROP table x", "a <script>b", "<script", "<b onclick=x>", "<b/onload =x", "<img src=//e.t>", "<a href='java\nscript:x'>",
		"[a](javascript:b)", "javascript:alert", "JavaScript: it", "data:text/html,x", "![a](//e.t/b)", "![a](https://img.example/b)", "![a][b] [b]: //e.t",
		"[b]: //e.t ![b]", "```\ndrop table x\n```\ndrop table y", "a\x1b[1mb", "\u202eab\xffc", "🏴\U000e0067\U000e0062 x", "é漢а drop table à", "&lt;script&gt;",
		"' or 1=1 -- ", "' or '1'='1", "' or 'a' like 'b", "x'-- ", "x' -- -y", "x'#\n", "'; insert into x", "'; exec x", "1 union/**/all select 2", "or 1 = 1",
		"' and (select 1", "' or sleep(5)", "; rm -rf /", ";/bin/cat /x", "| sudo sh -c", "x | sh |", "x|bash\n", "&& curl http://x", "$(whoami)", "`id`", "<(nc x", "; cat${IFS}/x",
		"../../etc/x", "..%2fx", "../../../../x", "..\\..\\..\\..\\x", "&#39; or 1%3D1", "%27;%20rm%20-f", "'; drop table x", "[l](//e.t)", "<img srcset='a 1x, //e.t 2x'>",
		"<p style='a:url( //e.t)'>", "y ; the rm - is", "' or ' is", "'x'; select the", "\u0027 or 1=1",
		"“drop table drop table rm", "’;drop table x", "don’t or 1=1", "；ｒｍ -rf", "‘ or 1＝1",
		"<a b=&quot; onclick=x>", "<a b=\" onclick=x>\" onclick=y>", "x &amp; y &co <b", "delete from the list", "delete from the;", "truncate x ;",
	}
}

func TestHarmlessTextsStay(t *testing.T) {
	t.Parallel()
	texts := []string{
		"", "Hello, world!", "The DROP TABLE statement removes a table.", "Use `DROP TABLE` with care; `DELETE` needs a `WHERE`.", "Please drop the table off at noon.",
		"A raindrop table of contents.", "drop_table users is a helper", "We truncate long strings.", "Delete from the menu what you don't like.", "Alter the table's height.",
		"ALTER TABLE users ADD COLUMN age int;", "SELECT * FROM users WHERE id = 1;", "CREATE TABLE users (id int);", "a big drop -- nearly 40 % -- in sales",
		"drop - table", "drop-table users", "I'd drop user sessions when idle, and drop view state.", "data: see the table", "a<b and c>d", "x << 3, y >> 2, <<<<<<< HEAD",
		"if (a < b && c > d) { return; }", "Use <b>bold</b> and <a href=\"https://a.example/?q=1&x=2\">links</a>.", "<div class=\"only one\">once = twice</div>",
		"JavaScript: The Good Parts", "**JavaScript:** a language", "JavaScript：是一种语言", "use javascript, or vbscript: both are old", "[link](https://other.example/page)",
		"![logo](logo.png) and ![b](/img/b.png \"t\")", "#![allow(dead_code)]\n![warn]", "AT&T, R&D, 50% of &c. and C:\\new\\table", "100%20 is odd, %zz too", "café, naïve, Ångström",
		"Привет, мир! Это обычный текст.", "こんにちは世界。テーブルを落とす。", "👩‍👩‍👧‍👦 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f ❤️ می\u200cخواهم", "tab\tline\r\nend", "[a]: https://b.example\n[a] is a link",
		"see \\n and \\u00e9 in JSON", "array[0](x) and !x[1]", "1 < 2", "<", "!", "&", "%", "\\", "d", "drop", "drop table", "<scripted> and <object-id> and <link_to>",
	}
	for _, c := range []Context{Prose, Markdown, JSONField} {
		s := scanner(t, Config{Context: c})
		for _, text := range texts {
			if got := whole(s, text); got.Text != text || len(got.Findings) > 0 {
				t.Errorf("%s: %q became %q: %+v", c, text, got.Text, got.Findings)
			}
		}
	}
}

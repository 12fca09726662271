package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// feed runs a command with a text on standard input.
func feed(t *testing.T, stdin io.Reader, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := execute(t.Context(), world{env: func(string) string { return "" }, stdin: stdin}, args, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

func TestSanitize(t *testing.T) {
	t.Parallel()
	const statement = "Run: DROP TABLE users;"
	for _, tt := range []struct {
		name, stdin string
		args        []string
		code        int
		stdout      string
		stderr      []string
	}{
		{"clean", "Hello.\n", nil, ExitOK, "Hello.\n", nil},
		{"defanged", statement, nil, ExitFindings, "Run: DROP(!) TABLE users;", []string{"5+16  destructive_sql  drop  defang", "1 found"}},
		{"redacted", statement, []string{"--action", "destructive_sql=redact"}, ExitFindings, "Run: (redacted);", []string{"redact"}},
		{"off", statement, []string{"--action", "destructive_sql=off"}, ExitOK, statement, nil},
		{"blocked", statement, []string{"--context", "tool_call"}, ExitFindings, "Run: ", []string{"block", "the text was blocked"}},
		{"fenced", "```\n" + statement + "\n```\n", []string{"--context", "markdown"}, ExitFindings, "```\n" + statement + "\n```\n", []string{"flag", "in a fence"}},
		{"listed", "![a](https://img.example/a)", []string{"--context", "markdown", "--image-origin", "https://img.example"}, ExitOK, "![a](https://img.example/a)", nil},
		{"terminal", "a\x1b[1mb", nil, ExitFindings, "a(U+001B)[1mb", []string{"terminal_escape"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := feed(t, strings.NewReader(tt.stdin), append([]string{"sanitize"}, tt.args...)...)
			if r.code != tt.code || r.stdout != tt.stdout {
				t.Errorf("got exit code %d and %q, want %d and %q", r.code, r.stdout, tt.code, tt.stdout)
			}
			for _, part := range tt.stderr {
				if !strings.Contains(r.stderr, part) {
					t.Errorf("stderr does not say %q:\n%s", part, r.stderr)
				}
			}
			if tt.code == ExitOK && r.stderr != "" {
				t.Errorf("stderr says %q of a clean text", r.stderr)
			}
		})
	}
}

func TestSanitizeJSON(t *testing.T) {
	t.Parallel()
	for stdin, want := range map[string]string{
		"Hi": `{"text":"Hi","blocked":false,"findings":[]}`,
		"<script>": `{"text":"<(!)script>","blocked":false,"findings":[` +
			`{"class":"executable_html","rule":"tag","action":"defang","offset":0,"length":7,"fenced":false}]}`,
	} {
		r := feed(t, strings.NewReader(stdin), "sanitize", "-o", "json")
		var compact bytes.Buffer
		noError(t, json.Compact(&compact, []byte(r.stdout)))
		if compact.String() != want {
			t.Errorf("got %s, want %s", compact.String(), want)
		}
	}
}

func TestSanitizeUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--context", "html"}, {"--action", "destructive_sql"}, {"--action", "sql=off"}, {"--action", "control=delete"},
		{"--image-origin", "img.example"}, {"-o", "yaml"}, {"more"},
	} {
		feed(t, strings.NewReader(""), append([]string{"sanitize"}, args...)...).want(t, ExitUsage, "gatehouse:", "--help")
	}
}

func TestInputFaults(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"sanitize"}, {"parse", "patterns"}} {
		feed(t, iotest.ErrReader(errors.New("torn")), args...).want(t, ExitFindings, "reading standard input: torn")
		feed(t, io.LimitReader(zeros{}, maxInput+1), args...).want(t, ExitFindings, "over 16 MiB")
	}
}

// zeros is a text without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestParse(t *testing.T) {
	t.Parallel()
	const good = "So:\n```json\n[{\"pattern_type\": \"skill_gap\", \"root_cause\": \"<a>\", \"suggested_fix\": \"b\", \"more\": 1}]\n```\n"
	r := feed(t, strings.NewReader(good), "parse", "patterns")
	r.want(t, ExitFindings, `"/0/more": there is no such member (unknown)`, "not a valid patterns")

	r = feed(t, strings.NewReader(good), "parse", "patterns", "--lenient")
	r.want(t, ExitOK)
	var compact bytes.Buffer
	noError(t, json.Compact(&compact, []byte(r.stdout)))
	if want := `[{"pattern_type":"skill_gap","root_cause":"<a>","suggested_fix":"b"}]`; compact.String() != want {
		t.Errorf("got %s, want %s", compact.String(), want)
	}
}

func TestParseJSON(t *testing.T) {
	t.Parallel()
	for stdin, want := range map[string]string{
		"[]":     `{"valid":true,"value":[],"faults":[]}`,
		"no":     `{"valid":false,"faults":[{"pointer":"","code":"no_json","message":"there is no complete JSON value in the text"}]}`,
		"[true]": `{"valid":false,"faults":[{"pointer":"/0","code":"type","message":"want an object"}]}`,
	} {
		r := feed(t, strings.NewReader(stdin), "parse", "patterns", "-o", "json")
		var compact bytes.Buffer
		noError(t, json.Compact(&compact, []byte(r.stdout)))
		if valid := r.code == ExitOK; compact.String() != want || valid != strings.Contains(want, "true,") {
			t.Errorf("%q: got exit code %d and %s, want %s", stdin, r.code, compact.String(), want)
		}
	}
}

func TestParseUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"nonsense"}, {"patterns", "more"}, {"patterns", "-o", "yaml"}} {
		feed(t, strings.NewReader("[]"), append([]string{"parse"}, args...)...).want(t, ExitUsage, "gatehouse:", "--help")
	}
}

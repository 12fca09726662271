package llm

import (
	"errors"
	"strings"
	"testing"
)

func parseText(t *testing.T, text string) *document {
	t.Helper()
	d, err := newParser().parse([]byte(text))
	if err != nil {
		t.Fatalf("parse %s: %v", text, err)
	}
	return d
}

func TestHostileJSON(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, text, code, pointer string
		kind                      Kind
	}{
		{"empty", "", "syntax", "", Malformed},
		{"white space", " \n", "syntax", "", Malformed},
		{"cut", `{"a":1`, "syntax", "", Malformed},
		{"trailing value", `{} {}`, "syntax", "", Malformed},
		{"trailing text", `{}x`, "syntax", "", Malformed},
		{"two documents in a line each", "{}\n{}", "syntax", "", Malformed},
		{"comment", `{/**/}`, "syntax", "", Malformed},
		{"trailing comma", `[1,]`, "syntax", "", Malformed},
		{"single quotes", `{'a':1}`, "syntax", "", Malformed},
		{"not a number", `[NaN]`, "syntax", "", Malformed},
		{"leading zero", `[01]`, "syntax", "", Malformed},
		{"raw control character", "[\"a\nb\"]", "syntax", "", Malformed},
		{"byte order mark", "\ufeff{}", "syntax", "", Malformed},
		{"invalid UTF-8", "[\"a\xffb\"]", "syntax", "", Malformed},
		{"half a surrogate pair", `["\ud800"]`, "syntax", "", Malformed},
		{"duplicate", `{"a":1,"a":2}`, "duplicate", "/a", Malformed},
		{"duplicate by escape", `{"a":1,"\u0061":2}`, "duplicate", "/a", Malformed},
		{"duplicate inside", `{"x":[{"b":{"c":1,"c":2}}]}`, "duplicate", "/x/0/b/c", Malformed},
		{"too deep", strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1), "too_deep", "", Malformed},
		{"too many values", "[" + strings.Repeat("1,", MaxValues) + "1]", "too_many", "", TooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := newParser().parse([]byte(tc.text))
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("error %v, want an *Error", err)
			}
			f := e.Faults[0]
			if e.Kind != tc.kind || f.Code != tc.code {
				t.Errorf("kind %d code %q, want %d %q", e.Kind, f.Code, tc.kind, tc.code)
			}
			if tc.pointer != "" && f.Pointer != tc.pointer {
				t.Errorf("pointer %q, want %q", f.Pointer, tc.pointer)
			}
		})
	}
}

func TestDeepestDocument(t *testing.T) {
	t.Parallel()
	d := parseText(t, strings.Repeat("[", MaxDepth)+strings.Repeat("]", MaxDepth))
	if len(d.nodes) != MaxDepth {
		t.Errorf("%d values, want %d", len(d.nodes), MaxDepth)
	}
}

func TestErrorsRepeatNoValues(t *testing.T) {
	t.Parallel()
	_, err := newParser().parse([]byte(`{"key":"sk-secret-1" x}`))
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v, want one without the text", err)
	}
}

func TestElements(t *testing.T) {
	t.Parallel()
	d := parseText(t, ` {"a":{"b":[true,"x\u0041y",12,1.5,null,{"~/":{}}]},"\u0063":"d"} `)
	list := d.root().get("a").get("b")
	var raw []string
	for e := range list.all() {
		raw = append(raw, string(e.raw()))
	}
	if got, want := strings.Join(raw, " "), `true "x\u0041y" 12 1.5 null {"~/":{}}`; got != want {
		t.Errorf("elements %s, want %s", got, want)
	}
	if got := d.root().get("c").str(); got != "d" {
		t.Errorf("escaped name: %q, want d", got)
	}
	last := elem{}
	for e := range list.all() {
		last = e
	}
	if got, want := last.get("~/").pointer(), "/a/b/5/~0~1"; got != want {
		t.Errorf("pointer %q, want %q", got, want)
	}
	if got := d.root().pointer(); got != "" {
		t.Errorf("pointer of the root %q, want none", got)
	}
	absent := d.root().get("z").get("y")
	if absent.ok() || absent.set() || absent.str() != "" || absent.raw() != nil || absent.pointer() != "" {
		t.Error("an absent value is not empty")
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		count, whole int64 // -1: refused
	}{
		"0": {0, 0}, "12": {12, 12}, "1099511627776": {MaxTokens, MaxTokens}, "1099511627777": {-1, -1},
		"-1": {-1, -1}, "12.0": {-1, 12}, "1.5": {-1, -1}, "1e2": {-1, 100}, "1e400": {-1, -1},
		"99999999999999999999": {-1, -1}, `"1"`: {-1, -1}, "true": {-1, -1},
	} {
		e := parseText(t, text).root()
		if n, ok := e.count(); ok != (want.count >= 0) || ok && n != want.count {
			t.Errorf("count of %s: %d %v, want %d", text, n, ok, want.count)
		}
		if n, ok := e.whole(); ok != (want.whole >= 0) || ok && n != want.whole {
			t.Errorf("whole of %s: %d %v, want %d", text, n, ok, want.whole)
		}
	}
}

func TestTwins(t *testing.T) {
	t.Parallel()
	list := known("max_tokens", "stream")
	for name, want := range map[string]bool{
		"max_tokens": false, "stream": false, "other": false, "streams": false, "": false,
		"MAX_TOKENS": true, "maxTokens": true, "max-tokens": true, "Stream": true, "s_tream": true,
		"\u017ftream": true, "max_to\u212aens": true, `max_token\u0053`: true,
	} {
		d := parseText(t, `{"`+name+`":1}`)
		for m := range d.root().all() {
			if got := list.twin(m); got != want {
				t.Errorf("%q: twin %v, want %v", name, got, want)
			}
		}
	}
}

package policies

import (
	"errors"
	"testing"
)

func TestMeasure(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		src   map[string]string
		rules int
		work  int
		line  int // of the largest rule
	}{
		{"nothing", nil, 0, 0, 0},
		{"data is none of it", map[string]string{"data.json": "[", "README.md": "p {"}, 0, 0, 0},
		// The head of a rule is no reference; its value is an expression of none.
		{"rules", map[string]string{"a.rego": "package a\n\nx := 1\n\ny if input.a\n\ny if {\n\tinput.b\n\tinput.c\n}\n"}, 3, 1 + 4 + 16, 7},
		{"tests count", map[string]string{"a.rego": "package a\n\nx := 1\n", "a_test.rego": "package a_test\n\ntest_x if data.a.x\n"}, 2, 1 + 4, 3},
		{"default and else", map[string]string{"a.rego": "package a\n\ndefault x := 1\n\nx := 2 if {\n\tinput.a\n} else := 3 if {\n\tinput.b\n} else := 4\n"}, 4, 1 + 25, 5},
		{"nested", map[string]string{"a.rego": "package a\n\nx if [1 | input.a; [2 | input.b]]\n"}, 1, 36, 3},
		{"a call", map[string]string{"a.rego": "package a\n\nx := count(input.a)\n"}, 1, 16, 3},
	} {
		src := Source{}
		for name, text := range tt.src {
			src[name] = []byte(text)
		}
		got, err := Measure(src)
		if err != nil || got.Rules != tt.rules || got.Work != tt.work || got.Largest.Line != tt.line {
			t.Errorf("%s: %+v and %v, want %d rules, work %d, the largest in line %d", tt.name, got, err, tt.rules, tt.work, tt.line)
		}
	}
	if n := RegoBytes(Source{"a.rego": make([]byte, 5), "a_test.rego": make([]byte, 6), "data.json": make([]byte, 7)}); n != 11 {
		t.Errorf("%d bytes of Rego, want 11", n)
	}
	_, err := Measure(Source{"a.rego": []byte("package a\n\nx if {")})
	if list, ok := errors.AsType[Faults](err); !ok || list[0].Line != 3 {
		t.Errorf("what can't be parsed: %v", err)
	}
}

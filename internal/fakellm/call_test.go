package fakellm

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadCall(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		shape shape
		body  string
		want  call
	}{
		{"the least of OpenAI", openAI, `{"model":"m","messages":[{"role":"user","content":"one two"}]}`,
			call{shape: openAI, model: "m", choices: 1, limit: math.MaxInt, prompt: 2, last: "one two"}},
		{"all of OpenAI", openAI, `{"model":"m","stream":true,"stream_options":{"include_usage":true},"n":3,"max_completion_tokens":7,
			"messages":[{"role":"system","content":"be kind"},{"role":"user","content":"first"},
				{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f","arguments":"{\"a\": 1}"}}]},
				{"role":"user","content":[{"type":"text","text":"one two"},{"type":"image_url","image_url":{"url":"data:x"}},{"type":"text","text":"three"}]}],
			"tools":[{"type":"function","function":{"name":"f","description":"does this"}},{"type":"function","function":{"name":"g"}}]}`,
			call{shape: openAI, model: "m", stream: true, usage: true, choices: 3, limit: 7, prompt: 2 + 1 + 2 + (2 + 1 + 1) + 2, tool: "f", last: "one two three"}},
		{"the old limit of OpenAI", openAI, `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":""}]}`,
			call{shape: openAI, model: "m", choices: 1, limit: 9}},
		{"the last of two members counts", openAI, `{"model":"a","Model":"b","messages":[{"role":"user","content":"one"}]}`,
			call{shape: openAI, model: "b", choices: 1, limit: math.MaxInt, prompt: 1, last: "one"}},
		{"nobody speaks", openAI, `{"model":"m","messages":[{"role":"system","content":17}]}`,
			call{shape: openAI, model: "m", choices: 1, limit: math.MaxInt, prompt: 1}},
		{"Anthropic with a system text", anthropic, `{"model":"m","max_tokens":5,"system":"be kind","messages":[{"role":"user","content":"one two"}]}`,
			call{shape: anthropic, model: "m", usage: true, choices: 1, limit: 5, prompt: 4, last: "one two"}},
		{"Anthropic with blocks", anthropic, `{"model":"m","max_tokens":5,"stream":true,"system":[{"type":"text","text":"be"},{"type":"text","text":"very kind"}],
			"messages":[{"role":"user","content":[{"type":"text","text":"one two"}]},{"role":"assistant","content":[{"type":"tool_use","input":{"a": 1}}]}],
			"tools":[{"name":"f","description":"does this"}]}`,
			call{shape: anthropic, model: "m", stream: true, usage: true, choices: 1, limit: 5, prompt: 3 + 2 + 2 + 2, tool: "f", last: "one two"}},
	}
	for _, tt := range tests {
		got, f := readCall(tt.shape, []byte(tt.body))
		if f != nil {
			t.Errorf("%s: %+v", tt.name, *f)
			continue
		}
		if diff := cmp.Diff(tt.want, *got, cmp.AllowUnexported(call{})); diff != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, diff)
		}
	}
}

func TestReadCallRefuses(t *testing.T) {
	t.Parallel()
	const user = `"messages":[{"role":"user","content":"one"}]`
	tests := []struct {
		shape      shape
		body, says string
	}{
		{openAI, `{`, "parse the JSON body"},
		{openAI, `{` + user + `}`, "model"},
		{openAI, `{"model":"m"}`, "messages"},
		{openAI, `{"model":"m","n":0,` + user + `}`, "n: "},
		{openAI, `{"model":"m","n":129,` + user + `}`, "n: "},
		{openAI, `{"model":"m","max_tokens":0,` + user + `}`, "max_tokens"},
		{openAI, `{"model":"m","max_tokens":5,"max_completion_tokens":5,` + user + `}`, "at the same time"},
		{anthropic, `[]`, "not valid JSON"},
		{anthropic, `{"model":"m",` + user + `}`, "max_tokens: Field required"},
		{anthropic, `{"model":"m","max_tokens":-1,` + user + `}`, "max_tokens"},
		{anthropic, `{"model":"m","max_tokens":5,"messages":[]}`, "messages"},
	}
	for _, tt := range tests {
		_, f := readCall(tt.shape, []byte(tt.body))
		if f == nil || f.status != 400 || !strings.Contains(f.message, tt.says) {
			t.Errorf("%s %s: fault %+v, want 400 with %q", tt.shape, tt.body, f, tt.says)
		}
	}
}

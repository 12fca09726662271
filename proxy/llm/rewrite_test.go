package llm

import (
	"strings"
	"testing"
)

func TestRewrite(t *testing.T) {
	t.Parallel()
	const tail = `"messages":[{"role":"user","content":"a \u0041 \/"}] , "x" : [ 1.0 ] }`
	both := Changes{MaxOutput: 500, IncludeUsage: true}
	for _, tc := range []struct {
		name       string
		format     Format
		body, want string
		change     Changes
	}{
		{"nothing", OpenAI, ` {"model":"m", ` + tail, ` {"model":"m", ` + tail, Changes{}},
		{"limit inserted", OpenAI, `{ "model":"m", ` + tail, `{"max_completion_tokens":500, "model":"m", ` + tail, both},
		{"limit clamped", OpenAI, `{"model":"m","max_tokens" : 501,` + tail, `{"model":"m","max_tokens" : 500,` + tail, both},
		{"limit kept", OpenAI, `{"model":"m","max_tokens":500,` + tail, `{"model":"m","max_tokens":500,` + tail, both},
		{"both limits", OpenAI, `{"model":"m","max_tokens":600,"max_completion_tokens":700,` + tail, `{"model":"m","max_tokens":500,"max_completion_tokens":500,` + tail, both},
		{"one of both", OpenAI, `{"model":"m","max_tokens":100,"max_completion_tokens":700,` + tail, `{"model":"m","max_tokens":100,"max_completion_tokens":500,` + tail, both},
		{"null in the way", OpenAI, `{"model":"m","max_tokens":null,` + tail, `{"model":"m","max_tokens":500,` + tail, both},
		{"null beside", OpenAI, `{"model":"m","max_tokens":null,"max_completion_tokens":900,` + tail, `{"model":"m","max_tokens":null,"max_completion_tokens":500,` + tail, both},
		{"escaped name", OpenAI, `{"model":"m","max\u005ftokens":900,` + tail, `{"model":"m","max\u005ftokens":500,` + tail, both},
		{"usage inserted", OpenAI, `{"model":"m","stream":true,"max_tokens":1,` + tail,
			`{"stream_options":{"include_usage":true},"model":"m","stream":true,"max_tokens":1,` + tail, both},
		{"limit and usage", OpenAI, `{"model":"m","stream":true,` + tail,
			`{"max_completion_tokens":500,"stream_options":{"include_usage":true},"model":"m","stream":true,` + tail, both},
		{"usage in options", OpenAI, `{"model":"m","stream":true,"stream_options":{ "include_obfuscation":false},` + tail,
			`{"model":"m","stream":true,"stream_options":{"include_usage":true, "include_obfuscation":false},` + tail, Changes{IncludeUsage: true}},
		{"usage in empty options", OpenAI, `{"model":"m","stream":true,"stream_options":{},` + tail,
			`{"model":"m","stream":true,"stream_options":{"include_usage":true},` + tail, Changes{IncludeUsage: true}},
		{"options null", OpenAI, `{"model":"m","stream":true,"stream_options":null,` + tail,
			`{"model":"m","stream":true,"stream_options":{"include_usage":true},` + tail, Changes{IncludeUsage: true}},
		{"usage refused", OpenAI, `{"model":"m","stream":true,"stream_options":{"include_usage":false},` + tail,
			`{"model":"m","stream":true,"stream_options":{"include_usage":true},` + tail, Changes{IncludeUsage: true}},
		{"usage asked for", OpenAI, `{"model":"m","stream":true,"stream_options":{"include_usage" : true},` + tail,
			`{"model":"m","stream":true,"stream_options":{"include_usage" : true},` + tail, Changes{IncludeUsage: true}},
		{"no stream, no usage", OpenAI, `{"model":"m","max_tokens":5,` + tail, `{"model":"m","max_tokens":5,` + tail, both},
		{"Anthropic", Anthropic, `{"model":"m","stream":true,"max_tokens":600,` + tail, `{"model":"m","stream":true,"max_tokens":500,` + tail, both},
		{"Anthropic, inserted", Anthropic, `{"model":"m",` + tail, `{"max_tokens":500,"model":"m",` + tail, both},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			body := []byte(tc.body)
			got, err := Rewrite(mustParse(t, tc.format, tc.body), tc.change)
			if err != nil || string(got) != tc.want {
				t.Errorf("got  %s (%v)\nwant %s", got, err, tc.want)
			}
			if string(body) != tc.body {
				t.Error("the body was changed")
			}
		})
	}
}

func TestRewriteRefuses(t *testing.T) {
	t.Parallel()
	r := mustParse(t, OpenAI, `{"model":"m",`+hello+`}`)
	for name, f := range map[string]func() ([]byte, error){
		"negative limit":       func() ([]byte, error) { return Rewrite(r, Changes{MaxOutput: -1}) },
		"request of no parse":  func() ([]byte, error) { return Rewrite(&Request{Format: OpenAI}, Changes{}) },
		"request of no format": func() ([]byte, error) { return Rewrite(&Request{}, Changes{}) },
	} {
		if b, err := f(); err == nil || b != nil {
			t.Errorf("%s: %q %v, want an error alone", name, b, err)
		}
	}
}

// checkRewrite is the property that every accepted request has: the rewritten
// body is accepted, says what was asked for, and differs in nothing else.
func checkRewrite(t *testing.T, f Format, body []byte, limit int64) {
	t.Helper()
	r, err := Parse(f, body)
	if err != nil {
		return
	}
	out, err := Rewrite(r, Changes{MaxOutput: limit, IncludeUsage: true})
	if err != nil {
		t.Fatalf("rewrite of %s: %v", body, err)
	}
	again, err := Parse(f, out)
	if err != nil {
		t.Fatalf("%s became %s: %v", body, out, err)
	}
	if !again.Limited || again.MaxOutput != r.Output(limit) || again.Stream && !again.IncludeUsage {
		t.Fatalf("%s became %s: limit %d usage %v", body, out, again.MaxOutput, again.IncludeUsage)
	}
	if a, b := without(r), without(again); a != b {
		t.Fatalf("other bytes changed:\n%s\n%s", a, b)
	}
	twice, err := Rewrite(again, Changes{MaxOutput: limit, IncludeUsage: true})
	if err != nil || string(twice) != string(out) {
		t.Fatalf("a second rewrite changed %s to %s (%v)", out, twice, err)
	}
}

// without lists the top-level members that a rewrite leaves alone, as sent.
func without(r *Request) string {
	var b strings.Builder
	for m := range r.root.all() {
		switch m.name() {
		case "max_tokens", "max_completion_tokens":
		case "stream_options":
			for o := range m.all() {
				if !o.named("include_usage") {
					b.WriteString(o.name() + "=" + string(o.raw()) + ";")
				}
			}
		default:
			b.WriteString(m.name() + "=" + string(m.raw()) + ";")
		}
	}
	return b.String()
}

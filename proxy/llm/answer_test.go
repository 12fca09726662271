package llm

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func mustAnswer(t testing.TB, f Format, body string) *Answer {
	t.Helper()
	a, err := ParseAnswer(f, []byte(body))
	if err != nil {
		t.Fatalf("ParseAnswer(%s, %s): %v", f, body, err)
	}
	return a
}

const completion = `{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o","choices":[
 {"index":0,"message":{"role":"assistant","content":"Hel\u006co","refusal":null,"annotations":[{"type":"url_citation","url_citation":{"url":"https://x","title":"X"}}]},"logprobs":{"content":[{"token":"Hello","bytes":[72]}]},"finish_reason":"stop"},
 {"index":1,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"call_2","type":"custom","custom":{"name":"g","input":"x"}}]},"logprobs":null,"finish_reason":"tool_calls"},
 {"index":2,"message":{"role":"assistant","refusal":"No.","reasoning_content":"hm","audio":{"id":"a","data":"AAAA","transcript":"la","expires_at":1}},"finish_reason":"stop"}],
 "usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29},"service_tier":"default","system_fingerprint":null}`

func TestAnswerOpenAI(t *testing.T) {
	t.Parallel()
	a := mustAnswer(t, OpenAI, completion)
	whole := func(k Key, v string) Text { return Text{Key: k, Value: v, Whole: true} }
	url := "/choices/0/message/annotations/0/url_citation/"
	want := &Answer{
		Format: OpenAI,
		Texts: []Text{
			whole(Key{Field: FieldContent}, "Hello"),
			whole(Key{Field: FieldOther, Name: url + "url"}, "https://x"),
			whole(Key{Field: FieldOther, Name: url + "title"}, "X"),
			whole(Key{Field: FieldToolName, Choice: 1, Name: "function"}, "f"),
			whole(Key{Field: FieldToolInput, Choice: 1, Name: "function"}, `{"a":1}`),
			whole(Key{Field: FieldToolName, Choice: 1, Index: 1, Name: "custom"}, "g"),
			whole(Key{Field: FieldToolInput, Choice: 1, Index: 1, Name: "custom"}, "x"),
			whole(Key{Field: FieldReasoning, Choice: 2, Name: "reasoning_content"}, "hm"),
			whole(Key{Field: FieldRefusal, Choice: 2}, "No."),
			whole(Key{Field: FieldContent, Choice: 2, Name: transcript}, "la"),
		},
		Finish: []string{"stop", "tool_calls", "stop"},
		Usage:  Usage{Input: 19, Output: 10, Seen: true, Final: true},
		Counts: Counts{Text: 22, Other: 10},
	}
	if d := cmp.Diff(want, a, cmpopts.IgnoreUnexported(Answer{}, Text{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestHiddenTokensOfAnswers(t *testing.T) {
	t.Parallel()
	message := func(b string) string { return `{"type":"message","content":[` + b + `]}` }
	for _, tc := range []struct {
		format Format
		body   string
		want   Hidden
	}{
		{Anthropic, message(`{"type":"text","text":"a"}`), HiddenUnknown},
		{Anthropic, message(`{"type":"thinking","thinking":"","signature":"x"}`), HiddenSome},
		{Anthropic, message(`{"type":"thinking","thinking":"a","signature":"x"}`), HiddenUnknown},
		{Anthropic, message(`{"type":"redacted_thinking","data":"x"}`), HiddenSome},
		{OpenAI, usageChunk, HiddenSome},
		{OpenAI, `{"choices":[]}`, HiddenUnknown},
	} {
		if got := mustAnswer(t, tc.format, tc.body).Hidden; got != tc.want {
			t.Errorf("%s: %d, want %d", tc.body, got, tc.want)
		}
	}
}

func TestTotal(t *testing.T) {
	t.Parallel()
	if got := (Usage{Input: 15, Output: 6, Reasoning: 3, CacheRead: 4}).Total(); got != 21 {
		t.Errorf("total %d, want 21", got)
	}
}

func TestAnswerAnthropic(t *testing.T) {
	t.Parallel()
	a := mustAnswer(t, Anthropic, `{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[
 {"type":"thinking","thinking":"hm","signature":"EqQB"},
 {"type":"redacted_thinking","data":"EmwK"},
 {"type":"text","text":"Hi!","citations":[{"type":"char_location","cited_text":"q","document_index":0}]},
 {"type":"tool_use","id":"toolu_1","name":"f","input":{"a":[1]}},
 {"type":"tool_use","id":"toolu_2","name":"g","input":{}},
 {"type":"web_search_tool_result","tool_use_id":"t","content":[{"type":"web_search_result","url":"https://x","title":"X","encrypted_content":"Eq","page_age":null}]}],
 "stop_reason":"tool_use","stop_sequence":null,"stop_details":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":null,"output_tokens":6,"server_tool_use":{"web_search_requests":1}}}`)
	want := &Answer{
		Format: Anthropic,
		Texts: []Text{
			{Key: Key{Field: FieldReasoning}, Value: "hm", Whole: true},
			{Key: Key{Field: FieldContent, Index: 2}, Value: "Hi!", Whole: true},
			{Key: Key{Field: FieldOther, Index: 2, Name: "/content/2/citations/0/cited_text"}, Value: "q", Whole: true},
			{Key: Key{Field: FieldToolName, Index: 3}, Value: "f", Whole: true},
			{Key: Key{Field: FieldToolInput, Index: 3}, Value: `{"a":[1]}`, Whole: true, JSON: true},
			{Key: Key{Field: FieldToolName, Index: 4}, Value: "g", Whole: true},
			{Key: Key{Field: FieldOther, Index: 5, Name: "/content/5/content/0/url"}, Value: "https://x", Whole: true},
			{Key: Key{Field: FieldOther, Index: 5, Name: "/content/5/content/0/title"}, Value: "X", Whole: true},
		},
		Finish: []string{"tool_use"},
		Usage:  Usage{Input: 15, Output: 6, CacheMade: 5, Seen: true, Final: true},
		Counts: Counts{Text: 16, Other: 11},
		Hidden: HiddenSome,
	}
	if d := cmp.Diff(want, a, cmpopts.IgnoreUnexported(Answer{}, Text{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestAnswerErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		format Format
		body   string
		want   ProviderError
		texts  string
	}{
		{"OpenAI", OpenAI, `{"error":{"message":"Incorrect key","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`,
			ProviderError{"invalid_request_error", "invalid_api_key"}, "error:Incorrect key"},
		{"with a parameter", OpenAI, `{"error":{"message":"m","type":"t","param":"messages","code":null}}`, ProviderError{Type: "t"}, "error:m other:messages"},
		{"Anthropic", Anthropic, `{"type":"error","error":{"type":"not_found_error","message":"No model"},"request_id":"req_1"}`,
			ProviderError{Type: "not_found_error"}, "error:No model"},
	} {
		a := mustAnswer(t, tc.format, tc.body)
		if a.Err == nil || *a.Err != tc.want || a.Usage.Seen || a.Counts.Text != 0 {
			t.Errorf("%s: %+v %+v, want the error %+v without usage and text", tc.name, a, a.Err, tc.want)
		}
		var texts []string
		for _, x := range a.Texts {
			texts = append(texts, x.Key.Field.String()+":"+x.Value)
		}
		if got := strings.Join(texts, " "); got != tc.texts {
			t.Errorf("%s: texts %s, want %s", tc.name, got, tc.texts)
		}
	}
}

func TestAnswersThatAreRefused(t *testing.T) {
	t.Parallel()
	evil := `DROP TABLE users;`
	for _, tc := range []struct {
		name   string
		format Format
		body   string
		kind   Kind
	}{
		{"a page", OpenAI, `<html>` + evil, Malformed},
		{"a stream", OpenAI, `data: {"choices":[]}` + "\n\n", Malformed},
		{"cut", OpenAI, completion[:200], Malformed},
		{"duplicate content", OpenAI, `{"choices":[{"message":{"content":"safe","content":"` + evil + `"}}]}`, Malformed},
		{"content in capitals", OpenAI, `{"choices":[{"message":{"content":"safe","Content":"` + evil + `"}}]}`, Invalid},
		{"content in capitals inside a call", OpenAI, `{"choices":[{"message":{"tool_calls":[{"function":{"Arguments":"x"}}]}}]}`, Invalid},
		{"neither answer nor error", OpenAI, `{"text":"` + evil + `"}`, Invalid},
		{"a list", OpenAI, `[]`, Invalid},
		{"error of a wrong type", OpenAI, `{"error":"` + evil + `"}`, Invalid},
		{"error without a message", OpenAI, `{"error":{"type":"x"}}`, Invalid},
		{"usage below zero", OpenAI, `{"choices":[],"usage":{"completion_tokens":-5}}`, Invalid},
		{"usage in capitals", OpenAI, `{"choices":[],"usage":{"Prompt_Tokens":5}}`, Invalid},
		{"the other format", Anthropic, completion, Invalid},
		{"content of a wrong type", Anthropic, `{"type":"message","content":"` + evil + `"}`, Invalid},
		{"block of a wrong type", Anthropic, `{"type":"message","content":["` + evil + `"]}`, Invalid},
		{"text in capitals", Anthropic, `{"type":"message","content":[{"type":"text","Text":"` + evil + `"}]}`, Invalid},
		{"error of a wrong type, Anthropic", Anthropic, `{"type":"error","error":"` + evil + `"}`, Invalid},
	} {
		_, err := ParseAnswer(tc.format, []byte(tc.body))
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Kind != tc.kind {
			t.Errorf("%s: error %v, want kind %d", tc.name, err, tc.kind)
			continue
		}
		if strings.Contains(err.Error(), evil) {
			t.Errorf("%s: the error repeats the text: %v", tc.name, err)
		}
	}
	if _, err := ParseAnswer(OpenAI, make([]byte, MaxAnswerBytes+1)); err == nil || err.(*Error).Kind != TooLarge {
		t.Errorf("too large: %v", err)
	}
	if _, err := ParseAnswer("gemini", []byte(`{}`)); err == nil {
		t.Error("an unknown format was read")
	}
}

// TestUnknownMembersAreSeen: no text passes because a provider invented a
// member for it, and none is taken twice.
func TestUnknownMembersAreSeen(t *testing.T) {
	t.Parallel()
	a := mustAnswer(t, OpenAI, `{"choices":[{"message":{"content":[{"type":"text","text":"a"}],"thoughts":{"deep":["b"]}},"extra":"c"}],"citations":["d"],"id":"i"}`)
	var got []string
	for _, x := range a.Texts {
		if x.Key.Field != FieldOther || !x.Whole {
			t.Errorf("text %+v, want another whole one", x)
		}
		got = append(got, x.Key.Name+"="+x.Value)
	}
	want := []string{"/choices/0/message/content/0/text=a", "/choices/0/message/thoughts/deep/0=b", "/choices/0/extra=c", "/citations/0=d"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestLongNamesAreCut(t *testing.T) {
	t.Parallel()
	a := mustAnswer(t, OpenAI, `{"choices":[],"`+strings.Repeat("x", 2*maxNameBytes)+`":"y"}`)
	if len(a.Texts) != 1 || len(a.Texts[0].Key.Name) != maxNameBytes {
		t.Errorf("texts %+v, want one under a name of %d bytes", a.Texts, maxNameBytes)
	}
}

func TestAppendAnswer(t *testing.T) {
	t.Parallel()
	a := mustAnswer(t, OpenAI, completion)
	texts := make([]string, len(a.Texts))
	for i, x := range a.Texts {
		texts[i] = x.Value
	}
	for name, list := range map[string][]string{"nil": nil, "the same": texts} {
		if got, err := a.Append(nil, list, false); err != nil || string(got) != completion {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
	texts[0], texts[4] = "He\"y", "{}"
	got, err := a.Append([]byte(">"), texts, true)
	want := ">" + strings.NewReplacer(`"Hel\u006co"`, `"He\"y"`, `"{\"a\":1}"`, `"{}"`,
		`{"content":[{"token":"Hello","bytes":[72]}]}`, `null`).Replace(completion)
	if err != nil || string(got) != want {
		t.Errorf("%v\n got %s\nwant %s", err, got, want)
	}
	if got, err := a.Append([]byte(">"), texts[1:], false); !errors.Is(err, errTexts) || string(got) != ">" {
		t.Errorf("too few texts: %q %v", got, err)
	}
}

// checkAnswer is the property of every accepted answer: what is written back
// unchanged is the same, and new texts are found again in their places.
func checkAnswer(t *testing.T, f Format, body []byte) {
	t.Helper()
	a, err := ParseAnswer(f, body)
	if err != nil {
		return
	}
	texts := make([]string, len(a.Texts))
	for i, x := range a.Texts {
		if texts[i] = "<" + x.Value + ">"; x.JSON {
			texts[i] = `{"new":` + x.Value + `}`
		}
	}
	if same, err := a.Append(nil, nil, false); err != nil || string(same) != string(body) {
		t.Fatalf("%s became %s: %v", body, same, err)
	}
	out, err := a.Append(nil, texts, false)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	again, err := ParseAnswer(f, out)
	if e, ok := errors.AsType[*Error](err); ok && (e.Kind == TooLarge || strings.Contains(e.Error(), "deep")) {
		return // the new texts are longer, and JSON is nested one deeper
	}
	if err != nil || len(again.Texts) != len(texts) {
		t.Fatalf("%s became %s: %v", body, out, err)
	}
	for i, x := range again.Texts {
		if x.Value != texts[i] || x.Key != a.Texts[i].Key {
			t.Fatalf("text %d: %+v, want %q at %+v", i, x, texts[i], a.Texts[i].Key)
		}
	}
}

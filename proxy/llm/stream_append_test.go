package llm

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReplaceInFrames(t *testing.T) {
	t.Parallel()
	const before = ` {"choices":[{"index":0,"logprobs":{"content":[{"token":"DROP"}]},"delta":{"content":"a\u0062", "x":["y"],` +
		`"tool_calls":[{"index":0,"id":"i","function":{"name":"n","arguments":"{}"}}]}}],"usage" : null}`
	s, err := NewStream(OpenAI, StreamOptions{DropLogprobs: true})
	if err != nil {
		t.Fatal(err)
	}
	ev := s.Next(event("chunk", before))
	if len(ev.Texts) != 4 {
		t.Fatalf("texts %+v, want 4", ev.Texts)
	}
	blank := strings.Replace(before, `{"content":[{"token":"DROP"}]}`, "null", 1)
	for _, tc := range []struct {
		texts []string
		want  string
	}{
		{nil, blank},
		{[]string{"ab", "n", "{}", "y"}, blank},
		{[]string{"a\"\n", "n", `{"q":1}`, ""}, strings.NewReplacer(`"a\u0062"`, `"a\"\n"`, `"{}"`, `"{\"q\":1}"`, `"y"`, `""`).Replace(blank)},
	} {
		got, err := s.Append([]byte(">"), tc.texts)
		if want := ">event: chunk\ndata: " + tc.want + "\n\n"; err != nil || string(got) != want {
			t.Errorf("%q: %v\n got %s\nwant %s", tc.texts, err, got, want)
		}
	}
	for _, texts := range [][]string{{}, {"a"}, {"\xff", "n", "{}", "y"}} {
		if got, err := s.Append([]byte(">"), texts); !errors.Is(err, errTexts) || string(got) != ">" {
			t.Errorf("%q: %q %v, want an error and nothing written", texts, got, err)
		}
	}
}

func TestReplaceInSeveralDataLines(t *testing.T) {
	t.Parallel()
	s, err := NewStream(OpenAI, StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	frames, _ := decode("data: {\"choices\":[\ndata: {\"delta\":{\"content\":\"a\"}}\ndata: ]}\n\n")
	if ev := s.Next(frames[0]); len(ev.Texts) != 1 {
		t.Fatalf("event %+v, want one text", ev)
	}
	got, err := s.Append(nil, []string{"b"})
	if want := "data: {\"choices\":[\ndata: {\"delta\":{\"content\":\"b\"}}\ndata: ]}\n\n"; err != nil || string(got) != want {
		t.Errorf("got %q %v, want %q", got, err, want)
	}
}

func TestInputThatIsJSON(t *testing.T) {
	t.Parallel()
	s, err := NewStream(Anthropic, StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ev := s.Next(data(`{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{"q":"x"}}}`))
	if len(ev.Texts) != 2 || !ev.Texts[1].JSON || ev.Texts[1].Value != `{"q":"x"}` {
		t.Fatalf("texts %+v, want the input as JSON", ev.Texts)
	}
	got, err := s.Append(nil, []string{"f", `{"q":"y"}`})
	if err != nil || !strings.Contains(string(got), `"input":{"q":"y"}}}`) {
		t.Errorf("got %s %v", got, err)
	}
	if _, err := s.Append(nil, []string{"f", `{"q":"y"`}); !errors.Is(err, errTexts) {
		t.Errorf("a broken input: %v, want %v", err, errTexts)
	}
}

// TestAppendText sends what was held back of a text, and reads it again.
func TestAppendText(t *testing.T) {
	t.Parallel()
	tail := "\"tail\n\u2028"
	sendable := map[Format][]Key{
		OpenAI: {
			{Field: FieldContent}, {Field: FieldContent, Choice: 3}, {Field: FieldContent, Name: transcript}, {Field: FieldRefusal, Choice: 1},
			{Field: FieldReasoning, Name: "reasoning"}, {Field: FieldReasoning, Name: "reasoning_content"},
			{Field: FieldToolInput, Choice: 2, Index: 4, Name: "function"}, {Field: FieldToolInput, Index: 1, Name: "custom"},
			{Field: FieldToolInput, Name: "function_call"},
		},
		Anthropic: {{Field: FieldContent, Index: 2}, {Field: FieldReasoning}, {Field: FieldToolInput, Index: 9}},
	}
	for f, keys := range sendable {
		for _, key := range keys {
			s, err := NewStream(f, StreamOptions{})
			if err != nil {
				t.Fatal(err)
			}
			out, err := s.AppendText(nil, key, tail)
			if err != nil {
				t.Errorf("%s %+v: %v", f, key, err)
				continue
			}
			got := listen(t, f, StreamOptions{}, string(out), 1000)
			if d := cmp.Diff(map[Key]string{key: tail}, got.texts); d != "" {
				t.Errorf("%s %+v: %s (-want +got):\n%s", f, key, out, d)
			}
		}
		s, _ := NewStream(f, StreamOptions{})
		for _, key := range []Key{{}, {Field: FieldOther}, {Field: FieldToolName, Name: "function"}, {Field: FieldError}} {
			if out, err := s.AppendText(nil, key, "x"); !errors.Is(err, errKey) || out != nil {
				t.Errorf("%s %+v: %q %v, want %v", f, key, out, err, errKey)
			}
		}
		if _, err := s.AppendText(nil, keys[0], "\xff"); !errors.Is(err, errTexts) {
			t.Errorf("%s: text that is not UTF-8: %v", f, err)
		}
	}
}

func TestAppendTextHasTheStreamsHead(t *testing.T) {
	t.Parallel()
	s, err := NewStream(OpenAI, StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.Next(data(chunk(delta(0, `{"content":"a"}`))))
	got, err := s.AppendText(nil, Key{Field: FieldContent}, "b")
	want := `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{"content":"b"},"finish_reason":null}]}` + "\n\n"
	if err != nil || string(got) != want {
		t.Errorf("got %s %v\nwant %s", got, err, want)
	}
}

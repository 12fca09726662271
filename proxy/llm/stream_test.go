package llm

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// heard is what a client hears of a stream.
type heard struct {
	texts    map[Key]string
	closed   []Key
	kinds    []EventKind
	removed  int
	progress Progress
	out      string
}

// listen runs a stream through Decoder and Stream, in chunks of n bytes.
func listen(t testing.TB, f Format, opts StreamOptions, text string, n int) heard {
	t.Helper()
	s, err := NewStream(f, opts)
	if err != nil {
		t.Fatal(err)
	}
	h := heard{texts: map[Key]string{}}
	var d Decoder
	for len(text) > 0 {
		size := min(n, len(text))
		frames, err := d.Write([]byte(text[:size]))
		if err != nil {
			t.Fatal(err)
		}
		h.take(t, s, frames)
		text = text[size:]
	}
	frames, err := d.Close()
	if err != nil {
		t.Fatal(err)
	}
	h.take(t, s, frames)
	h.progress = s.Progress()
	return h
}

func (h *heard) take(t testing.TB, s *Stream, frames []Frame) {
	t.Helper()
	for _, f := range frames {
		ev := s.Next(f)
		for _, x := range ev.Texts {
			h.texts[x.Key] += x.Value
		}
		h.closed = append(h.closed, ev.Closed...)
		h.kinds = append(h.kinds, ev.Kind)
		if ev.Remove {
			h.removed++
			continue
		}
		out, err := s.Append(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		h.out += string(out)
	}
}

func lines(format string, list ...string) string {
	var b strings.Builder
	for _, l := range list {
		b.WriteString(strings.ReplaceAll(format, "%", l))
	}
	return b.String()
}

func chunk(choices string) string {
	return `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[` + choices + `]}`
}

func delta(i int, d string) string {
	return `{"index":` + strconv.Itoa(i) + `,"delta":` + d + `,"finish_reason":null}`
}

func finished(i int) string {
	return `{"index":` + strconv.Itoa(i) + `,"delta":{},"finish_reason":"stop"}`
}

const usageChunk = `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,"completion_tokens_details":{"reasoning_tokens":4},"prompt_tokens_details":{"cached_tokens":3}}}`

func TestStreamOpenAI(t *testing.T) {
	t.Parallel()
	text := lines("data: %\n\n",
		chunk(delta(0, `{"role":"assistant","content":"","refusal":null}`)),
		chunk(delta(0, `{"content":"Hel"}`)+","+delta(1, `{"content":"Sa"}`)),
		chunk(delta(0, `{"content":"l\u006f"}`)),
		chunk(delta(1, `{"refusal":"No."}`)),
		chunk(delta(2, `{"reasoning_content":"hm"}`)),
		chunk(delta(3, `{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}},{"index":1,"function":{"name":"g","arguments":"{"}}]}`)),
		chunk(delta(3, `{"tool_calls":[{"index":1,"function":{"arguments":"}"}}]}`)),
		chunk(finished(0)), chunk(finished(1)+","+finished(2)), chunk(finished(3)),
		usageChunk, "[DONE]")
	want := map[Key]string{
		{Field: FieldContent}:                                          "Hello",
		{Field: FieldContent, Choice: 1}:                               "Sa",
		{Field: FieldRefusal, Choice: 1}:                               "No.",
		{Field: FieldReasoning, Choice: 2, Name: "reasoning_content"}:  "hm",
		{Field: FieldToolName, Choice: 3, Name: "function"}:            "f",
		{Field: FieldToolName, Choice: 3, Index: 1, Name: "function"}:  "g",
		{Field: FieldToolInput, Choice: 3, Index: 1, Name: "function"}: "{}",
	}
	closed := []Key{{Field: FieldContent}, {Field: FieldContent, Choice: 1}, {Field: FieldRefusal, Choice: 1},
		{Field: FieldReasoning, Choice: 2, Name: "reasoning_content"}, {Field: FieldToolInput, Choice: 3, Index: 1, Name: "function"}}
	progress := Progress{Usage: Usage{Input: 9, Output: 12, Reasoning: 4, CacheRead: 3, Seen: true, Final: true},
		Counts: Counts{Text: 16}, Done: true, Ended: true}
	for n := range 64 {
		got := listen(t, OpenAI, StreamOptions{}, text, n+1)
		if d := cmp.Diff(want, got.texts); d != "" {
			t.Fatalf("chunks of %d: texts (-want +got):\n%s", n+1, d)
		}
		if d := cmp.Diff(closed, got.closed); d != "" {
			t.Fatalf("chunks of %d: closed (-want +got):\n%s", n+1, d)
		}
		if d := cmp.Diff(progress, got.progress); d != "" {
			t.Fatalf("chunks of %d: progress (-want +got):\n%s", n+1, d)
		}
		if got.out != text {
			t.Fatalf("chunks of %d: written out as\n%s", n+1, got.out)
		}
	}
	if got := listen(t, OpenAI, StreamOptions{HideUsage: true}, text, 64); got.removed != 1 ||
		got.out != strings.Replace(text, "data: "+usageChunk+"\n\n", "", 1) || !got.progress.Usage.Final {
		t.Errorf("usage hidden: %d frames removed, out\n%s", got.removed, got.out)
	}
}

// TestOnlyExtraFramesAreRemoved: usage beside text, or without the list that
// makes it the extra frame, is not ours.
func TestOnlyExtraFramesAreRemoved(t *testing.T) {
	t.Parallel()
	usage := `"usage":{"prompt_tokens":1,"completion_tokens":1}`
	for frame, want := range map[string]int{
		`{"choices":[],` + usage + `}`:                                    1,
		`{"choices":[` + finished(0) + `],` + usage + `}`:                 0,
		`{"choices":[` + delta(0, `{"content":"a"}`) + `],` + usage + `}`: 0,
		`{"choices":[],"citations":["x"],` + usage + `}`:                  0,
		`{"choices":[],"usage":null}`:                                     0,
		`{"choices":[],"prompt_filter_results":[]}`:                       0,
		`{` + usage + `}`:                                                 0,
	} {
		if got := listen(t, OpenAI, StreamOptions{HideUsage: true}, "data: "+frame+"\n\n", 1000).removed; got != want {
			t.Errorf("%s: %d removed, want %d", frame, got, want)
		}
	}
}

func TestWholeTextsOfStreams(t *testing.T) {
	t.Parallel()
	s, err := NewStream(OpenAI, StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ev := s.Next(data(`{"choices":[{"index":0,"message":{"content":"all"},"delta":{"content":"piece","tool_calls":[{"function":{"name":"f","arguments":"{"}}],"new":"x"}}]}`))
	got := map[string]bool{}
	for _, x := range ev.Texts {
		got[x.Value] = x.Whole
	}
	if d := cmp.Diff(map[string]bool{"all": true, "piece": false, "f": true, "{": false, "x": true}, got); d != "" {
		t.Errorf("whole (-want +got):\n%s", d)
	}
}

func TestStreamKeepsLittle(t *testing.T) {
	t.Parallel()
	s, err := NewStream(OpenAI, StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.Next(data(`{"choices":[],"x":[` + strings.Repeat("1,", 20_000) + `1]}`))
	if ev := s.Next(data(chunk(delta(0, `{"content":"a"}`)))); len(ev.Texts) != 1 {
		t.Fatalf("event %+v, want a text", ev)
	}
	if got := cap(s.parser.doc.nodes); got > keepValues {
		t.Errorf("memory for %d values kept, want at most %d", got, keepValues)
	}
	large := strings.Repeat("x", 2*keepBytes)
	s.Next(data(chunk(delta(0, `{"content":"a"}`))))
	if out, err := s.Append(nil, []string{large}); err != nil || len(out) < len(large) {
		t.Fatal(err)
	}
	if got := cap(s.scratch); got > keepBytes {
		t.Errorf("%d bytes kept, want at most %d", got, keepBytes)
	}
}

func TestStreamAnthropic(t *testing.T) {
	t.Parallel()
	frames := []string{
		`{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"claude-sonnet-4-5","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":100,"cache_read_input_tokens":50,"output_tokens":1}}}`,
		`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB"}}`,
		`{"type":"content_block_stop","index":0}`,
		`{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}`,
		`{"type":"ping"}`,
		`{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hel"}}`,
		`{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"lo"}}`,
		`{"type":"content_block_stop","index":1}`,
		`{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"f","input":{}}}`,
		`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}`,
		`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"1}"}}`,
		`{"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"type":"char_location","cited_text":"quote","document_title":null}}}`,
		`{"type":"content_block_stop","index":2}`,
		`{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89}}`,
		`{"type":"message_stop"}`,
	}
	var b strings.Builder
	for _, f := range frames {
		kind, _, _ := strings.Cut(strings.TrimPrefix(f, `{"type":"`), `"`)
		b.WriteString("event: " + kind + "\ndata: " + f + "\n\n")
	}
	text := b.String()
	want := map[Key]string{
		{Field: FieldReasoning}:                                           "hm",
		{Field: FieldContent, Index: 1}:                                   "Hello",
		{Field: FieldToolName, Index: 2}:                                  "f",
		{Field: FieldToolInput, Index: 2}:                                 `{"a":1}`,
		{Field: FieldOther, Index: 1, Name: "/delta/citation/cited_text"}: "quote",
	}
	closed := []Key{{Field: FieldReasoning}, {Field: FieldContent, Index: 1}, {Field: FieldToolInput, Index: 2}}
	progress := Progress{Usage: Usage{Input: 175, Output: 89, CacheRead: 50, CacheMade: 100, Seen: true, Final: true},
		Counts: Counts{Text: 15, Other: 5}, Done: true, Ended: true}
	for _, n := range []int{1, 2, 3, 7, 100, len(text)} {
		got := listen(t, Anthropic, StreamOptions{HideUsage: true}, text, n)
		if d := cmp.Diff(want, got.texts); d != "" {
			t.Fatalf("chunks of %d: texts (-want +got):\n%s", n, d)
		}
		if d := cmp.Diff(closed, got.closed); d != "" {
			t.Fatalf("chunks of %d: closed (-want +got):\n%s", n, d)
		}
		if d := cmp.Diff(progress, got.progress); d != "" {
			t.Fatalf("chunks of %d: progress (-want +got):\n%s", n, d)
		}
		if got.out != text || got.removed != 0 {
			t.Fatalf("chunks of %d: written out as\n%s", n, got.out)
		}
	}
}

func TestUsageOfStreams(t *testing.T) {
	t.Parallel()
	u := func(in, out int) string {
		return `,"usage":{"prompt_tokens":` + strconv.Itoa(in) + `,"completion_tokens":` + strconv.Itoa(out) + `}`
	}
	body := func(choices, more string) string { return `{"choices":[` + choices + `]` + more + `}` }
	hi := delta(0, `{"content":"hi"}`)
	start := `{"type":"message_start","message":{"content":[],"usage":{"input_tokens":7,"output_tokens":2}}}`
	for _, tc := range []struct {
		name   string
		format Format
		frames []string
		want   Usage
	}{
		{"none", OpenAI, []string{body(hi, ""), body(finished(0), ""), "[DONE]"}, Usage{}},
		{"null", OpenAI, []string{body(hi, `,"usage":null`), body(finished(0), `,"usage":null`)}, Usage{}},
		{"with the last choice", OpenAI, []string{body(hi, ""), body(finished(0), u(3, 4))}, Usage{Input: 3, Output: 4, Seen: true, Final: true}},
		{"in a frame without choices", OpenAI, []string{body(hi, ""), body(finished(0), ""), `{"usage":{"prompt_tokens":3}}`}, Usage{Input: 3, Seen: true, Final: true}},
		{"on the way only", OpenAI, []string{body(hi, u(3, 1)), body(hi, u(3, 2))}, Usage{Input: 3, Output: 2, Seen: true}},
		{"in every frame, not growing", OpenAI, []string{body(hi, u(3, 9)), body(finished(0), u(2, 4))}, Usage{Input: 3, Output: 9, Seen: true, Final: true}},
		{"first, then text", OpenAI, []string{body("", u(3, 1)), body(hi, "")}, Usage{Input: 3, Output: 1, Seen: true}},
		{"one of two choices goes on", OpenAI, []string{body(hi+","+delta(1, `{}`), ""), body(finished(1), u(3, 4))}, Usage{Input: 3, Output: 4, Seen: true}},
		{"reasoning outside of completion", OpenAI, []string{body("", `,"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":107}`)},
			Usage{Input: 5, Output: 102, Seen: true, Final: true}},
		{"written with a fraction", OpenAI, []string{body("", `,"usage":{"prompt_tokens":5.0,"completion_tokens":2}`)}, Usage{Input: 5, Output: 2, Seen: true, Final: true}},
		{"Anthropic, broken off", Anthropic, []string{start}, Usage{Input: 7, Output: 2, Seen: true}},
		{"Anthropic, delta without a reason", Anthropic, []string{start, `{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":9}}`}, Usage{Input: 7, Output: 9, Seen: true}},
		{"Anthropic, reason without usage", Anthropic, []string{start, `{"type":"message_delta","delta":{"stop_reason":"end_turn"}}`}, Usage{Input: 7, Output: 2, Seen: true}},
		{"Anthropic, largest of each", Anthropic, []string{start, `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":3,"cache_read_input_tokens":4,"output_tokens":1}}`},
			Usage{Input: 11, Output: 2, CacheRead: 4, Seen: true, Final: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := listen(t, tc.format, StreamOptions{}, lines("data: %\n\n", tc.frames...), 1000)
			if d := cmp.Diff(tc.want, got.progress.Usage); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestFramesThatAreNotUnderstood(t *testing.T) {
	t.Parallel()
	evil := `DROP TABLE users;`
	for _, tc := range []struct {
		name   string
		format Format
		text   string
	}{
		{"not JSON", OpenAI, "data: " + evil + "\n\n"},
		{"cut JSON", OpenAI, `data: {"choices":[`},
		{"two documents", OpenAI, "data: {\"choices\":[]}{}\n\n"},
		{"duplicate names", OpenAI, `data: {"choices":[{"delta":{"content":"a","content":"` + evil + `"}}]}` + "\n\n"},
		{"a name in capitals", OpenAI, `data: {"choices":[{"delta":{"Content":"` + evil + `"}}]}` + "\n\n"},
		{"choices in capitals", OpenAI, `data: {"Choices":[],"choices":[]}` + "\n\n"},
		{"a list", OpenAI, "data: []\n\n"},
		{"neither chunk nor error", OpenAI, `data: {"text":"` + evil + `"}` + "\n\n"},
		{"end mark with a tail", OpenAI, "data: [DONE] " + evil + "\n\n"},
		{"index out of range", OpenAI, `data: {"choices":[{"index":128,"delta":{}}]}` + "\n\n"},
		{"index of a wrong type", OpenAI, `data: {"choices":[{"index":"0","delta":{}}]}` + "\n\n"},
		{"choice of a wrong type", OpenAI, `data: {"choices":["` + evil + `"]}` + "\n\n"},
		{"usage of a wrong type", OpenAI, `data: {"choices":[],"usage":{"prompt_tokens":"3"}}` + "\n\n"},
		{"long reason", OpenAI, `data: {"choices":[{"finish_reason":"` + strings.Repeat("x", 300) + `"}]}` + "\n\n"},
		{"error of a wrong type", OpenAI, `data: {"error":"` + evil + `"}` + "\n\n"},
		{"event's name with text", OpenAI, "event: DROP TABLE users;\ndata: {\"choices\":[]}\n\n"},
		{"unknown type", Anthropic, `data: {"type":"new","text":"` + evil + `"}` + "\n\n"},
		{"no type", Anthropic, `data: {"text":"` + evil + `"}` + "\n\n"},
		{"unknown delta", Anthropic, `data: {"type":"content_block_delta","index":0,"delta":{"type":"new","text":"x"}}` + "\n\n"},
		{"another event's name", Anthropic, "event: ping\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}` + "\n\n"},
		{"block of a wrong type", Anthropic, `data: {"type":"content_block_start","index":0,"content_block":"x"}` + "\n\n"},
		{"index out of range", Anthropic, `data: {"type":"content_block_stop","index":4096}` + "\n\n"},
		{"error without message", Anthropic, `data: {"type":"error","error":{"type":"x"}}` + "\n\n"},
		{"an end mark of the other format", Anthropic, "data: [DONE]\n\n"},
		{"too many texts", OpenAI, `data: {"choices":[],"x":[` + strings.TrimSuffix(strings.Repeat(`"y",`, MaxTexts+1), ",") + `]}` + "\n\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, err := NewStream(tc.format, StreamOptions{})
			if err != nil {
				t.Fatal(err)
			}
			frames, _ := decode(tc.text)
			ev := s.Next(frames[0])
			if ev.Kind != EventUnparsed || ev.Reason == nil || ev.Texts != nil {
				t.Fatalf("event %+v, want one that is not understood", ev)
			}
			if strings.Contains(ev.Reason.Error(), evil) {
				t.Errorf("the reason repeats the text: %v", ev.Reason)
			}
			want := Progress{Unparsed: int64(len(frames[0].Data))}
			if d := cmp.Diff(want, s.Progress(), cmpopts.IgnoreFields(Progress{}, "Usage")); d != "" {
				t.Errorf("progress (-want +got):\n%s", d)
			}
			if out, err := s.Append(nil, nil); err != nil || !strings.Contains(string(out), "data: ") {
				t.Errorf("where nothing is judged it goes on as %q %v", out, err)
			}
			if _, err := s.Append(nil, []string{"x"}); err == nil {
				t.Error("a text was put into a frame that is not understood")
			}
		})
	}
}

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	got := listen(t, OpenAI, StreamOptions{}, ": DROP TABLE users;\n\nevent: DROP\n\ndata:\n\n", 1000)
	if d := cmp.Diff([]EventKind{EventKeepAlive, EventKeepAlive, EventKeepAlive}, got.kinds); d != "" {
		t.Errorf("kinds (-want +got):\n%s", d)
	}
	if want := ":\n\n:\n\n:\n\n"; got.out != want {
		t.Errorf("out %q, want %q", got.out, want)
	}
}

func TestNothingAfterTheEnd(t *testing.T) {
	t.Parallel()
	for f, text := range map[Format]string{
		OpenAI:    "data: [DONE]\n\ndata: " + chunk(delta(0, `{"content":"x"}`)) + "\n\n: bye\n\n",
		Anthropic: "data: {\"type\":\"message_stop\"}\n\ndata: {\"type\":\"ping\"}\n\n: bye\n\n",
	} {
		got := listen(t, f, StreamOptions{}, text, 1000)
		if d := cmp.Diff([]EventKind{EventDone, EventUnparsed, EventKeepAlive}, got.kinds); d != "" {
			t.Errorf("%s: kinds (-want +got):\n%s", f, d)
		}
		if !got.progress.Done || got.progress.Counts.Text != 0 {
			t.Errorf("%s: progress %+v, want done and no text", f, got.progress)
		}
	}
}

func TestErrorEvents(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		format Format
		text   string
		want   ProviderError
		texts  []string
	}{
		{"OpenAI", OpenAI, `data: {"error":{"message":"Slow down","type":"server_error","param":null,"code":"busy"}}`, ProviderError{"server_error", "busy"}, []string{"Slow down"}},
		{"with its name", OpenAI, "event: error\n" + `data: {"error":{"message":"Slow down","type":null,"code":429,"hint":"try x"}}`, ProviderError{}, []string{"Slow down", "try x"}},
		{"with a last piece", OpenAI, `data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"error"}],"error":{"message":"gone"}}`, ProviderError{}, []string{"hi", "gone"}},
		{"Anthropic", Anthropic, "event: error\n" + `data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}`, ProviderError{Type: "overloaded_error"}, []string{"Overloaded"}},
	} {
		s, err := NewStream(tc.format, StreamOptions{})
		if err != nil {
			t.Fatal(err)
		}
		frames, _ := decode(tc.text + "\n\n")
		ev := s.Next(frames[0])
		if ev.Kind != EventError || ev.Err == nil || *ev.Err != tc.want || !s.Progress().Failed {
			t.Errorf("%s: event %+v %+v, want the error %+v", tc.name, ev, ev.Err, tc.want)
		}
		var texts []string
		for _, x := range ev.Texts {
			texts = append(texts, x.Value)
		}
		if d := cmp.Diff(tc.texts, texts); d != "" {
			t.Errorf("%s: texts (-want +got):\n%s", tc.name, d)
		}
	}
	ev := func() Event {
		s, _ := NewStream(OpenAI, StreamOptions{})
		return s.Next(data(`{"choices":[],"error":null}`))
	}()
	if ev.Kind != EventData {
		t.Errorf("an error that is null: kind %d, want %d", ev.Kind, EventData)
	}
}

func TestClosedTextsAreOfferedOnce(t *testing.T) {
	t.Parallel()
	key := Key{Field: FieldContent}
	text := lines("data: %\n\n", chunk(delta(0, `{"content":"a"}`)),
		chunk(`{"index":0,"delta":{"content":"b"},"finish_reason":"stop"}`), // piece and end in one frame
		chunk(`{"index":0,"delta":{"content":"c"},"finish_reason":null}`),   // it goes on against the rules
		"[DONE]")
	got := listen(t, OpenAI, StreamOptions{}, text, 1000)
	if d := cmp.Diff([]Key{key, key}, got.closed); d != "" {
		t.Errorf("closed (-want +got):\n%s", d)
	}
}

func TestTooManyTextsUnderWay(t *testing.T) {
	t.Parallel()
	s, err := NewStream(Anthropic, StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range MaxKeys + 1 {
		ev := s.Next(data(`{"type":"content_block_delta","index":` + strconv.Itoa(i) + `,"delta":{"type":"text_delta","text":"x"}}`))
		if want := i < MaxKeys; (ev.Kind == EventData) != want {
			t.Fatalf("text %d: %+v, want it taken: %v", i, ev, want)
		}
	}
}

func TestHiddenTokens(t *testing.T) {
	t.Parallel()
	block := func(b string) string { return `{"type":"content_block_start","index":0,"content_block":` + b + `}` }
	signature := `{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"x"}}`
	for _, tc := range []struct {
		name   string
		format Format
		frames []string
		want   Hidden
	}{
		{"nothing to see", OpenAI, []string{chunk(delta(0, `{"content":"a"}`))}, HiddenUnknown},
		{"reasoning in usage only", OpenAI, []string{usageChunk}, HiddenSome},
		{"reasoning shown", OpenAI, []string{chunk(delta(0, `{"reasoning":"a"}`)), usageChunk}, HiddenUnknown},
		{"redacted", Anthropic, []string{block(`{"type":"redacted_thinking","data":"x"}`)}, HiddenSome},
		{"signed but not shown", Anthropic, []string{block(`{"type":"thinking","thinking":"","signature":""}`), signature}, HiddenSome},
		{"signed and shown", Anthropic, []string{block(`{"type":"thinking","thinking":"a","signature":""}`), signature}, HiddenUnknown},
	} {
		if got := listen(t, tc.format, StreamOptions{}, lines("data: %\n\n", tc.frames...), 1000).progress.Hidden; got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}

func TestUnknownFormatHasNoStream(t *testing.T) {
	t.Parallel()
	if s, err := NewStream("gemini", StreamOptions{}); err == nil || s != nil {
		t.Errorf("stream %v %v, want an error", s, err)
	}
}

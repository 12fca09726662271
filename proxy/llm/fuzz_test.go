package llm

import (
	"strings"
	"testing"
)

func FuzzRequest(f *testing.F) {
	for _, body := range []string{
		`{"model":"m",` + hello + `}`,
		`{"model":"m","max_tokens":9000,"n":4,"stream":true,"stream_options":{},"tools":[{"type":"function"}],` + hello + `}`,
		`{"model":"m","max\u005ftokens":null,"stream":true,"stream_options":{"include_usage":false},"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBO"}}]}]}`,
		`{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBO"}}]}],"thinking":{"type":"enabled"}}`,
	} {
		f.Add([]byte(body), int64(500))
	}
	f.Fuzz(func(t *testing.T, body []byte, limit int64) {
		limit = 1 + (limit&(MaxTokens-1))%MaxTokens
		for _, format := range []Format{OpenAI, Anthropic} {
			checkRewrite(t, format, body, limit)
			r, err := Parse(format, body)
			if err == nil && (r.PromptBound < int64(len(body))-r.payload || r.payload > int64(len(body)) || r.Hold(limit) < r.PromptBound) {
				t.Fatalf("bound %d, payload %d of %d, hold %d", r.PromptBound, r.payload, len(body), r.Hold(limit))
			}
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(completion))
	f.Add([]byte(`{"type":"message","content":[{"type":"text","text":"a"},{"type":"tool_use","name":"f","input":{"a":1}}],"usage":{"input_tokens":1}}`))
	f.Add([]byte(`{"error":{"message":"m","type":"t","extra":["x"]}}`))
	f.Add([]byte(`{"type":"error","error":{"type":"t","message":"m"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		checkAnswer(t, OpenAI, body)
		checkAnswer(t, Anthropic, body)
	})
}

func FuzzFrames(f *testing.F) {
	for _, tc := range frameTable() {
		f.Add(tc.text, len(tc.text)/2)
	}
	f.Fuzz(checkFrames)
}

func FuzzStream(f *testing.F) {
	f.Add(lines("data: %\n\n", chunk(delta(0, `{"content":"a","x":{"y":"z"}}`)), chunk(finished(0)), usageChunk, "[DONE]"))
	f.Add("event: content_block_delta\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}` + "\n\n")
	f.Add("event: error\n" + `data: {"type":"error","error":{"type":"t","message":"m"}}` + "\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, format := range []Format{OpenAI, Anthropic} {
			checkStream(t, format, text)
		}
	})
}

// checkStream is the property of every stream: each frame comes out with new
// texts in the places of the old ones, and no old text outside of them.
func checkStream(t *testing.T, format Format, text string) {
	t.Helper()
	frames, err := decode(text)
	if err != nil {
		return
	}
	s, err := NewStream(format, StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		ev := s.Next(f)
		before := s.Progress()
		texts := make([]string, len(ev.Texts))
		for i, x := range ev.Texts {
			if texts[i] = strings.Repeat("z", i+1); x.JSON {
				texts[i] = `{"z":1}`
			}
		}
		out, err := s.Append(nil, texts)
		if err != nil {
			t.Fatalf("frame %q: %v", f.Data, err)
		}
		if before != s.Progress() {
			t.Fatalf("writing frame %q changed the progress", f.Data)
		}
		again, err := decode(string(out))
		if err != nil || len(again) != 1 {
			t.Fatalf("frame %q came out as %q: %v", f.Data, out, err)
		}
		checkTexts(t, format, again[0], ev, texts)
	}
}

func checkTexts(t *testing.T, format Format, f Frame, want Event, texts []string) {
	t.Helper()
	if want.Kind == EventUnparsed {
		return
	}
	s, err := NewStream(format, StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := s.Next(f)
	if got.Kind != want.Kind || len(got.Texts) != len(texts) {
		t.Fatalf("frame %q reads as %+v, want %+v", f.Data, got, want)
	}
	for i, x := range got.Texts {
		if x.Value != texts[i] || x.Key != want.Texts[i].Key {
			t.Fatalf("frame %q text %d: %+v, want %q", f.Data, i, x, texts[i])
		}
	}
}

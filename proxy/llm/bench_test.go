package llm

import (
	"strings"
	"testing"
)

// request4K is a conversation with a tool in about 4 KiB.
func request4K() []byte {
	turn := `{"role":"user","content":"` + strings.Repeat("What is the weather in Bern? ", 12) + `"},{"role":"assistant","content":"It rains."},`
	return []byte(`{"model":"gpt-4o","stream":true,"temperature":0.2,"messages":[` + strings.Repeat(turn, 9) +
		`{"role":"user","content":[{"type":"text","text":"And now?"}]}],"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}]}`)
}

func BenchmarkParse4K(b *testing.B) {
	body := request4K()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		r, err := Parse(OpenAI, body)
		if err != nil || !r.Tools {
			b.Fatal(err)
		}
	}
}

func BenchmarkRewrite4K(b *testing.B) {
	r := mustParse(b, OpenAI, string(request4K()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Rewrite(r, Changes{MaxOutput: 4096, IncludeUsage: true}); err != nil {
			b.Fatal(err)
		}
	}
}

// benchEvent measures one frame from bytes to bytes.
func benchEvent(b *testing.B, f Format, text string, replace bool) {
	s, err := NewStream(f, StreamOptions{})
	if err != nil {
		b.Fatal(err)
	}
	var d Decoder
	var out []byte
	texts := []string{"other text"}
	wire := []byte(text)
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		frames, err := d.Write(wire)
		if err != nil || len(frames) != 1 {
			b.Fatal(err)
		}
		if ev := s.Next(frames[0]); len(ev.Texts) != 1 {
			b.Fatal(ev)
		}
		if replace {
			out, err = s.Append(out[:0], texts)
		} else {
			out, err = s.Append(out[:0], nil)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

const openaiEvent = `data: {"id":"chatcmpl-9jXyWvUt4Zq","object":"chat.completion.chunk","created":1719500000,"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_3aa7262c27","choices":[{"index":0,"delta":{"content":" weather in Bern is"},"logprobs":null,"finish_reason":null}],"usage":null}` + "\n\n"

func BenchmarkEvent(b *testing.B) {
	b.Run("openai", func(b *testing.B) { benchEvent(b, OpenAI, openaiEvent, false) })
	b.Run("openai/replaced", func(b *testing.B) { benchEvent(b, OpenAI, openaiEvent, true) })
	b.Run("anthropic", func(b *testing.B) {
		benchEvent(b, Anthropic, "event: content_block_delta\n"+`data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" weather in Bern is"}}`+"\n\n", false)
	})
}

func BenchmarkAnswer(b *testing.B) {
	body := []byte(completion)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseAnswer(OpenAI, body); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNewStream shows what an open stream costs in memory.
func BenchmarkNewStream(b *testing.B) {
	wire := []byte(openaiEvent)
	b.ReportAllocs()
	for b.Loop() {
		var d Decoder
		s, err := NewStream(OpenAI, StreamOptions{})
		if err != nil {
			b.Fatal(err)
		}
		frames, err := d.Write(wire)
		if err != nil || len(s.Next(frames[0]).Texts) != 1 {
			b.Fatal(err)
		}
	}
}

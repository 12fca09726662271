package proxy

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gatehouse/internal/snapshot"
	"gatehouse/proxy/llm"
	"gatehouse/proxy/sanitize"
)

func rules(t testing.TB) *snapshot.Sanitizers {
	t.Helper()
	scanner := func(c sanitize.Context) *sanitize.Scanner {
		s, err := sanitize.New(sanitize.Config{Context: c})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	return &snapshot.Sanitizers{Content: scanner(sanitize.Prose), Reasoning: scanner(sanitize.Prose), ToolCall: scanner(sanitize.ToolCall)}
}

// through passes an answer on in the given chunks, and returns all that was
// passed on before a denial, and with it.
func through(t testing.TB, rules *snapshot.Sanitizers, chunks ...string) (string, *denial) {
	t.Helper()
	s, err := newEventStream(llm.OpenAI, false, rules, false)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, c := range chunks {
		b, d := s.write([]byte(c))
		out.Write(b)
		if d != nil {
			return out.String(), d
		}
	}
	b, d := s.close(nil)
	out.Write(b)
	return out.String(), d
}

func chunkOf(choice int, member, text string) string {
	return fmt.Sprintf(`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":%d,"delta":{%q:%q}}]}`+"\n\n", choice, member, text)
}

func stopOf(choice int) string {
	return fmt.Sprintf(`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":%d,"delta":{},"finish_reason":"stop"}]}`+"\n\n", choice)
}

func answers() map[string]string {
	return map[string]string{
		"two choices": chunkOf(0, "content", "Run DR") + chunkOf(1, "content", "<scr") + chunkOf(0, "content", "OP TABLE users; no") +
			chunkOf(1, "content", "ipt>alert(1)</script>") + stopOf(0) + stopOf(1) + "data: [DONE]\n\n",
		"held at the end":  chunkOf(0, "content", "and then DROP TABLE use") + stopOf(0) + "data: [DONE]\n\n",
		"ends in a match":  chunkOf(0, "content", "DROP TABLE users") + chunkOf(0, "content", ";") + stopOf(0) + "data: [DONE]\n\n",
		"reasoning":        chunkOf(0, "reasoning_content", "I'd DROP TA") + chunkOf(0, "content", "ok") + chunkOf(0, "reasoning_content", "BLE users;") + stopOf(0),
		"broken off":       chunkOf(0, "content", "a <im") + chunkOf(0, "content", "g src=x onerr") + chunkOf(0, "content", "or=alert(1)>"),
		"CRLF, no space":   strings.ReplaceAll(strings.ReplaceAll(chunkOf(0, "content", "DROP TABLE users;")+stopOf(0), "\n", "\r\n"), "data: ", "data:"),
		"unterminated end": strings.TrimSuffix(chunkOf(0, "content", "DROP TABLE users;"), "\n\n"),
	}
}

// What the client gets is the same wherever the answer is cut into chunks.
func TestEverySplit(t *testing.T) {
	t.Parallel()
	rules := rules(t)
	for name, answer := range answers() {
		want, d := through(t, rules, answer)
		if d != nil || clean(want) != "" {
			t.Errorf("%s: %v, %s in %s", name, d, clean(want), want)
		}
		for i := range len(answer) {
			if got, _ := through(t, rules, answer[:i], answer[i:]); got != want {
				t.Fatalf("%s, split at %d:\n got %s\nwant %s", name, i, got, want)
			}
		}
	}
}

func TestRandomSplits(t *testing.T) {
	t.Parallel()
	rules := rules(t)
	pieces := []string{"DROP", " ", "TABLE", " users", ";", "<script>", "</script>", "word ", "é", "\u202e", "![x](https://e.x/y)", "--", "\n"}
	rapid.Check(t, func(r *rapid.T) {
		var answer strings.Builder
		for range rapid.IntRange(1, 12).Draw(r, "frames") {
			answer.WriteString(chunkOf(rapid.IntRange(0, 1).Draw(r, "choice"), "content", strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 1, 4).Draw(r, "text"), "")))
		}
		answer.WriteString(stopOf(0) + stopOf(1))
		want, _ := through(t, rules, answer.String())
		var chunks []string
		for rest := answer.String(); rest != ""; {
			n := rapid.IntRange(1, min(len(rest), 60)).Draw(r, "chunk")
			chunks, rest = append(chunks, rest[:n]), rest[n:]
		}
		got, _ := through(t, rules, chunks...)
		if got != want {
			r.Fatalf("got %s\nwant %s", got, want)
		}
		if found := clean(got); found != "" {
			r.Fatalf("%s in %s", found, got)
		}
	})
}

// clean returns what is left in an answer that must not be there, read as a
// client reads it: text after text.
func clean(answer string) string {
	texts := map[string]string{}
	for line := range strings.Lines(strings.ReplaceAll(answer, "\r\n", "\n")) {
		data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		s, _ := llm.NewStream(llm.OpenAI, llm.StreamOptions{})
		for _, text := range s.Next(llm.Frame{HasData: true, Data: []byte(data)}).Texts {
			texts[fmt.Sprint(text.Key)] += text.Value
		}
	}
	for _, text := range texts {
		for _, bad := range []string{"DROP TABLE users;", "<script>", "onerror=alert"} {
			if strings.Contains(text, bad) {
				return bad
			}
		}
	}
	return ""
}

// A blocked tool call ends the stream, and nothing of it was passed on.
func TestToolCallIsBlocked(t *testing.T) {
	t.Parallel()
	call := func(arguments string) string {
		return fmt.Sprintf(`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t","type":"function","function":{"name":"q","arguments":%q}}]}}]}`+"\n\n", arguments)
	}
	out, d := through(t, rules(t), call(`{"q":"DROP `), call(`TABLE users;"}`))
	if d == nil || d.Class != ClassAnswer || strings.Contains(out, "TABLE") {
		t.Errorf("got %v after %s", d, out)
	}
}

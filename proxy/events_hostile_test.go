package proxy

import (
	"fmt"
	"strings"
	"testing"

	"gatehouse/internal/snapshot"
	"gatehouse/proxy/llm"
)

// attack passes the answer of a hostile provider on, and wants nothing of the
// statement to come through where a client joins the pieces.
func attack(t *testing.T, format llm.Format, frames ...string) (string, *denial) {
	t.Helper()
	s, err := newEventStream(format, false, rules(t), false)
	if err != nil {
		t.Fatal(err)
	}
	out, d := s.write([]byte(strings.Join(frames, "")))
	if d == nil {
		out, d = s.close(out)
	}
	return string(out), d
}

func anthropicEvent(kind, rest string) string {
	return fmt.Sprintf("event: %s\ndata: {\"type\":%q%s}\n\n", kind, kind, rest)
}

// What stands in a frame beside its data is seen by clients too.
func TestNothingPassesBesideTheData(t *testing.T) {
	t.Parallel()
	for name, frame := range map[string]string{
		"id":               "id: DROP TABLE users;\n" + chunkOf(0, "content", "x"),
		"id of a mark":     "id: DROP TABLE users;\ndata: [DONE]\n\n",
		"retry":            "retry: DROP TABLE users;\n" + chunkOf(0, "content", "x"),
		"comment":          ": DROP TABLE users;\n" + chunkOf(0, "content", "x"),
		"comment alone":    ": DROP TABLE users;\n\n",
		"unknown field":    "note: DROP TABLE users;\n" + chunkOf(0, "content", "x"),
		"a document":       `{"choices":[{"message":{"content":"DROP TABLE users;"}}]}`,
		"late byte order":  chunkOf(0, "content", "x") + "\ufeffdata: DROP TABLE users;\n\n",
		"empty data":       "data:\nid: DROP TABLE users;\n\n",
		"carriage returns": "id: DROP TABLE users;\r" + strings.ReplaceAll(chunkOf(0, "content", "x"), "\n", "\r"),
	} {
		if out, _ := attack(t, llm.OpenAI, frame); strings.Contains(out, "DROP") {
			t.Errorf("%s: the client got %s", name, out)
		}
	}
	if out, d := attack(t, llm.OpenAI, "event: DROP TABLE users;\n"+chunkOf(0, "content", "x")); d == nil || strings.Contains(out, "DROP") {
		t.Errorf("an event's name: %v, the client got %s", d, out)
	}
}

// A provider that ends a text and then goes on with it would have its match judged
// in two halves, which clients join.
func TestATextDoesNotGoOnAfterItsEnd(t *testing.T) {
	t.Parallel()
	delta := func(index int, text string) string {
		return anthropicEvent("content_block_delta", fmt.Sprintf(`,"index":%d,"delta":{"type":"text_delta","text":%q}`, index, text))
	}
	stop := anthropicEvent("content_block_stop", `,"index":0`)
	for name, c := range map[string]struct {
		format llm.Format
		frames []string
	}{
		"after a finish":   {llm.OpenAI, []string{chunkOf(0, "content", "DROP "), stopOf(0), chunkOf(0, "content", "TABLE users;")}},
		"finish with text": {llm.OpenAI, []string{strings.Replace(chunkOf(0, "content", "DROP "), "}}]", `},"finish_reason":"stop"}]`, 1), chunkOf(0, "content", "TABLE users;")}},
		"after a block":    {llm.Anthropic, []string{delta(0, "DROP "), stop, delta(0, "TABLE users;")}},
	} {
		out, d := attack(t, c.format, c.frames...)
		if d == nil || d.Rule != "text_after_end" || strings.Contains(out, "TABLE") {
			t.Errorf("%s: %v, the client got %s", name, d, out)
		}
	}
	// Other blocks, and another choice, are texts of their own.
	if _, d := attack(t, llm.Anthropic, delta(0, "a"), stop, delta(1, "b")); d != nil {
		t.Errorf("the next block: %v", d)
	}
	if _, d := attack(t, llm.OpenAI, chunkOf(0, "content", "a"), stopOf(0), chunkOf(1, "content", "b"), stopOf(1), "data: [DONE]\n\n"); d != nil {
		t.Errorf("another choice: %v", d)
	}
}

// What is remembered of texts that have ended is bounded.
func TestEndedTextsAreBounded(t *testing.T) {
	t.Parallel()
	var frames []string
	for i := range maxEnded + 2 {
		frames = append(frames,
			anthropicEvent("content_block_delta", fmt.Sprintf(`,"index":%d,"delta":{"type":"text_delta","text":"a"}`, i)),
			anthropicEvent("content_block_stop", fmt.Sprintf(`,"index":%d`, i)))
	}
	if _, d := attack(t, llm.Anthropic, frames[:2*maxEnded]...); d != nil {
		t.Errorf("%d texts: %v", maxEnded, d)
	}
	if _, d := attack(t, llm.Anthropic, frames...); d == nil || d.Rule != "too_many_texts" {
		t.Errorf("%d texts: %v", maxEnded+2, d)
	}
}

// Mode observe changes nothing, and says what it would have done.
func TestObserveLeavesFramesAlone(t *testing.T) {
	t.Parallel()
	s, err := newEventStream(llm.OpenAI, false, &snapshot.Sanitizers{}, true)
	if err != nil {
		t.Fatal(err)
	}
	withLogprobs := strings.Replace(chunkOf(0, "content", "x"), `"index":0`, `"index":0,"logprobs":{"content":[]}`, 1)
	out, d := s.write([]byte("id: 7\n" + withLogprobs))
	if d != nil || !strings.Contains(string(out), "id: 7\n") || !strings.Contains(string(out), `"logprobs":{"content":[]}`) {
		t.Errorf("%v, the client got %s", d, out)
	}
	s.rules = rules(t)
	if _, d := s.write([]byte(chunkOf(0, "content", "a") + stopOf(0) + chunkOf(0, "content", "b"))); d != nil || s.would == nil || s.would.Rule != "text_after_end" {
		t.Errorf("%v, would %v", d, s.would)
	}
	if _, d := s.write([]byte("data: what is this\n\n")); d != nil || s.would.Rule != "text_after_end" {
		t.Errorf("%v, would %v: the first thing is kept", d, s.would)
	}
}

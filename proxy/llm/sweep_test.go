package llm

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

const planted = "DROP TABLE users;"

// plant returns a document with the planted text in each place of it in turn: for a
// value, as a further member or element, and as a member's name.
func plant(t *testing.T, document string) map[string]string {
	t.Helper()
	out := map[string]string{}
	var root any
	if err := json.Unmarshal([]byte(document), &root); err != nil {
		t.Fatal(err)
	}
	var walk func(path string, v any, set func(any))
	walk = func(path string, v any, set func(any)) {
		put := func(what string, with any) {
			set(with)
			text, err := json.Marshal(root)
			if err != nil {
				t.Fatal(err)
			}
			out[path+what] = string(text)
			set(v)
		}
		put("", planted)
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				walk(path+"/"+k, e, func(n any) { v[k] = n })
			}
			v["invented"] = planted
			put(" +member", v)
			delete(v, "invented")
			v[planted] = 1
			put(" +name", v)
			delete(v, planted)
		case []any:
			for i, e := range v {
				walk(fmt.Sprintf("%s/%d", path, i), e, func(n any) { v[i] = n })
			}
			put(" +element", append(v[:len(v):len(v)], planted))
		}
	}
	walk("", root, func(v any) { root = v })
	return out
}

// sees reports whether the planted text is among the texts, or the document is
// refused, or the text does not survive.
func sees(texts []Text, out []byte, err error) bool {
	if err != nil || !strings.Contains(string(out), planted) {
		return true
	}
	for _, t := range texts {
		if strings.Contains(t.Value, planted) {
			return true
		}
	}
	return false
}

var documents = map[Format][]string{
	OpenAI: {
		`{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","service_tier":"default","system_fingerprint":"fp","choices":[{"index":0,"finish_reason":"stop","logprobs":{"content":[{"token":"a"}]},"message":{"role":"assistant","content":"hi","refusal":"no","reasoning":"r","reasoning_content":"rc","annotations":[{"type":"url_citation","url_citation":{"title":"t","url":"u"}}],"tool_calls":[{"id":"t1","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"t2","type":"custom","custom":{"name":"g","input":"i"}}],"function_call":{"name":"f","arguments":"{}"},"audio":{"id":"a","data":"AAAA","transcript":"tr","expires_at":1}}}],"usage":{"prompt_tokens":1,"completion_tokens":2,"completion_tokens_details":{"reasoning_tokens":1},"prompt_tokens_details":{"cached_tokens":1}}}`,
		`{"error":{"message":"m","type":"t","code":"c","param":"p"}}`,
	},
	Anthropic: {
		`{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"hi","citations":[{"type":"c","cited_text":"x"}]},{"type":"thinking","thinking":"t","signature":"AAAA"},{"type":"redacted_thinking","data":"AAAA"},{"type":"tool_use","id":"t1","name":"f","input":{"a":"b"}},{"type":"web_search_tool_result","tool_use_id":"t1","content":[{"type":"web_search_result","title":"t","encrypted_content":"AAAA"}]}],"stop_reason":"end_turn","stop_sequence":"s","usage":{"input_tokens":1,"output_tokens":2,"service_tier":"standard","cache_creation":{"ephemeral_5m_input_tokens":1}}}`,
		`{"type":"error","request_id":"r","error":{"type":"t","message":"m"}}`,
	},
}

// Wherever a provider puts a text, it is judged or the answer is refused.
func TestEveryStringOfAnAnswerIsSeen(t *testing.T) {
	t.Parallel()
	for format, list := range documents {
		for _, document := range list {
			for place, text := range plant(t, document) {
				a, err := ParseAnswer(format, []byte(text))
				if err != nil {
					continue
				}
				out, err := a.Append(nil, nil, true)
				if !sees(a.Texts, out, err) {
					t.Errorf("%s: %q passes unseen", format, place)
				}
			}
			if a, err := ParseAnswer(format, []byte(document)); err != nil {
				t.Errorf("%s: %v", document, err)
			} else if out, err := a.Append(nil, nil, false); err != nil || string(out) != document {
				t.Errorf("%s: %v, got %s", document, err, out)
			}
		}
	}
}

var frames = map[Format][]string{
	OpenAI: {
		`{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","service_tier":"default","obfuscation":"aB3","choices":[{"index":0,"finish_reason":"stop","logprobs":{"content":[]},"delta":{"role":"assistant","content":"hi","refusal":"no","reasoning":"r","reasoning_content":"rc","tool_calls":[{"index":0,"id":"t1","type":"function","function":{"name":"f","arguments":"{}"}}],"function_call":{"name":"f","arguments":"{}"},"audio":{"id":"a","data":"AAAA","transcript":"tr","expires_at":1}}}],"usage":{"prompt_tokens":1,"completion_tokens":2,"completion_tokens_details":{"reasoning_tokens":1}}}`,
		`{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}`,
		`{"error":{"message":"m","type":"t","code":"c","param":"p"}}`,
	},
	Anthropic: {
		`{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":2}}}`,
		`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"hi"}}`,
		`{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t1","name":"f","input":{}}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"AAAA"}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{"type":"c","cited_text":"x"}}}`,
		`{"type":"content_block_stop","index":0}`,
		`{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":"s"},"usage":{"output_tokens":2}}`,
		`{"type":"message_stop"}`, `{"type":"ping"}`,
		`{"type":"error","error":{"type":"t","message":"m"}}`,
	},
}

func TestEveryStringOfAFrameIsSeen(t *testing.T) {
	t.Parallel()
	for format, list := range frames {
		for _, document := range list {
			for place, text := range plant(t, document) {
				s, err := NewStream(format, StreamOptions{DropLogprobs: true})
				if err != nil {
					t.Fatal(err)
				}
				ev := s.Next(Frame{HasData: true, Data: []byte(text)})
				if ev.Kind == EventUnparsed || ev.Remove {
					continue
				}
				out, err := s.Append(nil, nil)
				if !sees(ev.Texts, out, err) {
					t.Errorf("%s: %q passes unseen in %s", format, place, text)
				}
			}
			s, _ := NewStream(format, StreamOptions{})
			if ev := s.Next(Frame{HasData: true, Data: []byte(document)}); ev.Kind == EventUnparsed {
				t.Errorf("%s: %v", document, ev.Reason)
			}
		}
	}
}

// What was said before is not repeated where nobody judges it.
func TestHeadIsOfLabels(t *testing.T) {
	t.Parallel()
	s, err := NewStream(OpenAI, StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.Next(Frame{HasData: true, Data: []byte(`{"id":"DROP TABLE users;","created":"DROP TABLE users;","model":"a b","choices":[{"index":0,"delta":{"content":"x"}}]}`)})
	out, err := s.AppendText(nil, Key{Field: FieldContent}, "y")
	if want := `data: {"id":null,"object":"chat.completion.chunk","created":null,"model":null,`; err != nil || !strings.HasPrefix(string(out), want) {
		t.Errorf("%v, got %s", err, out)
	}
}

// An odd label is judged, and changes nothing else: neither the charge nor what is
// removed.
func TestOddLabels(t *testing.T) {
	t.Parallel()
	s, err := NewStream(OpenAI, StreamOptions{HideUsage: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Next(Frame{HasData: true, Data: []byte(`{"model":"my model","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}`)})
	ev := s.Next(Frame{HasData: true, Data: []byte(`{"model":"my model","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}`)})
	if p := s.Progress(); !ev.Remove || !p.Usage.Final || p.Usage.Total() != 3 || len(ev.Texts) != 1 {
		t.Errorf("event %+v, progress %+v", ev, p)
	}
}

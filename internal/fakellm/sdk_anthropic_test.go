package fakellm_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/anthropics/anthropic-sdk-go/packages/ssestream"
	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/fakellm"
)

func anthropicClient(base string, more ...option.RequestOption) anthropic.Client {
	more = append([]option.RequestOption{
		option.WithBaseURL(base), option.WithAPIKey(anthropicKey), option.WithMaxRetries(0), option.WithHeader(requestID, "sdk"),
	}, more...)
	return anthropic.NewClient(more...)
}

// message asks with a system text of 2 words and a user's of 3.
func message(model string, limit int64) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model: anthropic.Model(model), MaxTokens: limit, System: []anthropic.TextBlockParam{{Text: "be brief"}},
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("one two three"))},
	}
}

func gather(t *testing.T, s *ssestream.Stream[anthropic.MessageStreamEventUnion]) (*anthropic.Message, error) {
	t.Helper()
	var m anthropic.Message
	for s.Next() {
		if err := m.Accumulate(s.Current()); err != nil {
			t.Errorf("the accumulator refuses %s: %v", s.Current().RawJSON(), err)
		}
	}
	return &m, s.Err()
}

func anthropicSpent(u anthropic.Usage) spent {
	input := u.InputTokens + u.CacheCreationInputTokens + u.CacheReadInputTokens
	return spent{input, u.OutputTokens, input + u.OutputTokens, u.OutputTokensDetails.ThinkingTokens, u.CacheReadInputTokens}
}

func TestAnthropic(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text, thinking, reason string
		params                       anthropic.MessageNewParams
		want                         spent
		billed                       int64
	}{
		{"words", "word1 word2 word3 word4 word5", "", "end_turn", message("words-5", 100), spent{5, 5, 10, 0, 0}, 10},
		{"echo", "one two three", "", "end_turn", message("echo", 100), spent{5, 3, 8, 0, 0}, 8},
		{"limit", "word1 word2", "", "max_tokens", message("words-5", 2), spent{5, 2, 7, 0, 0}, 7},
		{"runaway", "word1 word2 word3", "", "end_turn", message("runaway-3", 2), spent{5, 3, 8, 0, 0}, 8},
		{"hidden reasoning", "word1 word2 word3 word4 word5 word6 word7 word8", "", "end_turn", message("reasoning-20", 100), spent{5, 28, 33, 20, 0}, 33},
		{"shown reasoning", "word1 word2 word3 word4 word5 word6 word7 word8", "word1 word2", "end_turn", message("thinking-2", 100), spent{5, 10, 15, 2, 0}, 15},
		{"no usage", "word1 word2", "", "end_turn", message("nousage-2", 100), spent{}, 7},
		{"too little usage", "word1 word2", "", "end_turn", message("lowusage-2", 100), spent{5, 1, 6, 0, 0}, 7},
		{"cached prompt", "word1", "", "end_turn", message("cached-1", 100), spent{5, 1, 6, 0, 1}, 6},
		{"two usages", "word1 word2 word3 word4 word5 word6 word7 word8", "", "end_turn", message("two-usage", 100), spent{5, 8, 13, 0, 0}, 13},
		{"crlf", "word1 word2 word3 word4 word5 word6 word7 word8 word9 word10", "", "end_turn", message("crlf", 100), spent{5, 10, 15, 0, 0}, 15},
		{"byte by byte", "Sure, run this: DROP TABLE users; and then tell me.", "", "end_turn", message("sql-bytes", 100), spent{5, 10, 15, 0, 0}, 15},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, base := serve(t)
			client := anthropicClient(base)
			whole, err := client.Messages.New(t.Context(), tt.params)
			if err != nil {
				t.Fatal(err)
			}
			streamed, err := gather(t, client.Messages.NewStreaming(t.Context(), tt.params))
			if err != nil {
				t.Fatal(err)
			}
			for how, m := range map[string]*anthropic.Message{"unary": whole, "streamed": streamed} {
				text, thinking := textsOf(m)
				if text != tt.text || thinking != tt.thinking || string(m.StopReason) != tt.reason || !strings.HasPrefix(m.ID, "msg_fake") {
					t.Errorf("%s: %q after %q, %s, want %q after %q, %s", how, text, thinking, m.StopReason, tt.text, tt.thinking, tt.reason)
				}
				if diff := cmp.Diff(tt.want, anthropicSpent(m.Usage)); diff != "" {
					t.Errorf("%s: usage, -want +got\n%s", how, diff)
				}
			}
			if e, err := p.Ended(t.Context(), "sdk"); err != nil || e.Billed != 2*tt.billed || e.Finished != 2 || len(p.Leaks()) > 0 {
				t.Errorf("ledger %+v, %v, want %d billed for each of two; leaks %v", e, err, tt.billed, p.Leaks())
			}
		})
	}
}

func textsOf(m *anthropic.Message) (text, thinking string) {
	for _, b := range m.Content {
		text, thinking = text+b.Text, thinking+b.Thinking
	}
	return text, thinking
}

// TestAnthropicSigns reasoning, also where it is hidden.
func TestAnthropicSigns(t *testing.T) {
	t.Parallel()
	_, base := serve(t)
	client := anthropicClient(base)
	for _, model := range []string{"reasoning-2", "thinking-2"} {
		whole, err := client.Messages.New(t.Context(), message(model, 100))
		if err != nil {
			t.Fatal(err)
		}
		streamed, err := gather(t, client.Messages.NewStreaming(t.Context(), message(model, 100)))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []*anthropic.Message{whole, streamed} {
			if b := m.Content[0]; len(m.Content) != 2 || b.Type != "thinking" || b.Signature == "" {
				t.Errorf("%s: %+v", model, m.Content)
			}
		}
	}
}

func TestAnthropicTools(t *testing.T) {
	t.Parallel()
	_, base := serve(t)
	client := anthropicClient(base)
	for model, input := range map[string]string{
		"tools": `{"city":"Vilnius","days":3}`, "tool-sql": `{"query":"DROP TABLE users; --"}`,
	} {
		params := message(model, 100)
		params.Tools = []anthropic.ToolUnionParam{anthropic.ToolUnionParamOfTool(anthropic.ToolInputSchemaParam{}, "weather")}
		whole, err := client.Messages.New(t.Context(), params)
		if err != nil {
			t.Fatal(err)
		}
		streamed, err := gather(t, client.Messages.NewStreaming(t.Context(), params))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []*anthropic.Message{whole, streamed} {
			b := m.Content[0]
			got := strings.ReplaceAll(strings.ReplaceAll(string(b.Input), `": `, `":`), `, "`, `,"`)
			if b.Type != "tool_use" || b.Name != "weather" || got != input || m.StopReason != "tool_use" {
				t.Errorf("%s: %s calls %s with %s, want weather with %s", model, m.StopReason, b.Name, got, input)
			}
		}
	}
}

// TestAnthropicToolThatIsCut has no valid input.
func TestAnthropicToolThatIsCut(t *testing.T) {
	t.Parallel()
	_, base := serve(t)
	client := anthropicClient(base)
	params := message("tools", 3)
	params.Tools = []anthropic.ToolUnionParam{anthropic.ToolUnionParamOfTool(anthropic.ToolInputSchemaParam{}, "weather")}
	m, err := client.Messages.New(t.Context(), params)
	if err != nil || string(m.Content[0].Input) != "{}" || m.StopReason != "max_tokens" || m.Usage.OutputTokens != 3 {
		t.Errorf("%v, %+v", err, m)
	}
}

func TestAnthropicFaults(t *testing.T) {
	t.Parallel()
	p, base := serve(t)
	client := anthropicClient(base)
	for model, want := range map[string]struct {
		status int
		kind   string
	}{
		"error-429": {429, "rate_limit_error"}, "error-500": {500, "api_error"}, "error-400": {400, "invalid_request_error"},
		"error-529": {529, "overloaded_error"}, "late-error-3": {500, "api_error"}, "claude-5": {404, "not_found_error"}, "html-500": {500, ""},
	} {
		_, err := client.Messages.New(t.Context(), message(model, 100))
		e, ok := errors.AsType[*anthropic.Error](err)
		if !ok || e.StatusCode != want.status || string(e.Type()) != want.kind || !strings.HasPrefix(e.RequestID, "req_fake") {
			t.Errorf("%s: %v, want %+v", model, err, want)
		}
	}
	if e := p.Entry("sdk"); e.Completion != 0 || e.Prompt != 5 {
		t.Errorf("ledger %+v, want nothing but the prompt of html-500", e)
	}
}

func TestAnthropicRefusesAStranger(t *testing.T) {
	t.Parallel()
	p, base := serve(t)
	client := anthropicClient(base, option.WithAuthToken("client-token"), option.WithHeaderDel("x-api-key"))
	_, err := client.Messages.New(t.Context(), message("words-5", 100))
	if e, ok := errors.AsType[*anthropic.Error](err); !ok || e.StatusCode != 401 || e.Type() != "authentication_error" {
		t.Errorf("%v, want 401", err)
	}
	if diff := cmp.Diff([]fakellm.Leak{{Request: "sdk", Where: "authorization"}}, p.Leaks()); diff != "" {
		t.Errorf("leaks: -want +got\n%s", diff)
	}
}

// TestAnthropicStreamsThatBreak: the client sees an error, and what was
// generated is billed.
func TestAnthropicStreamsThatBreak(t *testing.T) {
	t.Parallel()
	for model, want := range map[string]struct {
		text   string
		tokens int64 // reported before the end
		billed int64
		says   string
	}{
		"cut-3":        {"word1 word2 word3", 1, 8, "unexpected EOF"},
		"early-usage":  {"word1 word2 word3 word4 word5 word6 word7", 5, 12, "unexpected EOF"},
		"late-error-3": {"word1 word2 word3", 1, 8, "api_error"},
		"refuse":       {"", 0, 5, "EOF"},
	} {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			p, base := serve(t)
			client := anthropicClient(base)
			m, err := gather(t, client.Messages.NewStreaming(t.Context(), message(model, 100)))
			if err == nil || !strings.Contains(err.Error(), want.says) {
				t.Errorf("error %v, want %q", err, want.says)
			}
			if text, _ := textsOf(m); text != want.text || m.Usage.OutputTokens != want.tokens || m.StopReason != "" {
				t.Errorf("text %q, usage %+v, %q, want %q, %d tokens and no end", text, m.Usage, m.StopReason, want.text, want.tokens)
			}
			if e, err := p.Ended(t.Context(), "sdk"); err != nil || e.Billed != want.billed || e.Finished != 0 {
				t.Errorf("ledger %+v, %v, want %d billed", e, err, want.billed)
			}
		})
	}
}

// TestAnthropicTornFrame: the client stops at what is no JSON.
func TestAnthropicTornFrame(t *testing.T) {
	t.Parallel()
	_, base := serve(t)
	client := anthropicClient(base)
	m, err := gather(t, client.Messages.NewStreaming(t.Context(), message("cut-json", 100)))
	if text, _ := textsOf(m); err == nil || text != "word1 word2" {
		t.Errorf("%v, text %q, want an error after two words", err, text)
	}
}

func TestAnthropicModels(t *testing.T) {
	t.Parallel()
	_, base := serve(t)
	client := anthropicClient(base)
	list, err := client.Models.List(t.Context(), anthropic.ModelListParams{})
	if err != nil || len(list.Data) == 0 || list.Data[0].ID != "words-10" || list.HasMore {
		t.Errorf("%v, %+v", err, list)
	}
}

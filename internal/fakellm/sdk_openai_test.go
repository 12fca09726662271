package fakellm_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"
	"github.com/openai/openai-go/v3/shared"

	"gatehouse/internal/fakellm"
)

const openaiKey, anthropicKey = "openai-key", "anthropic-key"

// requestID is the header that tells calls apart.
const requestID = "x-request-id"

func serve(t *testing.T) (*fakellm.Provider, string) {
	t.Helper()
	p := fakellm.New(fakellm.Options{OpenAIKey: openaiKey, AnthropicKey: anthropicKey})
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	return p, s.URL
}

func openaiClient(base string, more ...option.RequestOption) openai.Client {
	more = append([]option.RequestOption{
		option.WithBaseURL(base + "/v1/"), option.WithAPIKey(openaiKey), option.WithMaxRetries(0), option.WithHeader(requestID, "sdk"),
	}, more...)
	return openai.NewClient(more...)
}

// chat asks with a system text of 2 words and a user's of 3.
func chat(model string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: model, Messages: []openai.ChatCompletionMessageParamUnion{
		openai.SystemMessage("be brief"), openai.UserMessage("one two three"),
	}}
}

func withUsage(p openai.ChatCompletionNewParams) openai.ChatCompletionNewParams {
	p.StreamOptions.IncludeUsage = openai.Bool(true)
	return p
}

func withTool(p openai.ChatCompletionNewParams) openai.ChatCompletionNewParams {
	p.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
		Name: "weather", Parameters: shared.FunctionParameters{"type": "object"},
	})}
	return p
}

func accumulate(t *testing.T, s *ssestream.Stream[openai.ChatCompletionChunk]) (openai.ChatCompletionAccumulator, error) {
	t.Helper()
	var acc openai.ChatCompletionAccumulator
	for s.Next() {
		if !acc.AddChunk(s.Current()) {
			t.Errorf("the accumulator refuses %s", s.Current().RawJSON())
		}
	}
	return acc, s.Err()
}

// spent is what a client is told.
type spent struct{ Prompt, Completion, Total, Reasoning, Cached int64 }

func openaiSpent(u openai.CompletionUsage) spent {
	return spent{u.PromptTokens, u.CompletionTokens, u.TotalTokens, u.CompletionTokensDetails.ReasoningTokens, u.PromptTokensDetails.CachedTokens}
}

func TestOpenAI(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text, reason string
		params             openai.ChatCompletionNewParams
		want               spent
		billed             int64
	}{
		{"words", "word1 word2 word3 word4 word5", "stop", chat("words-5"), spent{5, 5, 10, 0, 0}, 10},
		{"echo", "one two three", "stop", chat("echo"), spent{5, 3, 8, 0, 0}, 8},
		{"limit", "word1 word2", "length", func() openai.ChatCompletionNewParams {
			p := chat("words-5")
			p.MaxCompletionTokens = openai.Int(2)
			return p
		}(), spent{5, 2, 7, 0, 0}, 7},
		{"old limit", "word1 word2", "length", func() openai.ChatCompletionNewParams {
			p := chat("slow-5-1")
			p.MaxTokens = openai.Int(2)
			return p
		}(), spent{5, 2, 7, 0, 0}, 7},
		{"limit within hidden reasoning", "", "length", func() openai.ChatCompletionNewParams {
			p := chat("reasoning-20")
			p.MaxCompletionTokens = openai.Int(2)
			return p
		}(), spent{5, 2, 7, 2, 0}, 7},
		{"runaway", "word1 word2 word3", "stop", func() openai.ChatCompletionNewParams {
			p := chat("runaway-3")
			p.MaxTokens = openai.Int(2)
			return p
		}(), spent{5, 3, 8, 0, 0}, 8},
		{"hidden reasoning", "word1 word2 word3 word4 word5 word6 word7 word8", "stop", chat("reasoning-20"), spent{5, 28, 33, 20, 0}, 33},
		{"no usage", "word1 word2", "stop", chat("nousage-2"), spent{}, 7},
		{"too little usage", "word1 word2", "stop", chat("lowusage-2"), spent{5, 1, 6, 0, 0}, 7},
		{"cached prompt", "word1", "stop", chat("cached-1"), spent{5, 1, 6, 0, 1}, 6},
		{"gzip", "word1 word2 word3 word4 word5 word6 word7 word8 word9 word10", "stop", chat("gzip"), spent{5, 10, 15, 0, 0}, 15},
		{"crlf", "word1 word2 word3 word4 word5 word6 word7 word8 word9 word10", "stop", chat("crlf"), spent{5, 10, 15, 0, 0}, 15},
		{"two usages", "word1 word2 word3 word4 word5 word6 word7 word8", "stop", chat("two-usage"), spent{5, 8, 13, 0, 0}, 13},
		{"byte by byte", "Sure, run this: DROP TABLE users; and then tell me.", "stop", chat("sql-bytes"), spent{5, 10, 15, 0, 0}, 15},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, base := serve(t)
			client := openaiClient(base)
			whole, err := client.Chat.Completions.New(t.Context(), tt.params)
			if err != nil {
				t.Fatal(err)
			}
			checkCompletion(t, whole, tt.text, tt.reason, tt.want)
			acc, err := accumulate(t, client.Chat.Completions.NewStreaming(t.Context(), withUsage(tt.params)))
			if err != nil {
				t.Fatal(err)
			}
			if tt.name == "two usages" {
				tt.want = spent{10, 13, 23, 0, 0} // the accumulator adds them up
			}
			checkCompletion(t, &acc.ChatCompletion, tt.text, tt.reason, tt.want)
			if e, err := p.Ended(t.Context(), "sdk"); err != nil || e.Billed != 2*tt.billed || e.Finished != 2 {
				t.Errorf("ledger %+v, %v, want %d billed for each of two", e, err, tt.billed)
			}
			if leaks := p.Leaks(); len(leaks) > 0 {
				t.Errorf("leaks %v", leaks)
			}
		})
	}
}

func checkCompletion(t *testing.T, c *openai.ChatCompletion, text, reason string, want spent) {
	t.Helper()
	if len(c.Choices) != 1 || c.Choices[0].Message.Content != text || c.Choices[0].FinishReason != reason {
		t.Errorf("%s: choices %+v, want %q and %s", c.Object, c.Choices, text, reason)
	}
	if diff := cmp.Diff(want, openaiSpent(c.Usage)); diff != "" {
		t.Errorf("%s: usage, -want +got\n%s", c.Object, diff)
	}
	if !strings.HasPrefix(c.ID, "chatcmpl-fake") || c.Created == 0 {
		t.Errorf("%s: id %q, created %d", c.Object, c.ID, c.Created)
	}
}

func TestOpenAIStreamWithoutUsage(t *testing.T) {
	t.Parallel()
	_, base := serve(t)
	client := openaiClient(base)
	s := client.Chat.Completions.NewStreaming(t.Context(), chat("two-usage"))
	for s.Next() {
		if raw := s.Current().RawJSON(); strings.Contains(raw, `"usage":`) {
			t.Errorf("nobody asked for usage: %s", raw)
		}
	}
	if s.Err() != nil {
		t.Error(s.Err())
	}
}

func TestOpenAIChoices(t *testing.T) {
	t.Parallel()
	p, base := serve(t)
	client := openaiClient(base)
	params := chat("words-4")
	params.N, params.MaxCompletionTokens = openai.Int(2), openai.Int(3)
	whole, err := client.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	acc, err := accumulate(t, client.Chat.Completions.NewStreaming(t.Context(), withUsage(params)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*openai.ChatCompletion{whole, &acc.ChatCompletion} {
		if len(c.Choices) != 2 || c.Usage.CompletionTokens != 6 {
			t.Fatalf("%s: %d choices, %d tokens, want 2 and 6", c.Object, len(c.Choices), c.Usage.CompletionTokens)
		}
		for i, choice := range c.Choices {
			if choice.Index != int64(i) || choice.Message.Content != "word1 word2 word3" || choice.FinishReason != "length" {
				t.Errorf("%s: choice %d is %+v", c.Object, i, choice)
			}
		}
	}
	if e, err := p.Ended(t.Context(), "sdk"); err != nil || e.Completion != 12 || e.Served != 12 {
		t.Errorf("ledger %+v, %v, want 6 words for each of two", e, err)
	}
}

func TestOpenAITools(t *testing.T) {
	t.Parallel()
	_, base := serve(t)
	client := openaiClient(base)
	for model, arguments := range map[string]string{
		"tools": `{"city": "Vilnius", "days": 3}`, "tool-sql": `{"query": "DROP TABLE users; --"}`,
	} {
		whole, err := client.Chat.Completions.New(t.Context(), withTool(chat(model)))
		if err != nil {
			t.Fatal(err)
		}
		acc, err := accumulate(t, client.Chat.Completions.NewStreaming(t.Context(), withTool(chat(model))))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []*openai.ChatCompletion{whole, &acc.ChatCompletion} {
			calls := c.Choices[0].Message.ToolCalls
			if len(calls) != 1 || c.Choices[0].FinishReason != "tool_calls" || calls[0].ID == "" {
				t.Fatalf("%s %s: %+v", c.Object, model, c.Choices[0])
			}
			if f := calls[0].Function; f.Name != "weather" || f.Arguments != arguments {
				t.Errorf("%s %s: calls %s with %s, want weather with %s", c.Object, model, f.Name, f.Arguments, arguments)
			}
		}
	}
}

func TestOpenAIShownReasoning(t *testing.T) {
	t.Parallel()
	_, base := serve(t)
	client := openaiClient(base)
	whole, err := client.Chat.Completions.New(t.Context(), chat("thinking-2"))
	if err != nil {
		t.Fatal(err)
	}
	if raw := whole.Choices[0].Message.JSON.ExtraFields["reasoning_content"].Raw(); raw != `"word1 word2"` {
		t.Errorf("reasoning_content is %s", raw)
	}
	var text strings.Builder
	s := client.Chat.Completions.NewStreaming(t.Context(), chat("thinking-2"))
	for s.Next() {
		for _, c := range s.Current().Choices {
			text.WriteString(c.Delta.JSON.ExtraFields["reasoning_content"].Raw())
		}
	}
	if s.Err() != nil || text.String() != `"word1"" word2"` {
		t.Errorf("%v; reasoning_content streams as %s", s.Err(), text.String())
	}
}

func TestOpenAIFaults(t *testing.T) {
	t.Parallel()
	p, base := serve(t)
	client := openaiClient(base)
	for model, want := range map[string]struct {
		status int
		code   string
	}{
		"error-429": {429, "rate_limit_exceeded"}, "error-500": {500, ""}, "error-400": {400, ""},
		"late-error-3": {500, ""}, "gpt-5": {404, "model_not_found"}, "html-500": {500, ""},
	} {
		_, err := client.Chat.Completions.New(t.Context(), chat(model))
		e, ok := errors.AsType[*openai.Error](err)
		if !ok || e.StatusCode != want.status || e.Code != want.code {
			t.Errorf("%s: %v, want %+v", model, err, want)
		}
		if shaped := ok && e.Message != ""; shaped == strings.HasPrefix(model, "html") {
			t.Errorf("%s: provider's own document: %t", model, shaped)
		}
	}
	if e := p.Entry("sdk"); e.Completion != 0 || e.Prompt != 5 {
		t.Errorf("ledger %+v, want nothing but the prompt of html-500", e)
	}
}

func TestOpenAIRefusesAStranger(t *testing.T) {
	t.Parallel()
	p, base := serve(t)
	client := openaiClient(base, option.WithAPIKey("client-token"))
	_, err := client.Chat.Completions.New(t.Context(), chat("words-5"))
	if e, ok := errors.AsType[*openai.Error](err); !ok || e.StatusCode != 401 || e.Code != "invalid_api_key" {
		t.Errorf("%v, want 401", err)
	}
	if diff := cmp.Diff([]fakellm.Leak{{Request: "sdk", Where: "authorization"}}, p.Leaks()); diff != "" {
		t.Errorf("leaks: -want +got\n%s", diff)
	}
}

// TestOpenAIStreamsThatBreak: the client sees an error, and what was generated
// is billed.
func TestOpenAIStreamsThatBreak(t *testing.T) {
	t.Parallel()
	for model, want := range map[string]struct {
		text   string
		tokens int64 // reported before the end
		billed int64
		says   string
	}{
		"cut-3":        {"word1 word2 word3", 0, 8, "unexpected EOF"},
		"early-usage":  {"word1 word2 word3 word4 word5 word6 word7", 5, 12, "unexpected EOF"},
		"late-error-3": {"word1 word2 word3", 0, 8, "server_error"},
		"cut-json":     {"word1 word2", 0, 15, "invalid character"},
		"refuse":       {"", 0, 5, "EOF"},
	} {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			p, base := serve(t)
			client := openaiClient(base)
			acc, err := accumulate(t, client.Chat.Completions.NewStreaming(t.Context(), withUsage(chat(model))))
			if err == nil || !strings.Contains(err.Error(), want.says) {
				t.Errorf("error %v, want %q", err, want.says)
			}
			text := ""
			if len(acc.Choices) > 0 {
				text = acc.Choices[0].Message.Content
			}
			if text != want.text || acc.Usage.CompletionTokens != want.tokens {
				t.Errorf("text %q, usage %+v, want %q and %d tokens", text, acc.Usage, want.text, want.tokens)
			}
			if e, err := p.Ended(t.Context(), "sdk"); err != nil || model != "cut-json" && e.Billed != want.billed {
				t.Errorf("ledger %+v, %v, want %d billed", e, err, want.billed)
			}
		})
	}
}

// TestOpenAIClientRetries shows what the client does when nobody stops it.
func TestOpenAIClientRetries(t *testing.T) {
	t.Parallel()
	p, base := serve(t)
	client := openaiClient(base, option.WithMaxRetries(1))
	if _, err := client.Chat.Completions.New(t.Context(), chat("error-503")); err == nil {
		t.Error("error-503 answered")
	}
	if calls := p.Totals().Calls; calls != 2 {
		t.Errorf("%d calls, want 2", calls)
	}
}

func TestOpenAIModels(t *testing.T) {
	t.Parallel()
	_, base := serve(t)
	client := openaiClient(base)
	list, err := client.Models.List(t.Context())
	if err != nil || len(list.Data) == 0 || list.Data[0].ID != "words-10" {
		t.Errorf("%v, %+v", err, list)
	}
}

func TestOpenAIClientThatLeaves(t *testing.T) {
	t.Parallel()
	p, base := serve(t)
	client := openaiClient(base)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := client.Chat.Completions.NewStreaming(ctx, chat("slow-100000-1"))
	for p.Served("sdk") < 3 && s.Next() {
	}
	_ = s.Close()
	cancel()
	e, err := p.Ended(t.Context(), "sdk")
	if err != nil || e.Finished != 0 || e.Completion < 3 || e.Completion == 100_000 {
		t.Errorf("%+v, %v", e, err)
	}
}

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"
	"github.com/openai/openai-go/v3/shared"
)

// openaiUser is the official client of OpenAI, and what it sent.
type openaiUser struct {
	openai.Client
	*sent
}

func (l *llmMesh) openai(base, key string, more ...option.RequestOption) openaiUser {
	s := &sent{}
	more = append([]option.RequestOption{
		option.WithBaseURL("http://" + l.node.outbound + "/" + base + "/v1"), option.WithAPIKey(key), option.WithMiddleware(s.watch),
	}, more...)
	return openaiUser{openai.NewClient(more...), s}
}

// chat asks with a system text of 2 words and a user's of 3.
func chat(model string, edit ...func(*openai.ChatCompletionNewParams)) openai.ChatCompletionNewParams {
	p := openai.ChatCompletionNewParams{Model: model, Messages: []openai.ChatCompletionMessageParamUnion{
		openai.SystemMessage("be brief"), openai.UserMessage("one two three"),
	}}
	for _, e := range edit {
		e(&p)
	}
	return p
}

func withUsage(p *openai.ChatCompletionNewParams) { p.StreamOptions.IncludeUsage = openai.Bool(true) }

func withTool(p *openai.ChatCompletionNewParams) {
	p.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
		Name: "weather", Parameters: shared.FunctionParameters{"type": "object"},
	})}
}

func withChoices(n int64) func(*openai.ChatCompletionNewParams) {
	return func(p *openai.ChatCompletionNewParams) { p.N = openai.Int(n) }
}

// whole asks for one document.
func (u openaiUser) whole(ctx context.Context, p openai.ChatCompletionNewParams) (openai.ChatCompletion, error) {
	c, err := u.Chat.Completions.New(ctx, p)
	if err != nil {
		return openai.ChatCompletion{}, err
	}
	return *c, nil
}

// streamed asks for a stream, and puts it together as the client's users do.
func (u openaiUser) streamed(ctx context.Context, p openai.ChatCompletionNewParams) (openai.ChatCompletion, error) {
	return gather(u.Chat.Completions.NewStreaming(ctx, p))
}

func gather(s *ssestream.Stream[openai.ChatCompletionChunk]) (openai.ChatCompletion, error) {
	var acc openai.ChatCompletionAccumulator
	for s.Next() {
		if !acc.AddChunk(s.Current()) {
			return acc.ChatCompletion, errAccumulator
		}
	}
	return acc.ChatCompletion, s.Err()
}

// ways are the two ways to get an answer.
func (u openaiUser) ways() map[string]func(context.Context, openai.ChatCompletionNewParams) (openai.ChatCompletion, error) {
	return map[string]func(context.Context, openai.ChatCompletionNewParams) (openai.ChatCompletion, error){"whole": u.whole, "streamed": u.streamed}
}

func TestSDKOpenAI(t *testing.T) {
	l := newSDK(t)
	l.limit(1_000_000)
	u := l.openai("openai", l.token)
	l.openaiAnswers(u)
	l.openaiTools(u)
	l.openaiUsageIsHidden(u)
	l.openaiClean(u)
	l.openaiBlocked(u)
	l.openaiDenied()
	l.openaiFaults()
	l.openaiWorkload()
	list, err := u.Models.List(t.Context())
	if err != nil || len(list.Data) == 0 || list.Data[0].ID != "words-10" {
		t.Errorf("models: %+v, %v", list, err)
	}
	if leaks := l.provider.Leaks(); len(leaks) > 0 {
		t.Errorf("the provider saw %+v", leaks)
	}
}

func (l *llmMesh) openaiAnswers(u openaiUser) {
	const eight = "word1 word2 word3 word4 word5 word6 word7 word8"
	for _, c := range []struct {
		name, text, reason string
		params             openai.ChatCompletionNewParams
		choices            int
		tokens, reasoning  int64 // of the completion
	}{
		{"words", "word1 word2 word3 word4 word5", "stop", chat("words-5"), 1, 5, 0},
		{"echo", "one two three", "stop", chat("echo"), 1, 3, 0},
		{"the client's limit", "word1 word2", "length", chat("words-5", func(p *openai.ChatCompletionNewParams) { p.MaxCompletionTokens = openai.Int(2) }), 1, 2, 0},
		{"the client's old limit", "word1 word2", "length", chat("words-5", func(p *openai.ChatCompletionNewParams) { p.MaxTokens = openai.Int(2) }), 1, 2, 0},
		{"hidden reasoning", eight, "stop", chat("reasoning-20"), 1, 28, 20},
		{"cached prompt", "word1", "stop", chat("cached-1"), 1, 1, 0},
		{"two choices", "word1 word2 word3 word4", "stop", chat("words-4", withChoices(2)), 2, 8, 0},
	} {
		for way, ask := range u.ways() {
			what, params := c.name+", "+way, c.params
			if way == "streamed" {
				withUsage(&params)
			}
			l.charged(what, u.sent, func() {
				got, err := ask(l.t.Context(), params)
				if err != nil || len(got.Choices) != c.choices || got.Usage.CompletionTokens != c.tokens ||
					got.Usage.PromptTokens != 5 || got.Usage.CompletionTokensDetails.ReasoningTokens != c.reasoning {
					l.t.Errorf("%s: got %v %s", what, err, got.RawJSON())
				}
				for i, choice := range got.Choices {
					if choice.Index != int64(i) || choice.Message.Content != c.text || choice.FinishReason != c.reason {
						l.t.Errorf("%s: choice %d is %q, %s", what, i, choice.Message.Content, choice.FinishReason)
					}
				}
			})
		}
	}
	l.openaiRouteLimit(u)
}

// openaiRouteLimit asks without a limit: the provider gets the route's.
func (l *llmMesh) openaiRouteLimit(u openaiUser) {
	for way, ask := range u.ways() {
		l.charged("the route's limit, "+way, u.sent, func() {
			got, err := ask(l.t.Context(), chat("words-600"))
			if err != nil || len(got.Choices) != 1 || got.Choices[0].FinishReason != "length" || len(strings.Fields(got.Choices[0].Message.Content)) != llmOutput {
				l.t.Errorf("%s, without a limit: %v, %.100s", way, err, got.RawJSON())
			}
		})
	}
}

func (l *llmMesh) openaiTools(u openaiUser) {
	for way, ask := range u.ways() {
		l.charged("tools, "+way, u.sent, func() {
			got, err := ask(l.t.Context(), chat("tools", withTool))
			if err != nil || len(got.Choices) != 1 || got.Choices[0].FinishReason != "tool_calls" || len(got.Choices[0].Message.ToolCalls) != 1 {
				l.t.Errorf("tools, %s: %v, %+v", way, err, got.Choices)
				return
			}
			call := got.Choices[0].Message.ToolCalls[0]
			if call.ID == "" || call.Function.Name != "weather" || call.Function.Arguments != `{"city": "Vilnius", "days": 3}` {
				l.t.Errorf("tools, %s: calls %+v", way, call)
			}
		})
	}
}

// openaiWorkload calls with a key that is not ours: it counts for nothing, and the
// workload pays.
func (l *llmMesh) openaiWorkload() {
	u := l.openai("openai", "sk-of-somebody-else")
	l.charged("the workload", u.sent, func() {
		if got, err := u.whole(l.t.Context(), chat("words-5")); err != nil || len(got.Choices) != 1 || got.Choices[0].Message.Content == "" {
			l.t.Errorf("the workload: got %v, %s", err, got.RawJSON())
		}
	})
}

// openaiUsageIsHidden: we ask the provider for usage; who did not ask sees none.
func (l *llmMesh) openaiUsageIsHidden(u openaiUser) {
	for _, model := range []string{"words-5", "two-usage"} {
		l.charged("a stream without usage", u.sent, func() {
			s := u.Chat.Completions.NewStreaming(l.t.Context(), chat(model))
			for s.Next() {
				if c := s.Current(); len(c.Choices) == 0 || c.JSON.Usage.Valid() {
					l.t.Errorf("%s: nobody asked for usage: %s", model, c.RawJSON())
				}
			}
			if s.Err() != nil {
				l.t.Error(s.Err())
			}
		})
	}
}

// openaiClean: both ways give the same harmless text.
func (l *llmMesh) openaiClean(u openaiUser) {
	for model, harm := range harmful() {
		texts := map[string]string{}
		for way, ask := range u.ways() {
			l.charged(model+", "+way, u.sent, func() {
				got, err := ask(l.t.Context(), chat(model))
				if err != nil || len(got.Choices) != 1 || got.Choices[0].FinishReason != "stop" {
					l.t.Errorf("%s, %s: %v, %+v", model, way, err, got.Choices)
					return
				}
				texts[way] = got.Choices[0].Message.Content
			})
		}
		l.wantClean(model, harm, texts)
	}
}

func (l *llmMesh) openaiBlocked(u openaiUser) {
	const limit = 5000 // the hold: prompt, 600 for the tools, output
	want := refusal{502, "invalid_response", "upstream.invalid_response", "destructive_sql", true}
	l.bounded("a blocked answer", u.sent, limit, func() {
		l.notRepeated("a blocked answer", u.sent, want, func() error {
			_, err := u.whole(l.t.Context(), chat("tool-sql", withTool))
			return err
		})
	})
	l.bounded("a blocked stream", u.sent, limit, func() {
		got, err := u.streamed(l.t.Context(), chat("tool-sql", withTool))
		l.wantCut("a blocked stream", err, "upstream.invalid_response", "destructive_sql")
		for _, c := range got.Choices {
			for _, call := range c.Message.ToolCalls {
				if strings.Contains(call.Function.Arguments, "DROP TABLE") || c.FinishReason != "" {
					l.t.Errorf("a blocked stream: got %+v", c)
				}
			}
		}
	})
}

func (l *llmMesh) openaiDenied() {
	observer := l.control.user(l.mesh, "observer").token
	predicted := func(p *openai.ChatCompletionNewParams) {
		p.Prediction = openai.ChatCompletionPredictionContentParam{Content: openai.ChatCompletionPredictionContentContentUnionParam{OfString: openai.String("x")}}
	}
	for name, c := range map[string]struct {
		base, key string
		params    openai.ChatCompletionNewParams
		want      refusal
	}{
		"a role that may not": {"openai", observer, chat("words-5"), refusal{403, "permission_denied", "auth.forbidden", "The policy does not allow this request.", false}},
		"a token of nobody":   {"openai", l.token + "x", chat("words-5"), refusal{401, "invalid_api_key", "auth.invalid_token", "token", false}},
		"a model":             {"listed", l.token, chat("words-5"), refusal{403, "permission_denied", "auth.forbidden", "The model is not allowed here.", false}},
		"an unbounded member": {"openai", l.token, chat("words-5", predicted), refusal{422, "invalid_request", "validation.invalid", "cost is not bounded", false}},
	} {
		u := l.openai(c.base, c.key)
		for way, ask := range u.ways() {
			l.notRepeated(name+", "+way, u.sent, c.want, func() error {
				_, err := ask(l.t.Context(), c.params)
				return err
			})
		}
	}
}

// openaiFaults: the provider's own errors come through as they are, and cost
// nothing where it says so.
func (l *llmMesh) openaiFaults() {
	before := l.settled().Used
	once := l.openai("openai", l.token, option.WithMaxRetries(0))
	for model, want := range map[string]refusal{
		"error-400": {status: 400}, "error-429": {status: 429, kind: "rate_limit_exceeded"}, "error-500": {status: 500},
		"unknown": {status: 404, kind: "model_not_found"},
	} {
		for way, ask := range once.ways() {
			_, err := ask(l.t.Context(), chat(model))
			got, raw, ok := refusalOf(err)
			if !ok || got.status != want.status || got.kind != want.kind || got.code != "" || got.message == "" || once.header("x-should-retry") != "" {
				l.t.Errorf("%s, %s: got %v %s", model, way, err, raw)
			}
			if after := once.header("retry-after"); (after == "1") != (model == "error-429") {
				l.t.Errorf("%s, %s: retry-after %q", model, way, after)
			}
		}
	}
	if used := l.settled().Used - before; used != 0 {
		l.t.Errorf("errors of the provider's cost %d", used)
	}
	l.openaiRepeats()
	l.openaiLateFaults(once)
}

// openaiRepeats: the client's own repetitions are calls like others.
func (l *llmMesh) openaiRepeats() {
	calls := l.provider.Totals().Calls
	u := l.openai("openai", l.token, option.WithMaxRetries(1))
	begin := time.Now()
	_, err := u.whole(l.t.Context(), chat("error-429"))
	if got, raw, _ := refusalOf(err); got.status != 429 || u.count() != 2 || l.provider.Totals().Calls-calls != 2 {
		l.t.Errorf("with a repetition: %v %s after %d tries", err, raw, u.count())
	}
	if took := time.Since(begin); took < time.Second {
		l.t.Errorf("repeated after %v, though the provider said 1 s", took)
	}
}

// openaiLateFaults are streams that the provider does not end well: the client
// must not take them for whole ones.
func (l *llmMesh) openaiLateFaults(u openaiUser) {
	for model, says := range map[string]string{"late-error-400": "The model was asked for this error.", "cut-400": ""} {
		l.bounded(model, u.sent, 1000, func() {
			got, err := u.streamed(l.t.Context(), chat(model))
			l.wantUnfinished(model, err, says)
			for _, c := range got.Choices {
				if c.FinishReason != "" || len(strings.Fields(c.Message.Content)) > 400 {
					l.t.Errorf("%s: got %s", model, got.RawJSON())
				}
			}
		})
	}
	l.bounded("half of a document", u.sent, 1000, func() {
		_, err := u.whole(l.t.Context(), chat("cut-5"))
		l.wantUnavailable(err)
	})
}

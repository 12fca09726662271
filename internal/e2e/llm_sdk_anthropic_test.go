package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/anthropics/anthropic-sdk-go/packages/ssestream"
)

// anthropicRefusal reads an error of Anthropic's client.
func anthropicRefusal(err error) (got refusal, raw string, ok bool) {
	e, ok := errors.AsType[*anthropic.Error](err)
	if !ok {
		return refusal{}, "", false
	}
	var doc struct {
		Error struct {
			Message string `json:"message"`
			Code    string `json:"error_code"`
		} `json:"error"`
	}
	_ = json.Unmarshal([]byte(e.RawJSON()), &doc) // what is no JSON has neither
	return refusal{status: e.StatusCode, kind: string(e.Type()), code: doc.Error.Code, message: doc.Error.Message}, e.RawJSON(), true
}

// anthropicUser is the official client of Anthropic, and what it sent.
type anthropicUser struct {
	anthropic.Client
	*sent
}

func (l *llmMesh) anthropic(base, key string, more ...option.RequestOption) anthropicUser {
	s := &sent{}
	more = append([]option.RequestOption{
		option.WithBaseURL("http://" + l.node.outbound + "/" + base), option.WithAPIKey(key), option.WithMiddleware(s.watch),
	}, more...)
	return anthropicUser{anthropic.NewClient(more...), s}
}

// message asks with a system text of 2 words and a user's of 3.
func message(model string, limit int64, edit ...func(*anthropic.MessageNewParams)) anthropic.MessageNewParams {
	p := anthropic.MessageNewParams{
		Model: anthropic.Model(model), MaxTokens: limit, System: []anthropic.TextBlockParam{{Text: "be brief"}},
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("one two three"))},
	}
	for _, e := range edit {
		e(&p)
	}
	return p
}

func withWeather(p *anthropic.MessageNewParams) {
	p.Tools = []anthropic.ToolUnionParam{anthropic.ToolUnionParamOfTool(anthropic.ToolInputSchemaParam{}, "weather")}
}

func (u anthropicUser) whole(ctx context.Context, p anthropic.MessageNewParams) (anthropic.Message, error) {
	m, err := u.Messages.New(ctx, p)
	if err != nil {
		return anthropic.Message{}, err
	}
	return *m, nil
}

func (u anthropicUser) streamed(ctx context.Context, p anthropic.MessageNewParams) (anthropic.Message, error) {
	return gatherMessage(u.Messages.NewStreaming(ctx, p))
}

func gatherMessage(s *ssestream.Stream[anthropic.MessageStreamEventUnion]) (m anthropic.Message, err error) {
	for s.Next() {
		if err := m.Accumulate(s.Current()); err != nil {
			return m, errors.Join(errAccumulator, err)
		}
	}
	return m, s.Err()
}

func (u anthropicUser) ways() map[string]func(context.Context, anthropic.MessageNewParams) (anthropic.Message, error) {
	return map[string]func(context.Context, anthropic.MessageNewParams) (anthropic.Message, error){"whole": u.whole, "streamed": u.streamed}
}

// texts are what a message says, and what it shows of its reasoning.
func texts(m anthropic.Message) (text, thinking string) {
	for _, b := range m.Content {
		text, thinking = text+b.Text, thinking+b.Thinking
	}
	return text, thinking
}

func TestSDKAnthropic(t *testing.T) {
	l := newSDK(t)
	l.limit(1_000_000)
	u := l.anthropic("anthropic", l.token)
	l.anthropicAnswers(u)
	l.anthropicTools(u)
	l.anthropicClean(u)
	l.anthropicBlocked(u)
	l.anthropicDenied()
	l.anthropicFaults()
	list, err := u.Models.List(t.Context(), anthropic.ModelListParams{})
	if err != nil || len(list.Data) == 0 || list.Data[0].ID != "words-10" {
		t.Errorf("models: %+v, %v", list, err)
	}
	if leaks := l.provider.Leaks(); len(leaks) > 0 {
		t.Errorf("the provider saw %+v", leaks)
	}
}

func (l *llmMesh) anthropicAnswers(u anthropicUser) {
	const eight = "word1 word2 word3 word4 word5 word6 word7 word8"
	for _, c := range []struct {
		name, text, thinking, reason string
		params                       anthropic.MessageNewParams
		tokens                       int64 // of the output
	}{
		{"words", "word1 word2 word3 word4 word5", "", "end_turn", message("words-5", 100), 5},
		{"echo", "one two three", "", "end_turn", message("echo", 100), 3},
		{"the client's limit", "word1 word2", "", "max_tokens", message("words-5", 2), 2},
		{"hidden reasoning", eight, "", "end_turn", message("reasoning-20", 100), 28},
		{"shown reasoning", eight, "word1 word2", "end_turn", message("thinking-2", 100), 10},
		{"cached prompt", "word1", "", "end_turn", message("cached-1", 100), 1},
	} {
		for way, ask := range u.ways() {
			what := c.name + ", " + way
			l.charged(what, u.sent, func() {
				got, err := ask(l.t.Context(), c.params)
				text, thinking := texts(got)
				usage := got.Usage
				if err != nil || text != c.text || thinking != c.thinking || string(got.StopReason) != c.reason || usage.OutputTokens != c.tokens ||
					usage.InputTokens+usage.CacheReadInputTokens+usage.CacheCreationInputTokens != 5 {
					l.t.Errorf("%s: got %v %+v", what, err, got)
				}
			})
		}
	}
	l.anthropicRouteLimit(u)
}

// anthropicRouteLimit asks for more than the route allows: the provider gets the
// route's limit.
func (l *llmMesh) anthropicRouteLimit(u anthropicUser) {
	for way, ask := range u.ways() {
		l.charged("the route's limit, "+way, u.sent, func() {
			got, err := ask(l.t.Context(), message("words-600", 1000))
			text, _ := texts(got)
			if err != nil || got.StopReason != "max_tokens" || len(strings.Fields(text)) != llmOutput {
				l.t.Errorf("%s, with a limit over the route's: %v, %s, %.100s", way, err, got.StopReason, text)
			}
		})
	}
}

func (l *llmMesh) anthropicTools(u anthropicUser) {
	for way, ask := range u.ways() {
		l.charged("tools, "+way, u.sent, func() {
			got, err := ask(l.t.Context(), message("tools", 100, withWeather))
			if err != nil || len(got.Content) != 1 || got.StopReason != "tool_use" {
				l.t.Errorf("tools, %s: %v, %+v", way, err, got)
				return
			}
			var input struct {
				City string
				Days int
			}
			b := got.Content[0]
			if err := json.Unmarshal(b.Input, &input); err != nil || b.Type != "tool_use" || b.ID == "" || b.Name != "weather" || input.City != "Vilnius" || input.Days != 3 {
				l.t.Errorf("tools, %s: %v, calls %s with %s", way, err, b.Name, b.Input)
			}
		})
	}
}

func (l *llmMesh) anthropicClean(u anthropicUser) {
	for model, harm := range harmful() {
		said := map[string]string{}
		for way, ask := range u.ways() {
			l.charged(model+", "+way, u.sent, func() {
				got, err := ask(l.t.Context(), message(model, 100))
				if err != nil || got.StopReason != "end_turn" {
					l.t.Errorf("%s, %s: %v, %+v", model, way, err, got)
				}
				said[way], _ = texts(got)
			})
		}
		l.wantClean(model, harm, said)
	}
}

func (l *llmMesh) anthropicBlocked(u anthropicUser) {
	const limit = 2000 // the hold: prompt, 600 for the tools, 100
	want := refusal{502, "api_error", "upstream.invalid_response", "destructive_sql", true}
	params := message("tool-sql", 100, withWeather)
	l.bounded("a blocked answer", u.sent, limit, func() {
		l.notRepeated("a blocked answer", u.sent, want, func() error {
			_, err := u.whole(l.t.Context(), params)
			return err
		})
	})
	l.bounded("a blocked stream", u.sent, limit, func() {
		got, err := u.streamed(l.t.Context(), params)
		l.wantCut("a blocked stream", err, "upstream.invalid_response", "destructive_sql")
		for _, b := range got.Content {
			if strings.Contains(string(b.Input), "DROP TABLE") || got.StopReason != "" {
				l.t.Errorf("a blocked stream: got %+v", got)
			}
		}
	})
}

func (l *llmMesh) anthropicDenied() {
	observer := l.control.user(l.mesh, "observer").token
	search := func(p *anthropic.MessageNewParams) {
		p.Tools = []anthropic.ToolUnionParam{{OfWebSearchTool20250305: &anthropic.WebSearchTool20250305Param{}}}
	}
	for name, c := range map[string]struct {
		base, key string
		params    anthropic.MessageNewParams
		want      refusal
	}{
		"a role that may not": {"anthropic", observer, message("words-5", 9), refusal{403, "permission_error", "auth.forbidden", "The policy does not allow this request.", false}},
		"a token of nobody":   {"anthropic", l.token + "x", message("words-5", 9), refusal{401, "authentication_error", "auth.invalid_token", "token", false}},
		"a model":             {"listed-anthropic", l.token, message("words-5", 9), refusal{403, "permission_error", "auth.forbidden", "The model is not allowed here.", false}},
		"a tool of theirs":    {"anthropic", l.token, message("words-5", 9, search), refusal{422, "invalid_request_error", "validation.invalid", "cost is not bounded", false}},
	} {
		u := l.anthropic(c.base, c.key)
		for way, ask := range u.ways() {
			l.notRepeated(name+", "+way, u.sent, c.want, func() error {
				_, err := ask(l.t.Context(), c.params)
				return err
			})
		}
	}
}

// anthropicFaults: the provider's own errors come through as they are.
func (l *llmMesh) anthropicFaults() {
	before := l.settled().Used
	once := l.anthropic("anthropic", l.token, option.WithMaxRetries(0))
	for model, want := range map[string]refusal{
		"error-400": {status: 400, kind: "invalid_request_error"}, "error-429": {status: 429, kind: "rate_limit_error"},
		"error-500": {status: 500, kind: "api_error"}, "error-529": {status: 529, kind: "overloaded_error"},
		"unknown": {status: 404, kind: "not_found_error"},
	} {
		for way, ask := range once.ways() {
			_, err := ask(l.t.Context(), message(model, 100))
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
	l.anthropicLateFaults(once)
}

// anthropicLateFaults are answers that the provider does not end well: the client
// must not take them for whole ones.
func (l *llmMesh) anthropicLateFaults(u anthropicUser) {
	for model, says := range map[string]string{"late-error-400": "The model was asked for this error.", "cut-400": ""} {
		l.bounded(model, u.sent, 1000, func() {
			got, err := u.streamed(l.t.Context(), message(model, 450))
			l.wantUnfinished(model, err, says)
			if text, _ := texts(got); got.StopReason != "" || len(strings.Fields(text)) > 400 {
				l.t.Errorf("%s: got %s %+v", model, got.StopReason, got)
			}
		})
	}
	l.bounded("half of a document", u.sent, 1000, func() {
		_, err := u.whole(l.t.Context(), message("cut-5", 100))
		l.wantUnavailable(err)
	})
}

package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// llmRows are about calls to language models: what they cost, and what their
// answers may carry.
func llmRows() []row {
	return []row{
		{what: "call a model", want: allowed(),
			why: "held before it was sent, then settled", send: paid(prompt{base: openai, model: "words-40", most: 200})},
		{what: "stream from an Anthropic model", want: allowed(),
			why: "the token is the SDK's api key, and goes no further", send: paid(prompt{base: anthropic, model: "words-40", most: 200, stream: true})},
		{what: "list the models", want: allowed(),
			why: "nothing to pay, nothing to hold", send: listModels},
		{what: "SQL in an answer", want: allowed(),
			why: "no database runs it any more", send: harmless(prompt{base: openai, model: "sql", most: 200}, "DROP TABLE users;", "and then tell me.")},
		{what: "SQL in a stream, cut in its words", want: allowed(),
			why: "nor in pieces", send: harmless(prompt{base: openai, model: "sql", most: 200, stream: true}, "DROP TABLE users;", "and then tell me.")},
		{what: "a script in an answer", want: allowed(),
			why: "no browser runs it any more", send: harmless(prompt{base: anthropic, model: "script", most: 200}, "<script", "and there.")},
		{what: "a script in a stream, cut likewise", want: allowed(),
			why: "nor in pieces", send: harmless(prompt{base: anthropic, model: "script", most: 200, stream: true}, "<script", "and there.")},
		{what: "a plan with priority 0", want: want{status: 502, code: "upstream.invalid_response", reached: 1},
			why: "the route takes valid plans only", send: pointed(prompt{base: synthesis, model: "synthesis-bad", most: 200}, "/action_plan/0/priority")},
		{what: "a plan that is valid", want: allowed(),
			why: "and passes", send: modelSays(prompt{base: synthesis, model: "synthesis-ok", most: 200}), check: names("action_plan")},
	}
}

// modelSays sends a call.
func modelSays(q prompt) sender {
	return func(ctx context.Context, p *probe) (answer, error) { return p.ask(ctx, q) }
}

// paid sends a call that must be settled to what the provider counted.
func paid(q prompt) sender {
	return func(ctx context.Context, p *probe) (answer, error) {
		a, err := p.ask(ctx, q)
		if err != nil || a.status != http.StatusOK {
			return a, err
		}
		b, err := p.settled(ctx, a)
		a.note = b.String()
		return a, err
	}
}

// pointed sends a call whose answer is refused, by a pointer to what is wrong in
// it (RFC 6901).
func pointed(q prompt, pointer string) sender {
	return func(ctx context.Context, p *probe) (answer, error) {
		a, err := p.ask(ctx, q)
		if err != nil || a.status == http.StatusOK {
			return a, err
		}
		var refusal struct {
			Error struct {
				Details struct {
					Errors []struct{ Pointer, Message string }
				}
			}
		}
		err = wrap("the refusal's details", json.Unmarshal([]byte(a.text), &refusal))
		for _, f := range refusal.Error.Details.Errors {
			a.note = together(a.note, f.Pointer+": "+f.Message)
		}
		if !strings.HasPrefix(a.note, pointer+": ") {
			err = errors.Join(err, fmt.Errorf("the refusal points at %q, expected %s", a.note, pointer))
		}
		return a, err
	}
}

// listModels asks what models there are, as the workload.
func listModels(ctx context.Context, p *probe) (answer, error) {
	var list struct {
		Data []struct{ ID string }
	}
	if err := p.getJSON(ctx, p.ready.Outbound+"/openai/v1/models", &list); err != nil {
		return answer{}, err
	}
	if len(list.Data) == 0 {
		return answer{}, errors.New("the list is empty")
	}
	return answer{status: http.StatusOK, note: fmt.Sprintf("%d, such as %s", len(list.Data), list.Data[0].ID)}, nil
}

// harmless sends a call in whose answer a text must not stand, and must be all
// there up to its end.
func harmless(q prompt, never, end string) sender {
	return func(ctx context.Context, p *probe) (answer, error) {
		a, err := p.ask(ctx, q)
		if err != nil || a.status != http.StatusOK {
			return a, err
		}
		a.note = fmt.Sprintf("%q", a.text)
		if strings.Contains(a.text, never) || !strings.HasSuffix(a.text, end) {
			err = fmt.Errorf("the answer is %q: expected one without %q that ends with %q", a.text, never, end)
		}
		return a, err
	}
}

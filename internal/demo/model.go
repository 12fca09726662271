package demo

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"gatehouse/api/v1/client"
	"gatehouse/internal/devstack"
	"gatehouse/internal/operator"
)

// settlePoll is the pace of looks at the ledger: its API has limits.
const settlePoll = 50 * time.Millisecond

// prompt is one call to a model of the stack's provider, which does what the
// model's name says.
type prompt struct {
	base   string // of the route
	model  string
	most   int // output limit, in tokens
	stream bool
}

// Bases of the routes to the provider.
const (
	openai    = "openai"
	anthropic = "anthropic"
	synthesis = "synthesis"
)

func (q prompt) path() string {
	if q.base == anthropic {
		return "/anthropic/v1/messages"
	}
	return "/" + q.base + "/v1/chat/completions"
}

func (q prompt) body() ([]byte, error) {
	return json.Marshal(map[string]any{
		"model": q.model, "stream": q.stream, "max_tokens": q.most,
		"messages": []map[string]string{{"role": "user", "content": "please say something"}},
	})
}

// begin sends a call as an SDK whose API key is the developer's token, and returns
// when the answer has begun. Whoever has it closes its body.
func (p *probe) begin(ctx context.Context, q prompt) (*http.Response, error) {
	token, err := p.tokenOf(ctx, "developer")
	if err != nil {
		return nil, err
	}
	body, err := q.body()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.ready.Outbound+q.path(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("content-type", "application/json")
	if q.base == anthropic {
		req.Header.Set("x-api-key", token)
		req.Header.Set("anthropic-version", "2023-06-01")
	} else {
		req.Header.Set("authorization", "Bearer "+token)
	}
	return p.client.Do(req)
}

// ask sends a call and reads all of its answer.
func (p *probe) ask(ctx context.Context, q prompt) (answer, error) {
	resp, err := p.begin(ctx, q)
	if err != nil {
		return answer{}, err
	}
	return readModel(resp)
}

// readModel reads what the model says, or what refuses the call.
func readModel(resp *http.Response) (answer, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	a := answer{status: resp.StatusCode, header: resp.Header, text: string(body)}
	if err != nil {
		return a, err
	}
	if resp.StatusCode == http.StatusOK {
		a.text = said(a.text)
		return a, nil
	}
	// Ours is within the provider's own form, where its SDKs look.
	var refusal struct {
		Error struct {
			Code string `json:"error_code"`
		} `json:"error"`
	}
	err = json.Unmarshal(body, &refusal)
	a.code = refusal.Error.Code
	return a, wrap("the refusal's body", err)
}

// said is the text of an answer, of either provider, whole or in events.
func said(answer string) string {
	if strings.HasPrefix(answer, "{") {
		return spoken(answer)
	}
	var all strings.Builder
	for line := range strings.Lines(answer) {
		if data, ok := strings.CutPrefix(line, "data:"); ok {
			all.WriteString(spoken(data))
		}
	}
	return all.String()
}

// spoken is the text of one document; what is none has no text.
func spoken(document string) string {
	var d struct {
		Choices []struct {
			Message, Delta struct{ Content string }
		}
		Content []struct{ Text string }
		Delta   struct{ Text string }
	}
	if json.Unmarshal([]byte(document), &d) != nil {
		return ""
	}
	var text strings.Builder
	text.WriteString(d.Delta.Text)
	for _, c := range d.Choices {
		text.WriteString(c.Message.Content + c.Delta.Content)
	}
	for _, c := range d.Content {
		text.WriteString(c.Text)
	}
	return text.String()
}

// bill is what one call has come to.
type bill struct{ held, charged, billed int64 }

func (b bill) String() string {
	return fmt.Sprintf("held %d, settled to %d; the provider counted %d", b.held, b.charged, b.billed)
}

// settled waits until the call of an answer is settled. Charged must be what the
// provider counted.
func (p *probe) settled(ctx context.Context, a answer) (b bill, err error) {
	id := a.header.Get("x-request-id")
	if b.billed, err = p.billed(ctx, id); err != nil {
		return b, err
	}
	c, err := p.admin(ctx)
	if err != nil {
		return b, err
	}
	err = p.untilAt(ctx, settlePoll, "the call is not settled", func(ctx context.Context) (done bool, err error) {
		b.held, b.charged, done, err = journal(ctx, c, id)
		return done, err
	})
	if err == nil && (b.charged != b.billed || b.held <= b.charged) {
		err = fmt.Errorf("%s; expected to hold more, and to settle to what it counted", b)
	}
	return b, err
}

// journal is what the ledger says of one request: held, charged, and whether that
// is all. Each limit that it counts in has entries of its own, with equal figures.
func journal(ctx context.Context, c *operator.Client, id string) (held, charged int64, done bool, err error) {
	r, err := c.API().ListBudgetTransactionsWithResponse(ctx, &client.ListBudgetTransactionsParams{TenantId: new(devstack.Tenant), RequestId: &id})
	list, err := operator.Answer(r, err, func(r *client.ListBudgetTransactionsResponse) *client.BudgetTransactionList { return r.JSON200 })
	if err != nil {
		return 0, 0, false, err
	}
	for _, t := range list.Items {
		switch t.Kind {
		case client.BudgetTransactionKindReserve:
			held = t.Reserved
		case client.BudgetTransactionKindCommit, client.BudgetTransactionKindRelease:
			charged, done = t.Used, true
		}
	}
	return held, charged, done, nil
}

// billed is what the provider has counted for one request, by itself. Nothing of
// ours may have reached it.
func (p *probe) billed(ctx context.Context, id string) (int64, error) {
	var l modelLedger
	err := p.getJSON(ctx, p.ready.LLMLedger, &l)
	if err == nil && len(l.Leaks) > 0 {
		err = fmt.Errorf("the provider saw %s, which is not for it", l.Leaks[0].Where)
	}
	return l.Requests[id].Billed, err
}

// modelLedger is what the demo reads of the provider's ledger.
type modelLedger struct {
	Requests map[string]struct{ Billed int64 } `json:"requests"`
	Totals   struct{ Calls int64 }             `json:"totals"`
	Leaks    []struct{ Where string }          `json:"leaks"`
}

// takeOff begins a streamed call, and returns once it has said something. Its
// answer is read by landed.
func (p *probe) takeOff(ctx context.Context, q prompt) (*http.Response, error) {
	resp, err := p.begin(ctx, q)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		a, err := readModel(resp)
		return nil, cmp.Or(err, fmt.Errorf("the call that is to go on was answered %s", a))
	}
	body := bufio.NewReader(resp.Body)
	if _, err := body.Peek(1); err != nil {
		_ = resp.Body.Close()
		return nil, wrap("the call that is to go on", err)
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{body, resp.Body}
	return resp, nil
}

package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"
)

// exchangeTimeout bounds one exchange, as its client sees it.
const exchangeTimeout = 40 * time.Second

// request is what a client asks for, and when it leaves.
type request struct {
	base   string // openai, raw or anthropic
	model  string
	prompt int // words
	stream bool
	output int  // tokens of each choice; 0 leaves it to the route
	n      int  // choices
	open   bool // it asks for no thoughts, so that all that is billed can be seen
	after  time.Duration
	bytes  int // of the answer, after which it leaves; 0 stays
}

// draw is a request at random: 3 of 10 clients leave before the answer's end.
func draw(r *rand.Rand) *request {
	q := &request{
		base: []string{"openai", "openai", "raw", "anthropic", "anthropic"}[r.IntN(5)], model: drawModel(r),
		prompt: 1 + r.IntN(30), stream: r.IntN(3) > 0, output: 5 + r.IntN(maxOutput), n: 1,
	}
	if q.base != "anthropic" {
		q.n = 1 + r.IntN(3)
		if r.IntN(4) == 0 {
			q.output = 0
		}
	}
	q.open = q.does() != "reasoning" && r.IntN(3) > 0
	switch leaves := r.IntN(20); {
	case leaves < 3:
		q.after = time.Duration(r.Int64N(int64(400 * time.Millisecond)))
	case leaves < 6:
		q.bytes = 1 + r.IntN(3000)
	}
	return q
}

// drawModel is what the provider does. None of them says more than it may: what
// one that did billed beyond its hold would be overrun, which is another promise.
// All say something: Anthropic's streams report a token before there is any.
func drawModel(r *rand.Rand) string {
	switch n := r.IntN(100); {
	case n < 35:
		return fmt.Sprintf("words-%d", 1+r.IntN(80))
	case n < 62:
		return fmt.Sprintf("slow-%d-%d", 5+r.IntN(55), 1+r.IntN(8))
	case n < 70:
		return fmt.Sprintf("nousage-%d", r.IntN(80))
	case n < 78:
		return fmt.Sprintf("cut-%d", 1+r.IntN(40))
	case n < 85:
		return fmt.Sprintf("error-%d", []int{400, 429, 500, 529}[r.IntN(4)])
	case n < 89:
		return fmt.Sprintf("reasoning-%d", r.IntN(60))
	case n < 93:
		return fmt.Sprintf("cached-%d", 1+r.IntN(60))
	case n < 95:
		return fmt.Sprintf("late-error-%d", 1+r.IntN(20))
	default:
		return []string{"two-usage", "crlf", "html-500", "octet", "refuse"}[n-95]
	}
}

func (q *request) body() string {
	doc := map[string]any{
		"model":    q.model,
		"messages": []any{map[string]string{"role": "user", "content": strings.TrimSpace(strings.Repeat("please ", q.prompt))}},
	}
	if q.stream {
		doc["stream"] = true
	}
	if q.output > 0 {
		doc["max_tokens"] = q.output
	}
	if q.n > 1 {
		doc["n"] = q.n
	}
	switch {
	case q.open && q.base == "anthropic":
		doc["thinking"] = map[string]string{"type": "disabled"}
	case q.open:
		doc["reasoning_effort"] = "none"
	}
	text, _ := json.Marshal(doc) // of plain values
	return string(text)
}

func (q *request) path() string {
	if q.base == "anthropic" {
		return "/anthropic/v1/messages"
	}
	return "/" + q.base + "/v1/chat/completions"
}

// honest says that the provider reports all that it bills, at the end.
func (q *request) honest() bool {
	return slices.Contains([]string{"words", "slow", "cached", "reasoning", "two", "crlf"}, q.does())
}

func (q *request) does() string {
	name, _, _ := strings.Cut(q.model, "-")
	return name
}

// outcome is what a client got.
type outcome struct {
	*request
	id     string // of the request; "" where the client left before it was told
	status int    // 0 where there was no answer
	code   string // of a denial
	whole  bool   // all of the answer came
}

// reported says that the client saw the end of an answer that says what it cost,
// which is that we have seen it before.
func (o *outcome) reported() bool {
	return o.status == http.StatusOK && o.whole && o.honest()
}

// kind is what became of it, in a word.
func (o *outcome) kind() string {
	switch {
	case o.reported():
		return "told"
	case o.status == http.StatusOK && o.whole:
		return "silent"
	case o.code == "budget.insufficient":
		return "refused"
	case o.code == "budget.unavailable":
		return "undecided"
	}
	return "broken"
}

// send sends a request and takes the answer, as long as the client stays.
func (w *world) send(ctx context.Context, q *request) *outcome {
	o := &outcome{request: q}
	ctx, leave := context.WithTimeout(ctx, exchangeTimeout)
	defer leave()
	if q.after > 0 {
		timer := time.AfterFunc(q.after, leave)
		defer timer.Stop()
	}
	out, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.outbound+q.path(), strings.NewReader(q.body()))
	if err != nil {
		return o
	}
	out.Header.Set("content-type", "application/json")
	out.Header.Set("authorization", "Bearer "+w.token)
	out.Header.Set("anthropic-version", "2023-06-01")
	resp, err := w.client.Do(out)
	if err != nil {
		return o
	}
	defer resp.Body.Close()
	o.status, o.id = resp.StatusCode, resp.Header.Get("x-request-id")
	var answer io.Reader = resp.Body
	if q.bytes > 0 {
		answer = io.LimitReader(answer, int64(q.bytes))
	}
	text, err := io.ReadAll(answer)
	o.whole = err == nil && q.ended(string(text))
	o.code = denialCode(text)
	return o
}

// ended reports whether an answer came to its end.
func (q *request) ended(text string) bool {
	switch {
	case !q.stream:
		return json.Valid([]byte(text))
	case q.base == "anthropic":
		return strings.Contains(text, `"type":"message_stop"`)
	}
	return strings.Contains(text, "[DONE]")
}

// denialCode is the error code of a denial of ours, in the provider's form.
func denialCode(text []byte) string {
	var doc struct {
		Error struct {
			Code string `json:"error_code"`
		}
	}
	_ = json.Unmarshal(text, &doc) // of others there is none
	return doc.Error.Code
}

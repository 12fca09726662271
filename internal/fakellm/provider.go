package fakellm

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	// MaxBody is the largest request body that is read, in bytes; more is answered 413.
	MaxBody = 32 << 20
	// bodyTimeout is how long a request body may take.
	bodyTimeout = 60 * time.Second
	// hangLimit is how long the model hang does nothing.
	hangLimit = 10 * time.Minute
)

// Options are the keys of the provider. Calls of a shape without a key are all
// refused.
type Options struct {
	OpenAIKey    string // authorization: Bearer
	AnthropicKey string // x-api-key
}

// Provider is a provider of language models. Make it with New. As a handler it
// answers POST /v1/chat/completions (OpenAI), POST /v1/messages (Anthropic) and
// GET /v1/models, whose shape is Anthropic's if there is an anthropic-version.
type Provider struct {
	options Options
	ledger  *ledger
	calls   atomic.Int64
}

// New makes a provider that was never called.
func New(o Options) *Provider { return &Provider{options: o, ledger: newLedger()} }

// exchange is one request and its answer.
type exchange struct {
	p     *Provider
	w     http.ResponseWriter
	r     *http.Request
	shape shape
	name  string // unique to the provider
	bill  *bill
}

// ServeHTTP answers one call.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := strconv.FormatInt(p.calls.Add(1), 10)
	id := r.Header.Get("x-request-id")
	if id == "" {
		id = "call-" + n
	}
	x := &exchange{p: p, w: w, r: r, shape: shapeOf(r), name: "fake" + n, bill: p.ledger.begin(id)}
	defer x.bill.end()
	x.identify()
	known, foreign := p.options.admit(x.shape, r)
	p.ledger.leaked(id, foreign)
	if f := x.serve(known); f != nil {
		x.refuse(f)
	}
}

func shapeOf(r *http.Request) shape {
	if r.URL.Path == "/v1/messages" || r.URL.Path == "/v1/models" && r.Header.Get("anthropic-version") != "" {
		return anthropic
	}
	return openAI
}

// request is the provider's own name of the request.
func (x *exchange) request() string { return "req_" + x.name }

func (x *exchange) identify() {
	if x.shape == anthropic {
		x.w.Header().Set("request-id", x.request())
		return
	}
	x.w.Header().Set("x-request-id", x.request())
	x.w.Header().Set("openai-version", "2020-10-01")
}

func (x *exchange) serve(known bool) *fault {
	if !known {
		return &fault{status: http.StatusUnauthorized, code: "invalid_api_key", message: "Incorrect API key provided."}
	}
	if x.shape == anthropic && x.r.Header.Get("anthropic-version") == "" {
		return invalid("anthropic-version: header is required")
	}
	switch x.r.Method + " " + x.r.URL.Path {
	case "GET /v1/models":
		x.models()
		return nil
	case "POST /v1/chat/completions", "POST /v1/messages":
		return x.call()
	}
	return &fault{status: http.StatusNotFound, message: "Unknown request URL: " + x.r.Method + " " + x.r.URL.Path}
}

func (x *exchange) call() *fault {
	body, f := x.body()
	if f != nil {
		return f
	}
	c, f := readCall(x.shape, body)
	if f != nil {
		return f
	}
	c.name, c.created = x.name, time.Now().Unix()
	x.bill.name(c.model)
	s, f := find(c)
	if f != nil {
		return f
	}
	return x.play(c, &s)
}

// body reads all of the request. Only then does the server notice that the
// client is gone, and only without a deadline for reading.
func (x *exchange) body() ([]byte, *fault) {
	rc := http.NewResponseController(x.w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout)) // not every writer has deadlines
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	body, err := io.ReadAll(http.MaxBytesReader(x.w, x.r.Body, MaxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, &fault{status: http.StatusRequestEntityTooLarge, message: "Request exceeds the maximum size."}
	}
	if err != nil {
		return nil, invalid("The request body could not be read.")
	}
	return body, nil
}

// play does what the model does. The prompt is billed from here on.
func (x *exchange) play(c *call, s *script) *fault {
	if s.fault != nil {
		return s.fault
	}
	x.bill.take(c)
	switch {
	case s.page != 0:
		x.page(s.page)
	case s.hang:
		x.hang()
	case s.refuse:
		panic(http.ErrAbortHandler)
	case c.stream:
		x.streamed(c, s)
	default:
		x.unary(c, s)
	}
	return nil
}

func (x *exchange) hang() {
	ctx, cancel := context.WithTimeout(x.r.Context(), hangLimit)
	defer cancel()
	<-ctx.Done()
	panic(http.ErrAbortHandler)
}

func (x *exchange) page(status int) {
	x.reply(status, "text/html", []byte("<html><body><h1>"+http.StatusText(status)+"</h1></body></html>\n"))
}

func (x *exchange) refuse(f *fault) {
	if f.status == http.StatusTooManyRequests {
		x.w.Header().Set("Retry-After", "1")
	}
	x.reply(f.status, "application/json", encode(f.document(x.shape, x.request())))
}

func (x *exchange) reply(status int, contentType string, body []byte) {
	out := newWriter(x.w, status, contentType, wire{})
	_ = out.write(body) // a client that is gone needs no answer
	_ = out.close()
}

// models lists one name of each model.
func (x *exchange) models() {
	var list []object
	for _, m := range models() {
		o := object{"id": m.example(), "type": "model", "display_name": m.name, "created_at": "2025-01-01T00:00:00Z"}
		if x.shape == openAI {
			o = object{"id": m.example(), "object": "model", "created": 1735689600, "owned_by": "fakellm"}
		}
		list = append(list, o)
	}
	doc := object{"object": "list", "data": list}
	if x.shape == anthropic {
		doc = object{"data": list, "has_more": false, "first_id": list[0]["id"], "last_id": list[len(list)-1]["id"]}
	}
	x.reply(http.StatusOK, "application/json", encode(doc))
}

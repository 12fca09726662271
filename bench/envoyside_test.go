package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	procv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"gatehouse/internal/envoyconf"
)

// lastFrame ends each answer that is played.
const lastFrame = "data: [DONE]\n\n"

// attributesKey is where Envoy puts what its filter is told to send.
const attributesKey = "envoy.filters.http.ext_proc"

// script is what Envoy sends in one exchange, ready but for the request's id.
// Nobody changes it.
type script struct {
	check  *corev3.Metadata
	body   []byte   // of the request
	frames [][]byte // of the answer: one event each
}

// newScript makes an exchange whose answer has so many events of text, and three
// more: the finish, the usage and the end.
func newScript(check map[string]any, texts int) (*script, error) {
	fields, err := structpb.NewStruct(check)
	if err != nil {
		return nil, err
	}
	s := &script{
		check: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{envoyconf.AuthzNamespace: fields}},
		body: []byte(`{"model":"gpt-5-mini","stream":true,"max_completion_tokens":1000,"messages":[` +
			`{"role":"system","content":"You answer in plain words."},{"role":"user","content":"Tell me how a gate works, at length."}]}`),
	}
	for i := range texts {
		s.frames = append(s.frames, frame(fmt.Sprintf(`[{"index":0,"delta":{"content":" word %d of the answer,"},"finish_reason":null}]`, i), ""))
	}
	s.frames = append(s.frames,
		frame(`[{"index":0,"delta":{},"finish_reason":"stop"}]`, ""),
		frame(`[]`, fmt.Sprintf(`,"usage":{"prompt_tokens":30,"completion_tokens":%[1]d,"total_tokens":3%[1]d}`, max(texts, 10))),
		[]byte(lastFrame))
	return s, nil
}

// frame is an event as OpenAI's chat completions have it.
func frame(choices, usage string) []byte {
	return fmt.Appendf(nil, "data: {\"id\":\"chatcmpl-B1\",\"object\":\"chat.completion.chunk\",\"created\":1767323045,\"model\":\"gpt-5-mini\",\"choices\":%s%s}\n\n", choices, usage)
}

// played is what became of an exchange.
type played struct {
	firstEvent time.Duration // from the request's headers to the first part of the answer
	body       []byte        // of the answer, as the client gets it
}

// play plays Envoy's part in one exchange, with a frame of the answer each pace,
// until the answer's end. An answer that is not passed on to its end is an error.
func (s *script) play(ctx context.Context, c procv3.ExternalProcessorClient, id string, pace time.Duration) (played, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // as Envoy ends a stream that is finished
	began := time.Now()
	stream, err := c.Process(ctx)
	if err != nil {
		return played{}, err
	}
	if err := s.request(stream, id); err != nil {
		return played{}, err
	}
	sent := make(chan error, 1)
	go func() { sent <- s.answer(ctx, stream, pace) }()
	p, err := collect(stream, began)
	if err != nil {
		cancel() // so that the sender ends
		return played{}, errors.Join(err, failed(<-sent))
	}
	return p, failed(<-sent)
}

// failed leaves out what our own cancel causes, and an end of the stream, of
// which the receiver knows why.
func failed(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// request plays the request and the headers of the answer; each is answered
// before the next.
func (s *script) request(stream procv3.ExternalProcessor_ProcessClient, id string) error {
	for _, m := range []*procv3.ProcessingRequest{s.requestHeaders(id), s.requestBody(), s.responseHeaders(id)} {
		if err := stream.Send(m); err != nil {
			return err
		}
		reply, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := matches(m, reply); err != nil {
			return err
		}
	}
	return nil
}

// matches reports a reply that does not belong to its message: Envoy would end
// the request.
func matches(m *procv3.ProcessingRequest, reply *procv3.ProcessingResponse) error {
	var ok bool
	switch m.GetRequest().(type) {
	case *procv3.ProcessingRequest_RequestHeaders:
		ok = reply.GetRequestHeaders() != nil
	case *procv3.ProcessingRequest_RequestBody:
		ok = reply.GetRequestBody() != nil
	case *procv3.ProcessingRequest_ResponseHeaders:
		ok = reply.GetResponseHeaders() != nil
	}
	if !ok {
		return fmt.Errorf("%T was answered by %v", m.GetRequest(), reply)
	}
	return nil
}

// answer plays the answer's body, and its end as a part without bytes.
func (s *script) answer(ctx context.Context, stream procv3.ExternalProcessor_ProcessClient, pace time.Duration) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for i, f := range s.frames {
		if i > 0 {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := stream.Send(s.responseBody(f, false)); err != nil {
			return err
		}
	}
	return stream.Send(s.responseBody(nil, true))
}

// collect takes the answer in until its end.
func collect(stream procv3.ExternalProcessor_ProcessClient, began time.Time) (p played, err error) {
	for {
		reply, err := stream.Recv()
		if err != nil {
			return p, err
		}
		part := reply.GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse()
		if part == nil {
			return p, fmt.Errorf("a part of the answer was answered by %v", reply)
		}
		if p.firstEvent == 0 && len(part.GetBody()) > 0 {
			p.firstEvent = time.Since(began)
		}
		p.body = append(p.body, part.GetBody()...)
		if part.GetEndOfStream() {
			return p, whole(p.body)
		}
	}
}

// whole reports an answer that was cut.
func whole(body []byte) error {
	if !bytes.HasSuffix(body, []byte(lastFrame)) {
		return fmt.Errorf("the answer does not end as it was sent: %q", body[max(0, len(body)-200):])
	}
	return nil
}

func (s *script) requestHeaders(id string) *procv3.ProcessingRequest {
	return &procv3.ProcessingRequest{
		Request: &procv3.ProcessingRequest_RequestHeaders{RequestHeaders: &procv3.HttpHeaders{Headers: headers(
			":authority", "127.0.0.1:8081", ":method", "POST", ":path", "/openai/v1/chat/completions", ":scheme", "http",
			"accept", "application/json", "content-length", fmt.Sprint(len(s.body)), "content-type", "application/json",
			"user-agent", "OpenAI/Go 3.0", "x-request-id", id,
		)}},
		MetadataContext: s.check,
		ProtocolConfig: &procv3.ProtocolConfiguration{
			RequestBodyMode:  extprocv3.ProcessingMode_BUFFERED,
			ResponseBodyMode: extprocv3.ProcessingMode_FULL_DUPLEX_STREAMED,
		},
	}
}

func (s *script) requestBody() *procv3.ProcessingRequest {
	return &procv3.ProcessingRequest{
		Request:         &procv3.ProcessingRequest_RequestBody{RequestBody: &procv3.HttpBody{Body: s.body, EndOfStream: true}},
		MetadataContext: s.check,
	}
}

func (s *script) responseHeaders(id string) *procv3.ProcessingRequest {
	attributes := &structpb.Struct{Fields: map[string]*structpb.Value{
		"request.id": structpb.NewStringValue(id), "response.code": structpb.NewNumberValue(200),
		"response.code_details": structpb.NewStringValue("via_upstream"), "response.flags": structpb.NewNumberValue(0),
		"upstream.request_attempt_count": structpb.NewNumberValue(1),
	}}
	return &procv3.ProcessingRequest{
		Request: &procv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: &procv3.HttpHeaders{Headers: headers(
			":status", "200", "content-type", "text/event-stream", "cache-control", "no-cache", "x-request-id", "req_1",
		)}},
		MetadataContext: s.check,
		Attributes:      map[string]*structpb.Struct{attributesKey: attributes},
	}
}

func (s *script) responseBody(body []byte, end bool) *procv3.ProcessingRequest {
	return &procv3.ProcessingRequest{
		Request:         &procv3.ProcessingRequest_ResponseBody{ResponseBody: &procv3.HttpBody{Body: body, EndOfStream: end}},
		MetadataContext: s.check,
	}
}

// headers are names and values in turn, as Envoy sends them.
func headers(pairs ...string) *corev3.HeaderMap {
	m := &corev3.HeaderMap{}
	for i := 0; i < len(pairs); i += 2 {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
	}
	return m
}

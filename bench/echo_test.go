package bench

import (
	"fmt"
	"net"
	"path/filepath"

	procv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
)

// processor is an ext_proc server to be measured, in a process of its own.
type processor struct {
	name string // no spaces: a part of figures' names
	// check is what Check's metadata say of each request.
	check map[string]any
	// server makes the gRPC server with all that it serves; dir is an empty
	// folder of its own.
	server func(dir string) *grpc.Server
}

// processors are measured against the first. The second is the first again: what
// their ratios differ from one is the noise of the run.
func processors() []processor {
	return []processor{
		{name: "echo", check: plainCheck(), server: echoing},
		{name: "echo-again", check: plainCheck(), server: echoing},
		{name: "exchange", check: exchangeCheck("chat"), server: exchanging},
		{name: "exchange-unjudged", check: exchangeCheck("unjudged"), server: exchanging},
	}
}

func plainCheck() map[string]any {
	return map[string]any{
		"decision_id": "JXM4WQKZ7TQ2YD5LRC3HVUB6EA", "route": "chat", "revision": "bench",
		"principal": map[string]any{"kind": "token", "role": "developer", "subject": "alice", "tenant": "org1", "project": "proj1"},
	}
}

// serveProcessor serves the processor of that name until the process is killed.
// It returns at once if there is none.
func serveProcessor(name, dir string) {
	for _, p := range processors() {
		if p.name == name {
			l, err := net.Listen("unix", filepath.Join(dir, "gate.sock"))
			if err != nil {
				panic(err)
			}
			panic(p.server(dir).Serve(l))
		}
	}
}

// echoServer lets everything pass as it is, and answers each message at once.
type echoServer struct {
	procv3.UnimplementedExternalProcessorServer
}

func echoing(string) *grpc.Server {
	g := grpc.NewServer()
	procv3.RegisterExternalProcessorServer(g, echoServer{})
	return g
}

// Process answers each message at once.
func (echoServer) Process(stream procv3.ExternalProcessor_ProcessServer) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		answer, err := echo(m)
		if err != nil {
			return err
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

func echo(m *procv3.ProcessingRequest) (*procv3.ProcessingResponse, error) {
	switch r := m.GetRequest().(type) {
	case *procv3.ProcessingRequest_RequestHeaders:
		return &procv3.ProcessingResponse{Response: &procv3.ProcessingResponse_RequestHeaders{RequestHeaders: &procv3.HeadersResponse{}}}, nil
	case *procv3.ProcessingRequest_RequestBody:
		return &procv3.ProcessingResponse{Response: &procv3.ProcessingResponse_RequestBody{RequestBody: &procv3.BodyResponse{}}}, nil
	case *procv3.ProcessingRequest_ResponseHeaders:
		return &procv3.ProcessingResponse{Response: &procv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: &procv3.HeadersResponse{}}}, nil
	case *procv3.ProcessingRequest_ResponseBody:
		return streamed(r.ResponseBody.GetBody(), r.ResponseBody.GetEndOfStream()), nil
	}
	return nil, fmt.Errorf("a message %T, which Envoy is not configured to send", m.GetRequest())
}

// streamed is an answer in mode FULL_DUPLEX_STREAMED.
func streamed(body []byte, end bool) *procv3.ProcessingResponse {
	mutation := &procv3.BodyMutation{Mutation: &procv3.BodyMutation_StreamedResponse{
		StreamedResponse: &procv3.StreamedBodyResponse{Body: body, EndOfStream: end},
	}}
	return &procv3.ProcessingResponse{Response: &procv3.ProcessingResponse_ResponseBody{
		ResponseBody: &procv3.BodyResponse{Response: &procv3.CommonResponse{BodyMutation: mutation}},
	}}
}

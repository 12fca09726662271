package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	pb "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gatehouse/internal/fakellm"
	"gatehouse/internal/rawgrpc"
)

const processMethod = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"

// relay stands between Envoy and a sidecar: it hands all calls on but those of
// the Exchange, which it answers as badly as it is told to.
func relay(t *testing.T, sidecar, socket string, process func(pb.ExternalProcessor_ProcessServer) error) {
	t.Helper()
	_ = os.Remove(socket)
	l, err := net.Listen("unix", socket)
	must(t, err)
	conn, err := grpc.NewClient("unix:"+sidecar, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawgrpc.Codec())))
	must(t, err)
	g := grpc.NewServer(grpc.ForceServerCodecV2(rawgrpc.Codec()), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(s)
		if method == processMethod {
			return process(&grpc.GenericServerStream[pb.ProcessingRequest, pb.ProcessingResponse]{ServerStream: s})
		}
		return handOn(conn, method, s)
	}))
	go func() { _ = g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); _ = conn.Close() })
}

// handOn relays one call, message by message.
func handOn(conn *grpc.ClientConn, method string, s grpc.ServerStream) error {
	in, _ := metadata.FromIncomingContext(s.Context())
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(s.Context(), in))
	defer cancel()
	up, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() {
		for {
			var m rawgrpc.Message
			if s.RecvMsg(&m) != nil || up.SendMsg(&m) != nil {
				_ = up.CloseSend()
				return
			}
		}
	}()
	for {
		var m rawgrpc.Message
		err := up.RecvMsg(&m)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return status.Convert(err).Err()
		}
		if err := s.SendMsg(&m); err != nil {
			return err
		}
	}
}

// An Exchange that ends without a word, or goes on without a hold, lets nothing
// pass: the guard stands behind it. The upstream is not reached.
func TestGuardBehindTheExchange(t *testing.T) {
	provider := fakellm.New(fakellm.Options{OpenAIKey: "tools-secret"})
	upstream := httptest.NewServer(provider)
	t.Cleanup(upstream.Close)
	s := prepare(t, stackOptions{NoStart: true})
	s.write("gatehouse.yaml", strings.Replace(s.config(fmt.Sprintf(`  openai: {url: %q, format: openai, credential: tools}
routes:
  - {name: tasks, match: {listener: outbound, base: /openai, path: /v1/chat/completions, methods: [POST]}, upstream: openai, permission: task.create, budget: none, llm: {}}
  - {name: models, match: {listener: outbound, base: /openai, path: /v1/models, methods: [GET]}, upstream: openai, permission: task.view, llm: {kind: free}}
`, upstream.URL)), "\n\n", "\n", 1))
	s.startSidecar()
	text := []byte(strings.ReplaceAll(string(s.static()), s.path("run/gate.sock"), s.path("run/relay.sock")))

	on := &pb.ProcessingResponse{Response: &pb.ProcessingResponse_RequestHeaders{RequestHeaders: &pb.HeadersResponse{}}}
	goOn := &pb.ProcessingResponse{Response: &pb.ProcessingResponse_RequestBody{RequestBody: &pb.BodyResponse{}}}
	answer := func(replies ...*pb.ProcessingResponse) func(pb.ExternalProcessor_ProcessServer) error {
		return func(stream pb.ExternalProcessor_ProcessServer) error {
			for _, r := range replies {
				if _, err := stream.Recv(); err != nil {
					return nil
				}
				if err := stream.Send(r); err != nil {
					return nil
				}
			}
			_, _ = stream.Recv()
			return nil // the clean end that must not open anything
		}
	}
	process := answer()
	relay(t, s.path("run/gate.sock"), s.path("run/relay.sock"), func(stream pb.ExternalProcessor_ProcessServer) error { return process(stream) })
	s.envoy = s.startStatic(text, func(map[string]any) {})
	ask := func(what string) {
		t.Helper()
		for _, request := range [][2]string{{"POST", "/openai/v1/chat/completions"}, {"GET", "/openai/v1/models"}} {
			body := ""
			if request[0] == "POST" {
				body = prompt("words-3", false)
			}
			a := s.do(request[0], s.outbound+request[1], body, "content-type", "application/json")
			if a.Status != 503 {
				t.Errorf("%s: %s %s got %d %s", what, request[0], request[1], a.Status, a.Body)
			}
		}
		if n := provider.Totals().Calls; n != 0 {
			t.Errorf("%s: the provider was reached %d times", what, n)
		}
	}
	ask("a clean end at the headers")
	process = answer(on)
	ask("a clean end at the body")
	process = answer(on, goOn)
	ask("no hold")
	s.envoy = s.startStatic(text, func(route map[string]any) {
		delete(route["typed_per_filter_config"].(map[string]any), "envoy.filters.http.ext_proc")
	})
	a := s.do("POST", s.outbound+"/openai/v1/chat/completions", prompt("words-3", false), "content-type", "application/json")
	if a.Status != 503 || llmCode(a.Body) != "policy.unavailable" || provider.Totals().Calls != 0 {
		t.Errorf("without the Exchange on the route: %d %s", a.Status, a.Body)
	}
}

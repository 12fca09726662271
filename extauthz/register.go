package extauthz

import (
	"context"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"

	"gatehouse/internal/rawgrpc"
)

// checker is the service as this package serves it: messages in wire form.
type checker interface {
	Check(context.Context, rawgrpc.Message) (*rawgrpc.Message, error)
}

// Register adds the service to a gRPC server, which must use rawgrpc.Codec.
func (s *Server) Register(g grpc.ServiceRegistrar) {
	g.RegisterService(&grpc.ServiceDesc{
		ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
		HandlerType: (*checker)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Check", Handler: handle}},
		Metadata:    authv3.Authorization_ServiceDesc.Metadata,
	}, s)
}

// handle is grpc's method handler. The gate's server has no interceptor.
func handle(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var m rawgrpc.Message
	if err := decode(&m); err != nil {
		return nil, err
	}
	return srv.(checker).Check(ctx, m)
}

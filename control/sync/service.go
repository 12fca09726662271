package sync

import (
	"context"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "gatehouse/api/v1/sidecarpb"
)

// service is gatehouse.v1.Sidecars. The unary call is a handler of streams too,
// which is the same on the wire: grpc would read its message before anybody
// could say no.
func service() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: pb.Sidecars_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{
			{StreamName: "Sync", Handler: handleSync, ServerStreams: true, ClientStreams: true},
			{StreamName: "TakeRate", Handler: handleTakeRate},
			{StreamName: "Ledger", Handler: handleLedger, ServerStreams: true, ClientStreams: true},
		},
		Metadata: pb.Sidecars_ServiceDesc.Metadata,
	}
}

func handleSync(srv any, wire grpc.ServerStream) error {
	s := srv.(*Server)
	return s.admit(wire, s.door.knock, func(wire grpc.ServerStream) error {
		return s.sync(&grpc.GenericServerStream[pb.Up, pb.Down]{ServerStream: wire})
	})
}

func handleLedger(srv any, wire grpc.ServerStream) error {
	s := srv.(*Server)
	return s.admit(wire, s.door.knock, func(wire grpc.ServerStream) error {
		return s.ledger(&grpc.GenericServerStream[pb.LedgerUp, pb.LedgerDown]{ServerStream: wire})
	})
}

func handleTakeRate(srv any, wire grpc.ServerStream) error {
	s := srv.(*Server)
	return s.admit(wire, s.identify, func(wire grpc.ServerStream) error {
		var request pb.TakeRateRequest
		if err := wire.RecvMsg(&request); err != nil {
			return err
		}
		response, err := s.takeRate(wire.Context(), &request)
		if err != nil {
			return err
		}
		return wire.SendMsg(response)
	})
}

// admit stands before all calls: it lets in sidecars, and keeps a panic from
// ending the process. It is no interceptor, since grpc calls those of streams
// only for what is declared as one.
func (s *Server) admit(
	wire grpc.ServerStream, identify func(context.Context, credential) (caller, error), handle func(grpc.ServerStream) error,
) (err error) {
	defer s.recovered(&err)
	c, err := presented(wire.Context())
	if err != nil {
		return err
	}
	who, err := identify(wire.Context(), c)
	if err != nil {
		return err
	}
	return handle(admitted{wire, withCaller(wire.Context(), who)})
}

// identify is knock for calls that come again and again: it asks the registry
// only for callers whose stream isn't here, and not long.
func (s *Server) identify(ctx context.Context, c credential) (caller, error) {
	now := time.Now()
	if sidecar, ok := s.roster.known(c.hash, now); ok {
		return caller{c, sidecar}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, takeTimeout)
	defer cancel()
	return s.door.knockOften(ctx, c, now)
}

// admitted is a call whose caller is known.
type admitted struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (a admitted) Context() context.Context { return a.ctx }

// recovered turns a panic into an answer; the other calls go on.
func (s *Server) recovered(err *error) {
	if p := recover(); p != nil {
		s.opts.Log.Error("sync: panic", "panic", p, "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "internal error")
	}
}

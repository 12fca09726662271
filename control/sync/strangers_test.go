package sync

import (
	"crypto/sha256"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "gatehouse/api/v1/sidecarpb"
)

// One credential can't take the places of others: a few of its streams may be
// without Hello, and each that says it makes room.
func TestStreamsWithoutHelloAreFew(t *testing.T) {
	t.Parallel()
	r := serve(t, newWorld(t), nil)
	r.register(ada("p"))
	client := r.dial(t)
	streams := make([]pb.Sidecars_SyncClient, maxStrange)
	for i := range streams {
		var err error
		if streams[i], err = client.Sync(as(t.Context(), secretOf("ada"))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all have come", func() bool {
		r.server.strange.mu.Lock()
		defer r.server.strange.mu.Unlock()
		return r.server.strange.open[sha256.Sum256([]byte(secretOf("ada")))] == maxStrange
	})
	more, err := client.Sync(as(t.Context(), secretOf("ada")))
	if err == nil {
		_, err = more.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more is answered with %v", err)
	}
	hello := &pb.Up{Message: &pb.Up_Hello{Hello: &pb.Hello{Incarnation: 1, Status: &pb.Status{NowUnixMs: time.Now().UnixMilli()}}}}
	if err := streams[0].Send(hello); err != nil {
		t.Fatal(err)
	}
	if _, err := streams[0].Recv(); err != nil {
		t.Fatalf("a stream that said Hello: %v", err)
	}
	another, err := client.Sync(as(t.Context(), secretOf("ada")))
	if err != nil {
		t.Fatal(err)
	}
	if err := another.Send(hello); err != nil {
		t.Fatal(err)
	}
	if _, err := another.Recv(); err != nil {
		t.Errorf("the place of one that said Hello is not free: %v", err)
	}
}

// Who is gone before Hello leaves nothing behind.
func TestStrangersAreForgotten(t *testing.T) {
	t.Parallel()
	var s strangers
	for range 3 * maxStrange {
		if !s.enter(hash{1}) {
			t.Fatal("refused, though the ones before have left")
		}
		s.leave(hash{1})
	}
	for range maxStrange {
		s.enter(hash{1})
	}
	if s.enter(hash{1}) || !s.enter(hash{2}) {
		t.Error("credentials are not counted apart, or not at all")
	}
	for range maxStrange {
		s.leave(hash{1})
	}
	s.leave(hash{2})
	if len(s.open) != 0 {
		t.Errorf("%d credentials are remembered", len(s.open))
	}
}

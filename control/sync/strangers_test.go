package sync

import (
	"crypto/sha256"
	"crypto/tls"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/certtest"
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

// A connection that never calls is closed, so that whoever reaches the port
// can't keep its place. The time is grpc's to watch, in a bubble of its own.
func TestConnectionWithoutAStreamIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		o := w.options()
		o.CertFile, o.KeyFile = certtest.New(t).Files(t)
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		listener := bufconn.Listen(1 << 16)
		g := s.newGRPC(cert)
		go func() { _ = g.Serve(listener) }()
		defer g.Stop()
		raw, err := listener.DialContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13})
		// The preface and empty settings: a client that has nothing to ask.
		if _, err := conn.Write(append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 0, 0, 0, 4, 0, 0, 0, 0, 0)); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		told := false // GOAWAY, frame type 7
		for time.Since(begin) < 10*idleWithin {
			head := make([]byte, 9)
			if _, err := io.ReadFull(conn, head); err != nil {
				break
			}
			told = told || head[3] == 7
			body := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
			if _, err := io.ReadFull(conn, body); err != nil {
				break
			}
			if told {
				break
			}
			if head[3] == 6 && head[4]&1 == 0 { // a ping, which a living client answers
				if _, err := conn.Write(append([]byte{0, 0, 8, 6, 1, 0, 0, 0, 0}, body...)); err != nil {
					break
				}
			}
		}
		if took := time.Since(begin); !told || took < idleWithin || took > idleWithin+pingEvery {
			t.Errorf("told to go: %v, after %v; want after %v", told, took, idleWithin)
		}
	})
}

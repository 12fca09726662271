package sync

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/certtest"
	"gatehouse/internal/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a test waits for on the network.
const patience = 20 * time.Second

// running is a server over a world.
type running struct {
	*world
	server *Server
	roots  *x509.CertPool
}

// serve starts a server, with options changed as wanted.
func serve(t testing.TB, w *world, change func(*Options)) *running {
	t.Helper()
	o := w.options()
	r := &running{world: w}
	o.Address = "127.0.0.1:0"
	pair := certtest.New(t)
	o.CertFile, o.KeyFile = pair.Files(t)
	r.roots = pair.Roots()
	if change != nil {
		change(&o)
	}
	var err error
	if r.server, err = New(o); err != nil {
		t.Fatal(err)
	}
	if err := r.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.server.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return r
}

// dial makes a client of its own connection.
func (r *running) dial(t testing.TB) pb.SidecarsClient {
	t.Helper()
	conn, err := grpc.NewClient(r.server.Addr(),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: r.roots, MinVersion: tls.VersionTLS13})),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(32<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return pb.NewSidecarsClient(conn)
}

// as is a context that carries a credential.
func as(ctx context.Context, secret string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+secret)
}

// peer is the sidecar's end of a stream.
type peer struct {
	t      testing.TB
	stream pb.Sidecars_SyncClient
}

// open opens a stream and says nothing yet.
func (r *running) open(t testing.TB, secret string) *peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	stream, err := r.dial(t).Sync(as(ctx, secret))
	if err != nil {
		t.Fatal(err)
	}
	return &peer{t, stream}
}

// connect opens a stream and says Hello.
func (r *running) connect(t testing.TB, name string, incarnation int64, held *pb.Status) *peer {
	t.Helper()
	p := r.open(t, secretOf(name))
	p.send(&pb.Up{Message: &pb.Up_Hello{Hello: &pb.Hello{Incarnation: incarnation, Build: "test", Status: held}}})
	return p
}

func (p *peer) send(up *pb.Up) {
	p.t.Helper()
	if err := p.stream.Send(up); err != nil {
		p.t.Fatalf("send: %v", err)
	}
}

func (p *peer) say(st *pb.Status) {
	p.t.Helper()
	p.send(statusOf(st))
}

// next is the next message that is no beat.
func (p *peer) next() *pb.Down {
	p.t.Helper()
	for {
		m, err := p.stream.Recv()
		if err != nil {
			p.t.Fatalf("receive: %v", err)
		}
		if m.GetBeat() == nil {
			return m
		}
	}
}

// settle takes what a new stream begins with, up to the first beat.
func (p *peer) settle() (out []*pb.Down) {
	p.t.Helper()
	for {
		m, err := p.stream.Recv()
		if err != nil {
			p.t.Fatalf("receive: %v", err)
		}
		out = append(out, m)
		if m.GetBeat() != nil {
			return out
		}
	}
}

// ends waits for the end of the stream, and wants it to be of this code.
func (p *peer) ends(want codes.Code) {
	p.t.Helper()
	for {
		if _, err := p.stream.Recv(); err != nil {
			if status.Code(err) != want {
				p.t.Errorf("the stream ended with %v, want %v", err, want)
			}
			return
		}
	}
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.After(patience); !is(); {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

// ada is a sidecar bound to org1.
func ada(set string) mesh.Sidecar {
	return mesh.Sidecar{Name: "ada", Tenant: "org1", Project: "proj1", Agent: "agent1", Role: "developer", PolicySet: set}
}

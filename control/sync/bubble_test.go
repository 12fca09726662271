package sync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/mesh"
	"gatehouse/internal/rawgrpc"
)

// bubble is a server without a network, in a synctest bubble.
type bubble struct {
	*world
	t      *testing.T
	server *Server
}

// inBubble runs a test over a server whose loops run.
func inBubble(t *testing.T, test func(t *testing.T, b *bubble)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		o := w.options()
		o.CertFile, o.KeyFile = "unread", "unread"
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		s.loops.Go(func() { s.hub.run(ctx) })
		s.loops.Go(func() { s.reports.run(ctx) })
		defer func() {
			close(s.stopping)
			synctest.Wait()
			s.wg.Wait()
			cancel()
			s.loops.Wait()
		}()
		test(t, &bubble{w, t, s})
	})
}

// fakeWire is a stream in memory: what is sent is noted, with the second of it.
type fakeWire struct {
	grpc.ServerStream
	ctx   context.Context
	up    chan *pb.Up
	stuck bool          // nothing can be sent
	slow  time.Duration // what sending takes

	began time.Time
	ended chan error // holds one

	mu  sync.Mutex // guards out
	out []sentAt
}

type sentAt struct {
	at   time.Duration
	down *pb.Down
}

func (w *fakeWire) Context() context.Context { return w.ctx }

func (w *fakeWire) Recv() (*pb.Up, error) {
	select {
	case up, ok := <-w.up:
		if !ok {
			return nil, io.EOF
		}
		return up, nil
	case <-w.ctx.Done():
		return nil, w.ctx.Err()
	}
}

func (w *fakeWire) Send(*pb.Down) error { return errors.New("messages go by SendMsg") }

func (w *fakeWire) SendMsg(m any) error {
	time.Sleep(w.slow)
	if w.stuck {
		<-w.ctx.Done()
	}
	if w.ctx.Err() != nil {
		return w.ctx.Err()
	}
	down, err := decoded(m)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out = append(w.out, sentAt{time.Since(w.began), down})
	return err
}

// decoded is a message as it is on the wire.
func decoded(m any) (*pb.Down, error) {
	switch m := m.(type) {
	case *pb.Down:
		return m, nil
	case *rawgrpc.Message:
		down := &pb.Down{}
		return down, proto.Unmarshal(*m, down)
	}
	return nil, fmt.Errorf("a message of type %T", m)
}

// open begins a stream of a sidecar.
func (b *bubble) open(s mesh.Sidecar) *fakeWire {
	c := caller{credential{secret: secretOf(s.Name), hash: hash{s.Name[0]}}, s}
	ctx, cancel := context.WithCancel(withCaller(context.Background(), c))
	w := &fakeWire{ctx: ctx, up: make(chan *pb.Up), began: time.Now(), ended: make(chan error, 1)}
	go func() {
		err := b.server.sync(w)
		cancel() // as grpc does
		w.ended <- err
	}()
	return w
}

// greet opens a stream and says Hello.
func (b *bubble) greet(s mesh.Sidecar) *fakeWire {
	w := b.open(s)
	w.up <- helloOf(nil)
	return w
}

// after lets time pass, and all that happens in it.
func (b *bubble) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// all is what was sent so far.
func (w *fakeWire) all() []sentAt {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.out)
}

// times are the seconds at which messages of a kind were sent.
func (w *fakeWire) times(is func(*pb.Down) bool) (out []int) {
	for _, s := range w.all() {
		if is(s.down) {
			out = append(out, int(s.at/time.Second))
		}
	}
	return out
}

func isBeat(d *pb.Down) bool     { return d.GetBeat() != nil }
func isRevision(d *pb.Down) bool { return d.GetRevision() != nil }
func isStored(d *pb.Down) bool   { return d.GetStored() != nil }

func (b *bubble) wantEnd(w *fakeWire, want codes.Code) {
	b.t.Helper()
	synctest.Wait()
	select {
	case err := <-w.ended:
		if status.Code(err) != want {
			b.t.Errorf("the stream ended with %v, want %v", err, want)
		}
	default:
		b.t.Errorf("the stream goes on, want it to end with %v", want)
	}
}

func (b *bubble) wantOpen(w *fakeWire) {
	b.t.Helper()
	synctest.Wait()
	select {
	case err := <-w.ended:
		b.t.Errorf("the stream ended with %v", err)
		w.ended <- err
	default:
	}
}

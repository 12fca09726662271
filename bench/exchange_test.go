package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	procv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Sizes of the run. The cost of an event is what long exchanges take more than
// short ones; events come apart, as from a model, so that each is a message of
// its own on the wire.
const (
	exchangeRounds = 10
	shortTexts     = 1
	longTexts      = 33
	perRoundShort  = 400 // exchanges
	perRoundLong   = 100
	inFlight       = 8
	eventPace      = time.Millisecond
)

// contender is a processor under measurement.
type contender struct {
	name        string
	pid         int
	client      procv3.ExternalProcessorClient
	ids         atomic.Int64 // of requests: each is another's
	short, long exchanges
}

// exchanges are those of one length, and what they took.
type exchanges struct {
	script *script
	figures
}

func BenchmarkExchange(b *testing.B) {
	var all []*contender
	for _, p := range processors() {
		all = append(all, newContender(b, p))
	}
	for _, c := range all {
		warm := exchanges{script: c.long.script}
		c.run(b, &warm, perRoundLong)
	}
	for b.Loop() {
		for range exchangeRounds {
			for _, c := range all {
				c.run(b, &c.short, perRoundShort)
				c.run(b, &c.long, perRoundLong)
			}
		}
	}
	reportExchanges(b, all)
}

// reportExchanges prints the table, and the ratios against the first processor.
func reportExchanges(b *testing.B, all []*contender) {
	fmt.Printf("%-12s %16s %16s %16s %16s\n", "processor", "first event p50", "first event p99", "CPU per request", "CPU per event")
	for _, c := range all {
		fmt.Printf("%-12s %16v %16v %16v %16v\n", c.name, c.short.percentile(0.5), c.short.percentile(0.99), c.perRequest(), c.perEvent())
	}
	first := all[0]
	ratio := func(name string, ours, theirs time.Duration) { b.ReportMetric(float64(ours)/float64(theirs), name) }
	for _, c := range all[1:] {
		ratio(c.name+"-first-event-p50-ratio", c.short.percentile(0.5), first.short.percentile(0.5))
		ratio(c.name+"-cpu-per-request-ratio", c.perRequest(), first.perRequest())
		ratio(c.name+"-cpu-per-event-ratio", c.perEvent(), first.perEvent())
	}
}

// perEvent is the server's CPU time for one more event.
func (c *contender) perEvent() time.Duration {
	return (c.long.cpuPerRequest() - c.short.cpuPerRequest()) / time.Duration(len(c.long.script.frames)-len(c.short.script.frames))
}

// perRequest is the server's CPU time for an exchange without its events.
func (c *contender) perRequest() time.Duration {
	return c.short.cpuPerRequest() - c.perEvent()*time.Duration(len(c.short.script.frames))
}

func newContender(b *testing.B, p processor) *contender {
	dir, err := os.MkdirTemp("", "ghb")
	must(b, err)
	b.Cleanup(func() { os.RemoveAll(dir) })
	c := &contender{name: p.name, pid: startServer(b, p.name, dir), client: dial(b, dir)}
	c.short.script, err = newScript(p.check, shortTexts)
	must(b, err)
	c.long.script, err = newScript(p.check, longTexts)
	must(b, err)
	return c
}

func dial(tb testing.TB, dir string) procv3.ExternalProcessorClient {
	conn, err := grpc.NewClient("unix:"+filepath.Join(dir, "gate.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true))) // its file is there a moment before anybody listens
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	return procv3.NewExternalProcessorClient(conn)
}

// run plays n exchanges, some at once, and adds what they took.
func (c *contender) run(b *testing.B, x *exchanges, n int) {
	b.Helper()
	before := cpuTime(b, c.pid)
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range inFlight {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				p, err := x.script.play(b.Context(), c.client, fmt.Sprintf("%s-%d", c.name, c.ids.Add(1)), eventPace)
				if err != nil {
					b.Errorf("%s: %v", c.name, err)
					return
				}
				mu.Lock()
				x.latencies = append(x.latencies, p.firstEvent)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	x.cpu += cpuTime(b, c.pid) - before
	x.requests += n
	if b.Failed() {
		b.FailNow()
	}
}

// serve serves an ext_proc server in this process.
func serve(t *testing.T, s procv3.ExternalProcessorServer) procv3.ExternalProcessorClient {
	t.Helper()
	dir, err := os.MkdirTemp("", "ghb") // the test's own has too long a path for a socket
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "gate.sock"))
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	procv3.RegisterExternalProcessorServer(g, s)
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.Serve(l) }) // ends with Stop
	t.Cleanup(func() { g.Stop(); wg.Wait(); os.RemoveAll(dir) })
	return dial(t, dir)
}

func TestEchoPassesAnExchangeOn(t *testing.T) {
	t.Parallel()
	client := serve(t, echoServer{})
	for _, texts := range []int{0, 1, 20} {
		s, err := newScript(plainCheck(), texts)
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.play(t.Context(), client, "r-1", 10*time.Microsecond)
		if err != nil {
			t.Fatal(err)
		}
		if want := bytes.Join(s.frames, nil); len(s.frames) != texts+3 || !bytes.Equal(p.body, want) || p.firstEvent <= 0 {
			t.Errorf("%d texts: first event after %v, body %q, want %q", texts, p.firstEvent, p.body, want)
		}
	}
}

// fakeServer answers as a test says.
type fakeServer struct {
	procv3.UnimplementedExternalProcessorServer
	answer func(*procv3.ProcessingRequest) (*procv3.ProcessingResponse, error)
}

func (f fakeServer) Process(stream procv3.ExternalProcessor_ProcessServer) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		r, err := f.answer(m)
		if err != nil {
			return err
		}
		if err := stream.Send(r); err != nil {
			return err
		}
	}
}

// What a measured server does wrong is an error, and never a good figure.
func TestPlayNoticesWhatIsNoExchange(t *testing.T) {
	t.Parallel()
	refusal := &procv3.ProcessingResponse{Response: &procv3.ProcessingResponse_ImmediateResponse{ImmediateResponse: &procv3.ImmediateResponse{Details: "no budget"}}}
	broken := errors.New("it broke")
	at := func(when func(*procv3.ProcessingRequest) bool, r *procv3.ProcessingResponse, err error) fakeServer {
		return fakeServer{answer: func(m *procv3.ProcessingRequest) (*procv3.ProcessingResponse, error) {
			if when(m) {
				return r, err
			}
			return echo(m)
		}}
	}
	body := func(m *procv3.ProcessingRequest) bool { return m.GetRequestBody() != nil }
	head := func(m *procv3.ProcessingRequest) bool { return m.GetResponseHeaders() != nil }
	part := func(m *procv3.ProcessingRequest) bool { return m.GetResponseBody() != nil }
	s, err := newScript(plainCheck(), 3)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		server fakeServer
		want   string
	}{
		"refuses":              {at(body, refusal, nil), "no budget"},
		"breaks off":           {at(head, nil, broken), "it broke"},
		"breaks off later":     {at(part, nil, broken), "it broke"},
		"refuses later":        {at(part, refusal, nil), "no budget"},
		"another's answer":     {at(body, streamed(nil, false), nil), "was answered by"},
		"cuts":                 {at(part, streamed([]byte("data: {\"error\":1}\n\n"), true), nil), "does not end as it was sent"},
		"no answer of headers": {at(head, streamed(nil, false), nil), "was answered by"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := s.play(t.Context(), serve(t, tt.server), "r-1", 10*time.Microsecond)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v and %v, want %q", p, err, tt.want)
			}
		})
	}
}

func TestPlayEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client := serve(t, fakeServer{answer: func(m *procv3.ProcessingRequest) (*procv3.ProcessingResponse, error) {
		if m.GetResponseBody() != nil {
			cancel()
		}
		return echo(m)
	}})
	s, err := newScript(plainCheck(), 3)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := s.play(ctx, client, "r-1", time.Hour); err == nil {
		t.Errorf("got %+v", p)
	}
}

func TestCostsOfEventsAndRequestsAreToldApart(t *testing.T) {
	t.Parallel()
	c := contender{
		short: exchanges{script: &script{frames: make([][]byte, 4)}, figures: figures{cpu: 10 * 140 * time.Microsecond, requests: 10}},
		long:  exchanges{script: &script{frames: make([][]byte, 36)}, figures: figures{cpu: 5 * 460 * time.Microsecond, requests: 5}},
	}
	if e, r := c.perEvent(), c.perRequest(); e != 10*time.Microsecond || r != 100*time.Microsecond {
		t.Errorf("%v an event and %v a request, want 10µs and 100µs", e, r)
	}
}

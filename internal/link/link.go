// Package link is a sidecar's line to control: one connection over TLS, on it
// the one Sync stream, and what it carries up: the newest status and batches of
// decision records; and the one stream to the ledger. Both come back by themselves.
// It knows nothing of what it hears: a Handler and a LedgerHandler do.
//
// It refuses to speak in clear. What waits to go up is bounded: of statuses the
// newest, of records queueLength; what has no room is dropped and counted.
//
// A Line is safe for concurrent use.
package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"gatehouse/api/v1/sidecarpb"
)

// Bounds of a line.
const (
	maxMessage   = 32 << 20         // bytes of one that control sends
	pingEvery    = 10 * time.Second // on a silent connection
	pingTimeout  = 10 * time.Second // then it is dead
	greetTimeout = 10 * time.Second // from the stream's start to Welcome
	sendTimeout  = 30 * time.Second // of one message
	dialTimeout  = 5 * time.Second  // of the connection, TLS included
	firstPause   = 250 * time.Millisecond
	// longestPause is between two tries, plus up to a half: when control can be
	// reached again, what was revoked meanwhile must be known within 5 s.
	longestPause = 3 * time.Second
)

// Handler takes what control says. Its methods are called one after the other,
// in the order of the messages; while one runs, nothing else is heard.
type Handler interface {
	Welcome(*sidecarpb.Welcome)
	Live(*sidecarpb.Live)
	Revision(*sidecarpb.Revision)
	Beat(*sidecarpb.Beat)
	Breakers(*sidecarpb.BreakerOrders)
	// Status is what to tell control of this sidecar now.
	Status() *sidecarpb.Status
}

// Options are what a Line needs.
type Options struct {
	Address     string                 // host:port
	TLS         *tls.Config            // who may be control
	Secret      func() (string, error) // the credential, asked for at each try
	Build       string
	Incarnation int64 // larger for each later process of the sidecar
	Handler     Handler
	Log         *slog.Logger
	Dropped     func(n int) // told of records that had no room; must not block
}

// Line is a line to control. Make it with New.
type Line struct {
	opts   Options
	conn   *grpc.ClientConn
	client sidecarpb.SidecarsClient
	out    *outbox
	news   chan struct{} // of capacity 1: the status has changed
	up     atomic.Bool
}

// New prepares a line. Nothing is dialled.
func New(o Options) (*Line, error) { return newLine(o) }

// newLine is New with more options, for another way to dial.
func newLine(o Options, more ...grpc.DialOption) (*Line, error) {
	l := &Line{opts: o, out: newOutbox(o.Dropped), news: make(chan struct{}, 1)}
	conn, err := grpc.NewClient("passthrough:///"+o.Address, append(more,
		grpc.WithTransportCredentials(credentials.NewTLS(o.TLS)),
		grpc.WithPerRPCCredentials(bearer(o.Secret)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithConnectParams(connectParams()),
	)...)
	if err != nil {
		return nil, fmt.Errorf("control %s: %w", o.Address, err)
	}
	l.conn, l.client = conn, sidecarpb.NewSidecarsClient(conn)
	return l, nil
}

// Up reports whether a stream is there and control has welcomed it.
func (l *Line) Up() bool { return l.up.Load() }

// Changed says that the status is another now. It never blocks.
func (l *Line) Changed() {
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// Record queues a decision record, one JSON object. It never blocks.
func (l *Line) Record(record []byte) { l.out.add(record) }

// Close ends the connection.
func (l *Line) Close() { _ = l.conn.Close() }

// Run keeps a stream until ctx ends.
func (l *Line) Run(ctx context.Context) {
	l.keep(ctx, "no line to control; what it said last stays in force", l.session)
}

// keep has one session after the other until ctx ends. A session reports whether
// control welcomed it, and why it ended.
func (l *Line) keep(ctx context.Context, without string, session func(context.Context) (welcomed bool, err error)) {
	pause, before := firstPause, codes.OK
	for ctx.Err() == nil {
		welcomed, err := session(ctx)
		if welcomed {
			pause, before = firstPause, codes.OK
		}
		// Told once for each kind of failure: its text may differ each time.
		if code := status.Code(err); ctx.Err() == nil && code != before {
			l.opts.Log.Warn(without, "control", l.opts.Address, "error", describe(err))
			before = code
		}
		l.rest(ctx, pause)
		pause = min(2*pause, longestPause)
	}
}

// rest waits until the next try. Where the connection is down, that is when it
// is back: gRPC dials with pauses of its own, and ours on top of them would be
// too long. It ends after a while nevertheless, so that another reason is told.
func (l *Line) rest(ctx context.Context, pause time.Duration) {
	if !down(l.conn.GetState()) {
		select {
		case <-ctx.Done():
		case <-time.After(pause + rand.N(pause/2)):
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	for s := l.conn.GetState(); down(s) && l.conn.WaitForStateChange(ctx, s); s = l.conn.GetState() {
	}
}

func down(s connectivity.State) bool {
	return s == connectivity.TransientFailure || s == connectivity.Connecting
}

// describe says what to do where control's answer tells it.
func describe(err error) string {
	if status.Code(err) == codes.Unauthenticated {
		return "control does not know the credential, or has revoked it; register the sidecar, or rotate its credential, and replace the credential file: " + err.Error()
	}
	return fmt.Sprint(err)
}

var errSilent = errors.New("control did not answer in time")

// session opens one stream and stays on it until it ends. It reports whether
// control welcomed it.
func (l *Line) session(ctx context.Context) (welcomed bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(greetTimeout, func() { cancel(errSilent) })
	defer late.Stop()
	stream, err := l.client.Sync(ctx)
	if err != nil {
		return false, cause(ctx, err)
	}
	s := &session{line: l, stream: stream, welcome: make(chan struct{}), stored: make(chan int64, 1), cancel: cancel}
	defer l.up.Store(false)
	heard := make(chan error, 1)
	go func() { heard <- s.listen() }()
	err = s.speak(ctx, late.Stop)
	if !errors.Is(err, io.EOF) {
		cancel(err)
	}
	// EOF says that the stream has ended; why, the listener learns.
	if e := <-heard; errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		err = e
	}
	return s.welcomed(), cause(ctx, err)
}

// cause prefers why we ended a stream to what came of it.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil && !errors.Is(c, context.Canceled) {
		return c
	}
	return err
}

// bearer is the credential of each call.
type bearer func() (string, error)

// GetRequestMetadata returns the credential as metadata. One that can't be read
// is told apart from one that control does not know.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	secret, err := b()
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return map[string]string{"authorization": "Bearer " + secret}, nil
}

// RequireTransportSecurity keeps the credential off connections in clear.
func (bearer) RequireTransportSecurity() bool { return true }

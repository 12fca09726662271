package sync

import (
	"errors"
	"io"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "gatehouse/api/v1/sidecarpb"
)

// sendWithin bounds the sending of one message, however large, to a receiver
// that is slow.
const sendWithin = 30 * time.Second

// Answers to streams that can't go on.
var (
	errHelloLate = status.Error(codes.InvalidArgument, "Hello did not come in time")
	errSlow      = status.Error(codes.DeadlineExceeded, "a message could not be sent in time")
	errStopping  = status.Error(codes.Unavailable, "this process is stopping")
	errFull      = status.Error(codes.ResourceExhausted, "too many sidecars are connected here")
)

// stream is the shell of a session: it hands what comes to it, and sends what
// it says. All but the channels belongs to the goroutine of run.
type stream struct {
	server  *Server
	wire    grpc.BidiStreamingServer[pb.Up, pb.Down]
	session *session
	caller  caller
	member  *member // nil before Hello

	begun   time.Time
	sending output // under way; kind nothing when none is
	sendBy  time.Time

	received chan received
	sent     chan error
	kept     chan bool
}

type received struct {
	up  *pb.Up
	err error
}

// sync serves the stream of one sidecar.
func (s *Server) sync(wire grpc.BidiStreamingServer[pb.Up, pb.Down]) error {
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	default:
		return errFull
	}
	c := callerOf(wire.Context())
	if !s.strange.enter(c.hash) {
		return errStrangers
	}
	st := &stream{
		server: s, wire: wire, caller: c, begun: time.Now(),
		session:  newSession(c.sidecar, beatWithin-rand.N(beatJitter)),
		received: make(chan received), sent: make(chan error, 1), kept: make(chan bool, 1),
	}
	// What these begin ends when Sync has returned, since then the stream's
	// context ends; Stop awaits it.
	s.wg.Go(st.receive)
	defer st.leave()
	return st.run()
}

// receive hands on what the sidecar sends, one message at a time.
func (st *stream) receive() {
	for {
		up, err := st.wire.Recv()
		select {
		case st.received <- received{up, err}:
		case <-st.wire.Context().Done():
			return
		}
		if err != nil {
			return
		}
	}
}

func (st *stream) leave() {
	if st.member == nil {
		st.server.strange.leave(st.caller.hash)
		return
	}
	st.server.roster.leave(st.member)
}

// run is the stream from its beginning to its end, whose reason it returns; nil
// if the sidecar ended it.
func (st *stream) run() error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if at := st.advance(time.Now()); at.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(at))
		}
		if err := st.wait(timer.C); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// wait takes in the next thing that happens.
func (st *stream) wait(timer <-chan time.Time) error {
	select {
	case <-st.wire.Context().Done():
		return status.FromContextError(st.wire.Context().Err()).Err()
	case <-st.server.stopping:
		return errStopping
	case r := <-st.received:
		if r.err != nil {
			return r.err
		}
		return st.take(time.Now(), r.up)
	case err := <-st.sent:
		return st.delivered(time.Now(), err)
	case kept := <-st.kept:
		st.session.done(kept)
	case <-st.wake():
		return st.refresh()
	case <-timer:
		return st.late(time.Now())
	}
	return nil
}

// wake is nil, and so never ready, before Hello.
func (st *stream) wake() <-chan struct{} {
	if st.member == nil {
		return nil
	}
	return st.member.wake
}

// advance begins to send what is next, unless something is being sent, and
// returns when to look again; the zero time is never.
func (st *stream) advance(now time.Time) time.Time {
	if st.member == nil {
		return st.begun.Add(helloWithin)
	}
	if st.sending.kind != nothing {
		return st.sendBy
	}
	hub := st.server.hub
	o, at := st.session.next(now, hub.view.Load(), *hub.fresh.Load())
	if o.kind == nothing {
		return at
	}
	if o.ahead {
		st.server.opts.Log.Warn("sync: a sidecar enforces a later generation than there is; was the database set back?",
			"sidecar", st.caller.sidecar.ID, "has", st.session.said.generation, "active", o.revision.generation)
	}
	st.session.begin(now, o)
	st.sending, st.sendBy = o, now.Add(sendWithin)
	st.server.wg.Go(func() { st.sent <- st.wire.SendMsg(o.message) })
	return st.sendBy
}

func (st *stream) delivered(now time.Time, err error) error {
	if err != nil {
		return err
	}
	st.session.end(now, st.sending)
	st.sending = output{}
	return nil
}

// late is what a time that has come means.
func (st *stream) late(now time.Time) error {
	switch {
	case st.member == nil && !now.Before(st.begun.Add(helloWithin)):
		return errHelloLate
	case st.sending.kind != nothing && !now.Before(st.sendBy):
		return errSlow
	}
	return nil // advance knows
}

// refresh is for when the roster or the hub has news.
func (st *stream) refresh() error {
	if cause := st.member.cause.Load(); cause != nil {
		return *cause
	}
	if now := st.member.registration.Load(); now.Version != st.session.sidecar.Version {
		st.session.rebind(*now)
		st.need()
	}
	return nil
}

// need makes the hub ask for what it doesn't have for this sidecar.
func (st *stream) need() {
	if !st.server.hub.has(&st.session.sidecar) {
		st.server.hub.poke()
	}
}

// take hands the session one message, and on what it comes to.
func (st *stream) take(now time.Time, up *pb.Up) error {
	h, err := st.session.take(now, up)
	if err != nil {
		return err
	}
	if st.member == nil {
		if err := st.join(); err != nil {
			return err
		}
	}
	s := &st.session.sidecar
	if h.report != nil {
		st.server.reports.put(s.ID, *h.report)
	}
	if h.breakers != nil {
		st.server.breakers.put(s.ID, *h.breakers)
	}
	if h.acked && st.server.opts.Acknowledged != nil {
		st.server.opts.Acknowledged(s.PolicySet, st.session.said.generation, h.after)
	}
	if h.batch != nil {
		st.store(h.batch)
	}
	return nil
}

// join makes the stream its sidecar's, after Hello.
func (st *stream) join() error {
	m := newMember(st.caller, st.session.report.Incarnation)
	if err := st.server.roster.join(m); err != nil {
		return err
	}
	st.member = m
	st.server.strange.leave(st.caller.hash)
	st.need()
	return nil
}

// store keeps a batch while messages go on.
func (st *stream) store(batch *pb.Records) {
	ctx, s := st.wire.Context(), st.session.sidecar
	st.server.wg.Go(func() { st.kept <- st.server.recorder.keep(ctx, s, batch) })
}

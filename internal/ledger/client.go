package ledger

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/bits"
	"sync"
	"time"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/budget"
	"gatehouse/internal/link"
)

// Times of a Client.
const (
	// askWithin is below the 2 s after which Envoy gives up on its sidecar.
	askWithin = 1500 * time.Millisecond
	// lingerFor is how long the end of Run waits for control to decide what is there.
	lingerFor = 2 * time.Second
)

// holdsBelow is how many settlements may wait in memory for new holds to be asked
// for: those that are open will want the rest of the room.
const holdsBelow = maxQueued * 3 / 4

// Line is the connection to control.
type Line interface {
	// RunLedger keeps a stream to the ledger until ctx ends; see link.Line.
	RunLedger(ctx context.Context, h link.LedgerHandler)
}

// Options are what Open needs. Dir must be set.
type Options struct {
	Dir         string // of spools; made where it is not there
	Incarnation int64  // that of the line
	Line        Line
	Log         *slog.Logger // nil discards
}

// Client is a sidecar's ledger. See the package comment.
type Client struct {
	o Options

	wake chan struct{} // of capacity 1: there may be something to say
	stir chan struct{} // of capacity 1: there may be something to keep

	mu       sync.Mutex // guards all below
	asks     asks
	queue    queue
	seq      uint64
	inFlight int       // of the stream; 0 without one
	down     time.Time // since when there is no stream; zero while there is one
	alarm    error     // why no new holds are asked for
	bytes    int64     // of spools
	lost     int64
	refused  int64
	handover handover
	drained  chan struct{} // closed when there is nothing to wait for; nil while nobody does
	closed   bool

	spools *spools // of the keeper's goroutine, and then of Close
}

// handover is what becomes of the spools of earlier processes.
type handover struct {
	clear bool      // none is left
	asked bool      // Replayed was said on this stream, or is not due
	again time.Time // not before
	done  bool      // control has closed what they held
}

// Open returns a Client, which touches nothing before Run. A folder that can't be
// written is no error: until it can, the Client asks for no holds and says so in its
// Status.
func Open(o Options) (*Client, error) {
	if o.Dir == "" || o.Line == nil || o.Incarnation < 1 {
		return nil, errors.New("ledger: needs a folder, a line and an incarnation")
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	c := &Client{
		o: o, wake: make(chan struct{}, 1), stir: make(chan struct{}, 1), asks: newAsks(), queue: newQueue(), down: time.Now(),
		spools: openSpools(o.Dir, o.Incarnation, o.Log),
	}
	return c, nil
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Reserve asks for a hold of h.Tokens within a tenant, for at most 1.5 s; sooner, if
// ctx ends. An error says that nothing is held, or that it will be given back, so
// that nothing may go upstream: budget.ErrUnavailable where control could not be
// asked or did not say, ErrForbidden, budget.ErrInvalid, budget.ErrUnknown. Whoever
// gets budget.Held is to call Settle once.
func (c *Client) Reserve(ctx context.Context, tenant string, h budget.Hold) (budget.Answer, error) {
	if err := cmp.Or(holdable(tenant, h), c.lends()); err != nil {
		return budget.Answer{}, err
	}
	down, unsure, err := c.ask(ctx, tenant, func(seq uint64) *pb.LedgerUp { return reserveMessage(seq, tenant, h) })
	a := budget.Answer{}
	if err == nil {
		a, err = answerOf(h, down.GetReserved())
	}
	if err != nil && unsure {
		// A kill here: the hold stays, if it was made, until a later process has replayed.
		c.Settle(tenant, budget.Settlement{Key: h.Key, Action: budget.Release})
	}
	return a, err
}

// lends returns why no holds may be asked for; nil where they may.
func (c *Client) lends() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return unavailable(errClosed)
	case c.inFlight == 0:
		return unavailable(errDown)
	case c.alarm != nil:
		return unavailable(c.alarm)
	case c.queue.count >= holdsBelow:
		return unavailable(errBehind)
	}
	return nil
}

// TopUp raises a hold to total tokens in all, for at most 1.5 s. It may be repeated.
// Errors: ErrNoRoom, ErrOver, and those of Reserve; of budget.ErrUnavailable the hold
// may have been raised.
func (c *Client) TopUp(ctx context.Context, tenant string, k budget.Key, total int64) error {
	s := budget.Settlement{Key: k, Action: budget.TopUp, Tokens: total}
	if err := settleable(tenant, s); err != nil {
		return err
	}
	down, _, err := c.ask(ctx, tenant, func(seq uint64) *pb.LedgerUp { return settleMessage(seq, tenant, s) })
	if err != nil {
		return err
	}
	return toppedUp(down.GetSettled().GetOutcome())
}

// Settle takes a commit or release for good. It does not wait.
//
// A kill -9 loses what is in memory alone: what control was about to answer, and of a
// line that was lost just now a second's, of one that is silent five. Control then
// charges the hold when a later process has replayed, or when its time is over.
func (c *Client) Settle(tenant string, s budget.Settlement) {
	err := settleable(tenant, s)
	if err == nil && s.Action == budget.TopUp {
		err = budget.ErrInvalid
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil && c.closed:
		err = errClosed
	case err == nil && !c.queue.add(time.Now(), tenant, s):
		err = errBehind
	}
	if err != nil {
		c.loseLocked(1, tenant, s.ID, err)
		return
	}
	poke(c.wake)
	if n := c.queue.count; n == 1 || n == maxQueued/2 {
		poke(c.stir)
	}
}

// loseLocked counts settlements that nobody keeps, and tells of the first ones and
// then ever fewer.
func (c *Client) loseLocked(n int64, tenant, id string, why error) {
	before := c.lost
	c.lost += n
	if bits.Len64(uint64(before)) != bits.Len64(uint64(c.lost)) {
		c.o.Log.Error("a settlement is lost; its hold will be charged in full", "tenant", tenant, "request", id, "lost", c.lost, "error", why)
	}
}

// Run keeps the line and the spools until ctx ends; then it waits a little for
// control to decide what is there. It may run once.
func (c *Client) Run(ctx context.Context) {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	c.look() // before anybody can ask for a hold
	var wg sync.WaitGroup
	wg.Go(func() { c.o.Line.RunLedger(inner, c) })
	wg.Go(func() { c.keep(inner) })
	<-ctx.Done()
	c.linger()
	cancel()
	wg.Wait()
}

// linger waits until nothing is left to decide, or nobody is there to decide it.
func (c *Client) linger() {
	c.mu.Lock()
	c.drained = make(chan struct{})
	drained := c.drained
	c.drainLocked()
	c.mu.Unlock()
	timer := time.NewTimer(lingerFor)
	defer timer.Stop()
	select {
	case <-drained:
	case <-timer.C:
	}
}

func (c *Client) drainLocked() {
	if c.drained != nil && (c.inFlight == 0 || c.queue.count == 0) {
		close(c.drained)
		c.drained = nil
	}
}

// Close writes what control has not decided into the spool, for the next process. It
// is called after Run has returned, and once.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for c.queue.count > 0 {
		n, err := c.spools.write(c.queue.write(time.Now(), maxWrite, true))
		c.queue.written(n)
		if err != nil {
			c.loseLocked(int64(c.queue.count), "", "", err)
			break
		}
	}
	c.spools.close()
}

// Status is what a Client can show of itself.
type Status struct {
	Connected  bool  // there is a stream to the ledger
	Asking     int   // holds and top-ups that wait for an answer
	Waiting    int   // settlements in memory alone, that control has not decided
	SpoolBytes int64 // of all spools, an empty one's some
	Lost       int64 // settlements that nobody kept; their holds are charged in full
	Refused    int64 // settlements that control would not take
	Alarm      error // why no holds are asked for though there is a stream; nil where they are
	HandedOver bool  // what earlier processes left was said, and control closed their holds
}

// Status shows how things stand.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Status{
		Connected: c.inFlight > 0, Asking: c.asks.count, Waiting: c.queue.count, SpoolBytes: c.bytes,
		Lost: c.lost, Refused: c.refused, Alarm: c.alarm, HandedOver: c.handover.done,
	}
}

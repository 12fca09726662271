package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/budget"
)

// Reasons why control was not asked.
var (
	errDown    = errors.New("there is no line to the ledger")
	errBehind  = errors.New("too many settlements wait")
	errTooMany = errors.New("too many holds are being asked for")
	errClosed  = errors.New("this process is stopping")
)

func unavailable(why error) error { return fmt.Errorf("%w: %w", budget.ErrUnavailable, why) }

// replayAgain is how long to wait before Replayed is said again that control could
// not do.
const replayAgain = 5 * time.Second

// ask puts a question and waits for the answer, at most askWithin. An error, of
// budget.ErrUnavailable, says that there was none; unsure, that without a certain
// answer it may have been done.
func (c *Client) ask(ctx context.Context, tenant string, message func(uint64) *pb.LedgerUp) (down *pb.LedgerDown, unsure bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	a := &ask{tenant: tenant, message: message, done: make(chan reply, 1)}
	if err := c.begin(a); err != nil {
		return nil, false, err
	}
	select {
	case r := <-a.done:
		if r.err != nil {
			return nil, true, unavailable(r.err)
		}
		return r.down, a.unsure, nil
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return nil, c.asks.leave(a), unavailable(context.Cause(ctx))
}

func (c *Client) begin(a *ask) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return unavailable(errClosed)
	case c.inFlight == 0:
		return unavailable(errDown)
	case !c.asks.add(a):
		return unavailable(errTooMany)
	}
	poke(c.wake)
	return nil
}

// Speak implements link.LedgerHandler.
func (c *Client) Speak(ctx context.Context, inFlight int, send func(*pb.LedgerUp) error) error {
	c.connected(inFlight)
	defer c.disconnected()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		m, at := c.next(time.Now())
		if m != nil {
			if err := send(m); err != nil {
				return err
			}
			continue
		}
		if at.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.wake:
		case <-timer.C:
		}
	}
}

func (c *Client) connected(inFlight int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight, c.down = inFlight, time.Time{}
	c.handover.asked = c.handover.done
	poke(c.stir)
}

func (c *Client) disconnected() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight, c.down = 0, time.Now()
	c.asks.lost()
	c.queue.lost()
	c.drainLocked()
	poke(c.stir)
}

// next is what to say now; nil where there is nothing, and then when to look again.
func (c *Client) next(now time.Time) (*pb.LedgerUp, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	window := max(1, min(maxFlight, c.inFlight/2))
	if a := c.asks.next(c.seq+1, max(1, c.inFlight-window)); a != nil {
		c.seq++
		return a.message(c.seq), time.Time{}
	}
	e, at := c.queue.next(now, c.seq+1, window)
	if e != nil {
		c.seq++
		return settleMessage(c.seq, e.tenant, e.Settlement), time.Time{}
	}
	if c.handover.asked || !c.handover.clear {
		return nil, at
	}
	if c.handover.again.After(now) {
		if at.IsZero() || c.handover.again.Before(at) {
			at = c.handover.again
		}
		return nil, at
	}
	c.handover.asked = true
	return &pb.LedgerUp{Message: &pb.LedgerUp_Replayed{Replayed: &pb.Replayed{}}}, time.Time{}
}

// Hear implements link.LedgerHandler. What this build does not know is passed over.
func (c *Client) Hear(m *pb.LedgerDown) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case m.GetReserved() != nil:
		r := m.GetReserved()
		c.asks.answered(r.GetSeq(), m, certain(r.GetVerdict()))
	case m.GetSettled() != nil:
		c.settledLocked(time.Now(), m)
	case m.GetClosed() != nil:
		c.handover.done = m.GetClosed().GetDone()
		c.handover.asked = c.handover.done
		c.handover.again = time.Now().Add(replayAgain)
	}
	poke(c.wake) // there may be room for more
}

// settledLocked takes the answer to a settlement, or to a top-up.
func (c *Client) settledLocked(now time.Time, m *pb.LedgerDown) {
	s := m.GetSettled()
	e := c.queue.answered(now, s.GetSeq(), s.GetFinal())
	if e == nil {
		c.asks.answered(s.GetSeq(), m, s.GetFinal() || s.GetOutcome() == pb.Busy)
		return
	}
	if s.GetFinal() && unwelcome(e.Settlement, s.GetOutcome()) {
		c.refused++
		c.o.Log.Warn("control refused a settlement for good", "tenant", e.tenant, "request", e.ID, "action", e.Action, "outcome", s.GetOutcome())
	}
	if e.from != nil && (e.from.out == 0 || c.queue.room() >= readBatch) {
		poke(c.stir) // its spool may be done, or there is room for more of it
	}
	c.drainLocked()
}

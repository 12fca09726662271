package ledger

import (
	"context"
	"errors"
	"time"

	"gatehouse/budget"
)

// Times and bounds of the keeper of the spools.
const (
	scanEvery  = 5 * time.Second // for what other processes left
	retryEvery = time.Second     // of what could not be done
	readBatch  = 256             // records that are read back at once
)

// keep moves settlements between memory and the disk until ctx ends.
func (c *Client) keep(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var scanAt, retryAt time.Time
	for ctx.Err() == nil {
		now := time.Now()
		if !now.Before(scanAt) {
			c.scan()
			scanAt = now.Add(scanEvery)
		}
		if !now.Before(retryAt) {
			retryAt = c.spool(now)
		}
		if c.readBack() {
			continue
		}
		c.finish()
		timer.Reset(time.Until(c.due(now, scanAt, retryAt)))
		select {
		case <-ctx.Done():
		case <-c.stir:
		case <-timer.C:
		}
	}
}

// due is when to look again, though nothing happens.
func (c *Client) due(now, scanAt, retryAt time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := scanAt
	if overdue, then := c.queue.overdue(now, c.down); overdue || c.alarm != nil {
		then = retryAt
		if then.Before(at) {
			at = then
		}
	} else if !then.IsZero() && then.Before(at) {
		at = then
	}
	return at
}

// scan looks for what other processes left.
func (c *Client) scan() {
	if c.spools.own == nil {
		c.look()
	}
	if err := c.spools.scan(); err != nil {
		c.spools.alive++ // nobody knows what is there
		c.o.Log.Warn("the spools of earlier processes can't be looked for", "folder", c.o.Dir, "error", err)
	}
}

// spool writes what is overdue, and returns when to try again; the zero time is
// whenever something is.
func (c *Client) spool(now time.Time) (again time.Time) {
	for {
		overdue, batch, alarmed := c.overdue(now)
		switch {
		case !overdue && !alarmed:
			return time.Time{}
		case !overdue:
			c.look()
			return now.Add(retryEvery)
		case len(batch) == 0: // all of it was sent just now
			return now.Add(retryEvery)
		}
		n, err := c.spools.write(batch)
		c.wrote(n, err)
		if err != nil {
			return now.Add(retryEvery)
		}
	}
}

// overdue takes the settlements that are to be written now, if any are, and says
// whether there is an alarm.
func (c *Client) overdue(now time.Time) (overdue bool, batch []*entry, alarmed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if overdue, _ = c.queue.overdue(now, c.down); overdue {
		batch = c.queue.write(now, maxWrite, false)
	}
	return overdue, batch, c.alarm != nil
}

// wrote says what the disk took of a batch. A kill after this loses nothing of it.
func (c *Client) wrote(n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue.written(n)
	c.queue.behind = c.queue.behind || n > 0
	c.alarmLocked(err)
}

// look asks whether the disk could take something.
func (c *Client) look() {
	err := c.spools.check()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alarmLocked(err)
}

// alarmLocked says whether holds may be asked for: not when what settles them might
// have no place.
func (c *Client) alarmLocked(err error) {
	switch {
	case err != nil && c.alarm == nil:
		c.o.Log.Error("settlements can't be spooled; no new holds are asked for", "folder", c.o.Dir, "error", err)
	case err == nil && c.alarm != nil:
		c.o.Log.Info("settlements can be spooled again", "folder", c.o.Dir)
	}
	c.alarm, c.bytes = err, c.spools.bytes()
}

// readBack takes some settlements from a spool, this process's first, if there is
// somebody to tell them to. It reports whether there may be more.
func (c *Client) readBack() bool {
	c.mu.Lock()
	n := min(readBatch, c.queue.room())
	if c.inFlight == 0 {
		n = 0
	}
	c.mu.Unlock()
	f := c.spools.unread()
	if f == nil || n <= 0 {
		return false
	}
	type settlement struct {
		tenant string
		budget.Settlement
	}
	var read []settlement
	f.next(n, func(tenant string, s budget.Settlement) { read = append(read, settlement{tenant, s}) })
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range read {
		c.queue.readBack(s.tenant, s.Settlement, f.pile)
	}
	if f == c.spools.own {
		c.queue.behind = f.unread()
		if f.torn != nil {
			c.spools.setAside()
		}
	}
	poke(c.wake)
	return true
}

// finish is done with the spools of which all is decided.
func (c *Client) finish() {
	c.mu.Lock()
	var done []*file
	for _, f := range c.spools.others {
		if f.decided() {
			done = append(done, f)
		}
	}
	own := c.spools.own
	restart := own != nil && own.size > int64(len(magic)) && own.decided()
	c.mu.Unlock()
	for _, f := range done {
		c.spools.finish(f)
	}
	var err error
	if restart {
		err = own.restart()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		c.alarmLocked(errors.Join(errUnwritable, err))
	case errors.Is(c.alarm, errFull) && (restart || len(done) > 0):
		c.alarmLocked(nil) // there is room again
	}
	c.bytes = c.spools.bytes()
	c.handover.clear = own != nil && len(c.spools.others) == 0 && c.spools.alive == 0
	if c.handover.clear && !c.handover.asked {
		poke(c.wake)
	}
}

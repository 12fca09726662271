package breaker

import "time"

// Bounds of the calls that are remembered.
const (
	maxCalls  = 1 << 16
	forgotten = 24 * time.Hour // as long as the longest exchange may take
	lookedAt  = 16             // entries that are looked at to make room
)

// begun is a call under way.
type begun struct {
	breaker    *breaker
	generation uint64
	at         time.Time
}

// calls are those under way, by id: at most limit.
type calls struct {
	limit int
	byID  map[string]begun
}

func newCalls(limit int) calls { return calls{limit: limit, byID: map[string]begun{}} }

// add remembers a call. The newest is always remembered: where there is no room,
// one that began earlier is forgotten, as if its end were never told.
func (c *calls) add(id string, b begun) {
	if _, known := c.byID[id]; !known && len(c.byID) >= c.limit {
		c.makeRoom(b.at)
	}
	c.byID[id] = b
}

// makeRoom forgets, of some calls, those that are too old, or else the oldest.
func (c *calls) makeRoom(now time.Time) {
	oldest, since, looked := "", now, 0
	for id, b := range c.byID {
		if now.Sub(b.at) >= forgotten {
			delete(c.byID, id)
		} else if looked == 0 || b.at.Before(since) {
			oldest, since = id, b.at
		}
		if looked++; looked >= lookedAt {
			break
		}
	}
	if len(c.byID) >= c.limit {
		delete(c.byID, oldest)
	}
}

// take returns a call and forgets it.
func (c *calls) take(id string) (begun, bool) {
	b, ok := c.byID[id]
	delete(c.byID, id)
	return b, ok
}

package ratelimit

// Limits of a limiter's memory, about 200 bytes a key.
const (
	// MaxKeys is the number of live counters that one rule keeps.
	MaxKeys = 100_000
	// MaxRules is the number of rules with counters at a time.
	MaxRules = 1024
)

// Steps of the sweep: every new key looks at sweepStep counters, so a table
// shrinks faster than it grows; in a full table it looks at sweepFull.
const (
	sweepStep = 2
	sweepFull = 64
)

// counter is the state of one key.
type counter struct {
	key      string
	tat      int64 // in the limiter's time; in the past means no debt
	interval int64 // the interval in which the debt was made
}

// tatFor is the counter's tat at another interval: used units stay used when a
// revision changes the rate. The debt is capped at the new capacity, beyond
// which it would only lengthen a denial.
func (c *counter) tatFor(now, interval, capacity int64) int64 {
	if c.tat <= now || c.interval == interval {
		return c.tat
	}
	return now + min(rescale(c.tat-now, c.interval, interval), capacity)
}

// table holds the counters of one rule. All its fields are guarded by the
// limiter's mutex.
type table struct {
	counters map[string]*counter
	ring     []*counter // the same counters, in the order of the sweep
	hand     int        // where the sweep goes on
	latest   int64      // no tat lies after it
}

func newTable() *table {
	return &table{counters: make(map[string]*counter)}
}

// counter finds the counter of key or makes one without debt. It returns nil
// when the table is full of counters that the sweep found live.
func (t *table) counter(now int64, key string, maxKeys int) *counter {
	if c, ok := t.counters[key]; ok {
		return c
	}
	t.sweep(now, sweepStep)
	if len(t.ring) >= maxKeys {
		t.sweep(now, sweepFull)
	}
	if len(t.ring) >= maxKeys {
		return nil
	}
	c := &counter{key: key, tat: now}
	t.counters[key] = c
	t.ring = append(t.ring, c)
	t.latest = max(t.latest, now)
	return c
}

// sweep looks at the next steps counters and drops those without debt.
// INVARIANT: a counter whose tat is past decides like none at all, so dropping
// it changes no answer. A tat of now or later is kept, and
// a Take holds only such counters, so it never writes to a dropped one.
func (t *table) sweep(now int64, steps int) {
	for range min(steps, len(t.ring)) {
		if t.hand >= len(t.ring) {
			t.hand = 0
		}
		if c := t.ring[t.hand]; c.tat < now {
			t.drop(t.hand)
			continue
		}
		t.hand++
	}
}

// drop removes the counter at i by moving the last one there.
func (t *table) drop(i int) {
	delete(t.counters, t.ring[i].key)
	last := len(t.ring) - 1
	t.ring[i] = t.ring[last]
	t.ring[last] = nil
	t.ring = t.ring[:last]
}

// store sets what a counter holds.
func (t *table) store(c *counter, tat, interval int64) {
	c.tat, c.interval = tat, interval
	t.latest = max(t.latest, tat)
}

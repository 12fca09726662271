package fakellm

import (
	"context"
	"slices"
	"sync"
)

const (
	// maxRequests is how many request ids have an entry of their own.
	maxRequests = 10_000
	// maxIDBytes is how much of a request id is kept.
	maxIDBytes = 256
	// OtherRequests is the entry of what came after maxRequests ids.
	OtherRequests = "(other)"
)

// Entry is what one request id has used so far, in all its calls. Counts are
// words.
type Entry struct {
	Model      string `json:"model,omitempty"` // of the last call
	Calls      int64  `json:"calls"`           // refused ones included
	Open       int64  `json:"open"`            // those under way
	Finished   int64  `json:"finished"`        // answers written to their end
	Prompt     int64  `json:"prompt"`          // of calls that were not refused
	Completion int64  `json:"completion"`      // generated, reasoning included
	Reasoning  int64  `json:"reasoning"`       // part of Completion
	Served     int64  `json:"served"`          // written and flushed; a unary answer all at once
	Billed     int64  `json:"billed"`          // Prompt and Completion
}

func (e *Entry) add(o Entry) {
	e.Calls += o.Calls
	e.Open += o.Open
	e.Finished += o.Finished
	e.Prompt += o.Prompt
	e.Completion += o.Completion
	e.Reasoning += o.Reasoning
	e.Served += o.Served
	e.Billed += o.Billed
}

// Ledger is what the provider has counted.
type Ledger struct {
	Requests map[string]Entry `json:"requests"` // by x-request-id, or call-N without one
	Totals   Entry            `json:"totals"`
	Leaks    []Leak           `json:"leaks"`
}

// ledger counts. A generated word is counted before it is written and a served
// one after, so that whoever has seen a word finds it billed.
type ledger struct {
	mu      sync.Mutex // guards all below, and every entry
	entries map[string]*Entry
	leaks   []Leak        // at most maxLeaks
	changed chan struct{} // closed with the next change; nil: nobody waits for it
}

func newLedger() *ledger {
	return &ledger{entries: map[string]*Entry{}}
}

// bill is one call's way to the ledger.
type bill struct {
	l *ledger
	e *Entry
}

// begin counts a call. It is under way until end.
func (l *ledger) begin(id string) *bill {
	l.mu.Lock()
	defer l.mu.Unlock()
	id = l.keyLocked(id)
	e := l.entries[id]
	if e == nil {
		e = &Entry{}
		l.entries[id] = e
	}
	b := &bill{l, e}
	b.addLocked(Entry{Calls: 1, Open: 1})
	return b
}

func (l *ledger) keyLocked(id string) string {
	id = id[:min(len(id), maxIDBytes)]
	if l.entries[id] == nil && len(l.entries) >= maxRequests {
		return OtherRequests
	}
	return id
}

func (b *bill) end() { b.add(Entry{Open: -1}) }

func (b *bill) add(e Entry) {
	b.l.mu.Lock()
	defer b.l.mu.Unlock()
	b.addLocked(e)
}

func (b *bill) addLocked(e Entry) {
	b.e.add(e)
	b.l.changeLocked()
}

func (l *ledger) changeLocked() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// changesLocked is closed with the next change.
func (l *ledger) changesLocked() <-chan struct{} {
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

func (b *bill) name(model string) {
	b.l.mu.Lock()
	defer b.l.mu.Unlock()
	b.e.Model = model
	b.l.changeLocked()
}

// take bills the prompt.
func (b *bill) take(c *call) { b.add(Entry{Prompt: int64(c.prompt), Billed: int64(c.prompt)}) }

// generate bills the words of a step, before anybody sees them.
func (b *bill) generate(e event) {
	n := int64(e.words)
	if n == 0 {
		return
	}
	counts := Entry{Completion: n, Billed: n}
	if e.block.kind == thought || e.block.kind == concealed {
		counts.Reasoning = n
	}
	b.add(counts)
}

// serve counts the words of a step that were written.
func (b *bill) serve(e event) {
	if e.words > 0 && e.block.kind != concealed {
		b.add(Entry{Served: int64(e.words)})
	}
}

func (b *bill) finish() { b.add(Entry{Finished: 1}) }

// Ledger is all that was counted so far.
func (p *Provider) Ledger() Ledger {
	l := p.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	requests := make(map[string]Entry, len(l.entries))
	for id, e := range l.entries {
		requests[id] = *e
	}
	return Ledger{Requests: requests, Totals: l.totalsLocked(), Leaks: append([]Leak{}, l.leaks...)}
}

func (l *ledger) totalsLocked() Entry {
	var all Entry
	for _, e := range l.entries {
		all.add(*e)
	}
	return all
}

// Reset forgets all that was counted, leaks included. Calls that are under way
// go on, and are counted nowhere.
func (p *Provider) Reset() {
	p.ledger.mu.Lock()
	defer p.ledger.mu.Unlock()
	p.ledger.entries, p.ledger.leaks = map[string]*Entry{}, nil
	p.ledger.changeLocked()
}

// Entry is what a request id has used so far; zero for one never seen.
func (p *Provider) Entry(id string) Entry {
	p.ledger.mu.Lock()
	defer p.ledger.mu.Unlock()
	return p.ledger.entryLocked(id)
}

func (l *ledger) entryLocked(id string) Entry {
	if e := l.entries[id]; e != nil {
		return *e
	}
	return Entry{}
}

// Totals are all entries together.
func (p *Provider) Totals() Entry {
	p.ledger.mu.Lock()
	defer p.ledger.mu.Unlock()
	return p.ledger.totalsLocked()
}

// Served is how many words of a request id's answers were written and flushed.
func (p *Provider) Served(id string) int64 { return p.Entry(id).Served }

// TotalServed is Served of all.
func (p *Provider) TotalServed() int64 { return p.Totals().Served }

// Billed is what a request id costs by now, in words.
func (p *Provider) Billed(id string) int64 { return p.Entry(id).Billed }

// TotalBilled is Billed of all.
func (p *Provider) TotalBilled() int64 { return p.Totals().Billed }

// Leaks are the foreign credentials that were seen, oldest first.
func (p *Provider) Leaks() []Leak {
	p.ledger.mu.Lock()
	defer p.ledger.mu.Unlock()
	return slices.Clone(p.ledger.leaks)
}

// Ended waits until a request id was seen and none of its calls is under way,
// and returns its entry. The error is ctx's cause.
func (p *Provider) Ended(ctx context.Context, id string) (Entry, error) {
	return p.Await(ctx, id, func(e Entry) bool { return e.Calls > 0 && e.Open == 0 })
}

// Await waits until the entry of a request id is as it is wanted, and returns
// it. Changes that follow each other closely may be seen as one. The error is ctx's
// cause.
func (p *Provider) Await(ctx context.Context, id string, want func(Entry) bool) (Entry, error) {
	for {
		p.ledger.mu.Lock()
		e, changes := p.ledger.entryLocked(id), p.ledger.changesLocked()
		p.ledger.mu.Unlock()
		if want(e) {
			return e, nil
		}
		select {
		case <-ctx.Done():
			return e, context.Cause(ctx)
		case <-changes:
		}
	}
}

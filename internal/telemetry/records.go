package telemetry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/request"
)

// Limits of the sink.
const (
	recordQueue = 4096     // records that wait; what comes then is dropped
	recordFile  = 64 << 20 // bytes of one file; one older file is kept
	recordBatch = 64 << 10 // bytes after which a write is made

	deniedPerMinute = 100 // records of anonymous denials, per rule and minute
	deniedRules     = 256 // rules told apart a minute; the rest share one count
)

// sharedRule counts denials of rules beyond deniedRules.
const sharedRule = "\x00shared"

// Records writes decisions and outcomes as JSON lines to a file of mode 0600.
// It never blocks whoever records: a full queue or a failing disk drops
// records, and counts them. Make it with NewRecords.
type Records struct {
	path    string
	maxFile int64
	metrics *Metrics
	forward func(d *Decision, line []byte)
	made    time.Time
	queue   chan record
	quit    chan struct{}
	done    chan struct{} // closed when the writer has ended
	err     error         // of closing the file; set before done is closed
	closing atomic.Bool

	mu      sync.Mutex // guards all below
	started bool
	denied  denialCap
}

// record is a decision or an outcome; the other is nil.
type record struct {
	decision *Decision
	outcome  *Outcome
}

func (r record) appendJSON(b []byte) []byte {
	if r.decision != nil {
		return r.decision.appendJSON(b)
	}
	return r.outcome.appendJSON(b)
}

// NewRecords prepares a sink that appends to the file at path, an absolute
// path in a directory of our own; path + ".1" is the older file.
func NewRecords(path string, m *Metrics) *Records {
	return &Records{
		path:    path,
		maxFile: recordFile,
		metrics: m,
		made:    time.Now(),
		queue:   make(chan record, recordQueue),
		quit:    make(chan struct{}),
		done:    make(chan struct{}),
		denied:  denialCap{rules: make(map[string]int)},
	}
}

// Forward has each decision that is recorded, and its JSON, handed to f too: from
// one goroutine, and the bytes only for the time of the call. It must be called
// before Start.
func (r *Records) Forward(f func(d *Decision, json []byte)) { r.forward = f }

// Start opens the file and starts the writer. It may be called once.
func (r *Records) Start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started || r.closing.Load() {
		return errors.New("decision records: started before")
	}
	f, err := openRecordFile(r.path, r.maxFile)
	if err != nil {
		return fmt.Errorf("decision records: %w", err)
	}
	r.started = true
	go r.write(f)
	return nil
}

// Stop writes what was recorded before it and closes the file; what is
// recorded after is dropped. It waits until ctx ends, and may be called at any
// time and again.
func (r *Records) Stop(ctx context.Context) error {
	r.mu.Lock()
	first, started := !r.closing.Swap(true), r.started
	r.mu.Unlock()
	if first {
		close(r.quit)
	}
	if !started {
		return nil
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("decision records: %w", ctx.Err())
	}
}

// Decision records d. Denials of anonymous callers are capped per rule, so
// that whoever has no name can't push out the records of those who have.
func (r *Records) Decision(d Decision) {
	refused := !d.Allowed || d.WouldDeny
	if refused && d.Principal.Kind == request.KindAnonymous && !r.admit(d.RuleID) {
		r.metrics.countRecord(ResultSuppressed, 1)
		return
	}
	d.own()
	r.enqueue(record{decision: &d})
}

// Outcome records o. Outcomes of denials by Check add little to the decision
// and are capped together, for the same reason.
func (r *Records) Outcome(o Outcome) {
	if o.CodeDetailsClass == deniedByCheck && !r.admit(deniedByCheck) {
		r.metrics.countRecord(ResultSuppressed, 1)
		return
	}
	r.enqueue(record{outcome: &o})
}

// deniedByCheck is Envoy's detail for a denial by ext_authz.
const deniedByCheck = "ext_authz_denied"

// admit asks the cap by the monotonic clock: a record's own time is the
// request's, and requests don't end in the order in which they began.
func (r *Records) admit(rule string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.denied.admit(int64(time.Since(r.made)/time.Minute), rule)
}

func (r *Records) enqueue(rec record) {
	if r.closing.Load() {
		r.metrics.countRecord(ResultDropped, 1)
		return
	}
	select {
	case r.queue <- rec:
	default:
		r.metrics.countRecord(ResultDropped, 1)
	}
}

// write is the writer: it gathers what waits into a batch and writes it, and
// ends when Stop was called and the queue is empty.
func (r *Records) write(f *recordFileWriter) {
	defer close(r.done)
	buf := make([]byte, 0, recordBatch+recordBatch/4)
	for {
		select {
		case rec := <-r.queue:
			buf = r.writeBatch(f, rec, buf[:0])
		case <-r.quit:
			r.drain(f, buf)
			r.err = f.close()
			return
		}
	}
}

// drain writes what waits.
func (r *Records) drain(f *recordFileWriter, buf []byte) {
	for rec, ok := r.waiting(); ok; rec, ok = r.waiting() {
		buf = r.writeBatch(f, rec, buf[:0])
	}
}

// waiting takes a record from the queue if there is one.
func (r *Records) waiting() (record, bool) {
	select {
	case rec := <-r.queue:
		return rec, true
	default:
		return record{}, false
	}
}

// writeBatch writes first and what waits behind it, up to recordBatch bytes.
// It returns the buffer for use in the next batch.
func (r *Records) writeBatch(f *recordFileWriter, first record, buf []byte) []byte {
	buf = r.append(buf, first)
	n := 1
	for len(buf) < recordBatch {
		rec, ok := r.waiting()
		if !ok {
			break
		}
		buf = r.append(buf, rec)
		n++
	}
	if err := f.write(buf); err != nil {
		r.metrics.countRecord(ResultDropped, n)
	} else {
		r.metrics.countRecord(ResultWritten, n)
	}
	return buf
}

func (r *Records) append(buf []byte, rec record) []byte {
	begin := len(buf)
	buf = rec.appendJSON(buf)
	if r.forward != nil && rec.decision != nil {
		r.forward(rec.decision, buf[begin:len(buf)-1]) // without the line's end
	}
	return buf
}

// denialCap admits so many records per rule in each minute.
type denialCap struct {
	minute int64
	rules  map[string]int
}

// admit counts a record of rule in minute, which never falls.
func (c *denialCap) admit(minute int64, rule string) bool {
	if minute != c.minute {
		c.minute = minute
		clear(c.rules)
	}
	if _, known := c.rules[rule]; !known && len(c.rules) >= deniedRules {
		rule = sharedRule
	}
	if c.rules[rule] >= deniedPerMinute {
		return false
	}
	c.rules[rule]++
	return true
}

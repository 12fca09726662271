package link

import (
	"sync"

	"gatehouse/internal/mesh"
)

// Bounds of what waits to go up.
const (
	queueLength = 8192    // records
	queueBytes  = 8 << 20 // of them all
	batchBytes  = 1 << 20 // of one batch, unless one record is larger
)

// batch is what is sent as one, and again until it is stored.
type batch struct {
	number  int64
	records [][]byte
}

// outbox holds the records that wait, and the one batch that is under way. It
// is safe for concurrent use.
type outbox struct {
	dropped func(int)
	ready   chan struct{} // of capacity 1: there may be something for next

	mu     sync.Mutex // guards all below
	queue  [][]byte
	bytes  int
	flight *batch
	last   int64 // number of the batch made last
}

func newOutbox(dropped func(int)) *outbox {
	if dropped == nil {
		dropped = func(int) {}
	}
	return &outbox{dropped: dropped, ready: make(chan struct{}, 1)}
}

// add queues a record, or drops it where there is no room.
func (o *outbox) add(record []byte) {
	o.mu.Lock()
	room := len(record) <= mesh.MaxRecordBytes && len(o.queue) < queueLength && o.bytes+len(record) <= queueBytes
	if room {
		o.queue = append(o.queue, record)
		o.bytes += len(record)
	}
	o.mu.Unlock()
	if !room {
		o.dropped(1)
		return
	}
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// next puts a batch under way. It is nil where one is already, or nothing waits.
func (o *outbox) next() *batch {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.flight != nil || len(o.queue) == 0 {
		return nil
	}
	n, size := 0, 0
	for n < len(o.queue) && n < mesh.MaxRecords && (n == 0 || size+len(o.queue[n]) <= batchBytes) {
		size += len(o.queue[n])
		n++
	}
	o.last++
	o.flight = &batch{number: o.last, records: append([][]byte(nil), o.queue[:n]...)}
	rest := copy(o.queue, o.queue[n:])
	clear(o.queue[rest:])
	o.queue, o.bytes = o.queue[:rest], o.bytes-size
	return o.flight
}

// again returns the batch that was under way on another stream, or makes one.
func (o *outbox) again() *batch {
	o.mu.Lock()
	flight := o.flight
	o.mu.Unlock()
	if flight != nil {
		return flight
	}
	return o.next()
}

// done says that the batch of a number is stored.
func (o *outbox) done(number int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.flight != nil && o.flight.number == number {
		o.flight = nil
	}
}

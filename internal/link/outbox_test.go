package link

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gatehouse/internal/mesh"
)

// TestOutboxAgainstAModel compares with a list of all records that were taken:
// batches are its parts, in order, each once.
func TestOutboxAgainstAModel(t *testing.T) {
	t.Parallel()
	text := make([]byte, 1<<20)
	rapid.Check(t, func(t *rapid.T) {
		m := &model{dropped: new(int), text: text}
		m.box = newOutbox(func(n int) { *m.dropped += n })
		t.Repeat(map[string]func(*rapid.T){
			"add":   m.add,
			"next":  func(t *rapid.T) { m.next(t, m.box.next()) },
			"again": m.again,
			"done":  m.done,
			"":      m.bounds,
		})
	})
}

type model struct {
	box     *outbox
	text    []byte // what records are parts of; where one begins tells it apart
	made    int
	waiting [][]byte
	bytes   int // of what waits
	flight  *batch
	last    int64
	refused int
	dropped *int
}

// record is one that no other that waits is the same as.
func (m *model) record(size int) []byte {
	m.made++
	at := m.made % (len(m.text) - mesh.MaxRecordBytes - 1)
	return m.text[at : at+size]
}

// add offers some records of one size, so that each bound is met.
func (m *model) add(t *rapid.T) {
	size := rapid.SampledFrom([]int{1, 100, 1000, 5000, mesh.MaxRecordBytes, mesh.MaxRecordBytes + 1}).Draw(t, "size")
	for range rapid.SampledFrom([]int{1, 20, 700, 5000}).Draw(t, "count") {
		record := m.record(size)
		if size > mesh.MaxRecordBytes || len(m.waiting) == queueLength || m.bytes+size > queueBytes {
			m.refused++
		} else {
			m.waiting, m.bytes = append(m.waiting, record), m.bytes+size
		}
		m.box.add(record)
	}
}

func (m *model) next(t *rapid.T, got *batch) {
	if m.flight != nil || len(m.waiting) == 0 {
		if got != nil {
			t.Fatalf("batch %d while another is under way, or without records", got.number)
		}
		return
	}
	if got == nil {
		t.Fatalf("no batch of %d records", len(m.waiting))
	}
	n, size := len(got.records), 0
	for _, r := range got.records {
		size += len(r)
	}
	if n == 0 || n > mesh.MaxRecords || (size > batchBytes && n > 1) {
		t.Fatalf("a batch of %d records, %d bytes", n, size)
	}
	if n < min(len(m.waiting), mesh.MaxRecords) && size+len(m.waiting[n]) <= batchBytes {
		t.Fatalf("a batch of %d records has room for one more", n)
	}
	m.last++
	if got.number != m.last || !slices.EqualFunc(got.records, m.waiting[:n], sameRecord) {
		t.Fatalf("batch %d, want %d with the oldest records", got.number, m.last)
	}
	m.flight, m.waiting, m.bytes = got, m.waiting[n:], m.bytes-size
}

// sameRecord tells records apart that have the same bytes.
func sameRecord(a, b []byte) bool {
	return len(a) == len(b) && &a[0] == &b[0]
}

func (m *model) again(t *rapid.T) {
	got := m.box.again()
	if m.flight == nil {
		m.next(t, got)
		return
	}
	if got != m.flight {
		t.Fatalf("another batch than the one under way")
	}
}

func (m *model) done(t *rapid.T) {
	number := m.last + rapid.SampledFrom([]int64{-1, 0, 0, 0, 1}).Draw(t, "off")
	m.box.done(number)
	if m.flight != nil && m.flight.number == number {
		m.flight = nil
	}
}

func (m *model) bounds(t *rapid.T) {
	if *m.dropped != m.refused {
		t.Fatalf("%d dropped, want %d", *m.dropped, m.refused)
	}
	if len(m.box.queue) != len(m.waiting) || m.box.bytes != m.bytes {
		t.Fatalf("%d records of %d bytes wait, want %d of %d", len(m.box.queue), m.box.bytes, len(m.waiting), m.bytes)
	}
}

// Each bound is reached, and not passed.
func TestOutboxBounds(t *testing.T) {
	t.Parallel()
	type fill struct{ Waiting, Dropped, Batch int }
	for name, c := range map[string]struct {
		size, count int
		want        fill
	}{
		"records": {1, queueLength + 3, fill{queueLength, 3, mesh.MaxRecords}},
		"bytes":   {mesh.MaxRecordBytes, 130, fill{queueBytes / mesh.MaxRecordBytes, 2, batchBytes / mesh.MaxRecordBytes}},
		"one":     {mesh.MaxRecordBytes + 1, 2, fill{0, 2, 0}},
	} {
		got := fill{}
		box := newOutbox(func(n int) { got.Dropped += n })
		for range c.count {
			box.add(make([]byte, c.size))
		}
		got.Waiting = len(box.queue)
		if b := box.next(); b != nil {
			got.Batch = len(b.records)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

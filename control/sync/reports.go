package sync

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"gatehouse/internal/mesh"
)

// Bounds and times of reports.
const (
	flushEvery   = time.Second
	flushTimeout = 5 * time.Second
	maxReports   = 2 * maxSidecars // that wait; more sidecars' are dropped
)

// reports gathers the newest report of each sidecar and hands them on together.
type reports[R any] struct {
	what  string // that is stored, for the log
	store func(ctx context.Context, reports map[string]R) error
	newer func(a, b R) bool
	log   *slog.Logger

	mu      sync.Mutex // guards pending
	pending map[string]R

	failing bool // owned by run
}

func newReports(r Registry, log *slog.Logger) *reports[mesh.Report] {
	return &reports[mesh.Report]{what: "what sidecars report", store: r.Report, newer: newer, log: log, pending: map[string]mesh.Report{}}
}

// put keeps a report if it is the newest of its sidecar.
func (r *reports[R]) put(id string, report R) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, ok := r.pending[id]
	if !ok && len(r.pending) >= maxReports || ok && r.newer(before, report) {
		return
	}
	r.pending[id] = report
}

// newer reports whether a is newer than b: of a later process, or later said.
func newer(a, b mesh.Report) bool {
	if a.Incarnation != b.Incarnation {
		return a.Incarnation > b.Incarnation
	}
	return a.At.After(b.At)
}

// run hands reports on each second until ctx ends, and then what is left.
func (r *reports[R]) run(ctx context.Context) {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.flush(ctx)
		case <-ctx.Done():
			r.flush(context.WithoutCancel(ctx))
			return
		}
	}
}

// flush hands on what there is. What could not be handed on waits for the next
// time, unless newer reports came meanwhile.
func (r *reports[R]) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	r.mu.Lock()
	batch := r.pending
	r.pending = make(map[string]R, len(batch))
	r.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	err := r.store(ctx, batch)
	if (err != nil) != r.failing {
		r.failing = err != nil
		logTurn(r.log, r.what, err)
	}
	if err == nil {
		return
	}
	for id, report := range batch {
		r.put(id, report)
	}
}

// logTurn says that something can't be stored any more, or can again.
func logTurn(log *slog.Logger, what string, err error) {
	if err != nil {
		log.Warn("sync: can't be stored, and is tried again", "what", what, "error", err)
		return
	}
	log.Info("sync: is stored again", "what", what)
}

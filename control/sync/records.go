package sync

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/mesh"
)

// Bounds and times of decision records.
const (
	maxStoring   = 8         // batches that are stored at once
	maxHeldBytes = 128 << 20 // of batches that wait for their turn or for the store
	storeTimeout = 10 * time.Second
	storeRetry   = 5 * time.Second
)

// recorder stores batches of all streams.
type recorder struct {
	store Records
	log   *slog.Logger
	turns chan struct{}
	held  atomic.Int64 // bytes

	failing atomic.Bool
}

func newRecorder(r Records, log *slog.Logger) *recorder {
	return &recorder{store: r, log: log, turns: make(chan struct{}, maxStoring)}
}

// keep stores a batch, however often it takes until ctx ends. It returns false
// when the batch was let go: it is the sidecar's to send again.
func (r *recorder) keep(ctx context.Context, s mesh.Sidecar, batch *pb.Records) bool {
	size := sizeOf(batch)
	defer r.held.Add(-size)
	if r.held.Add(size) > maxHeldBytes {
		r.log.Warn("sync: a batch of records was let go, too many wait to be stored", "sidecar", s.ID)
		return false
	}
	for {
		refused, err := r.once(ctx, s, batch)
		r.say(ctx, err)
		if err == nil {
			if refused > 0 {
				r.log.Warn("sync: records were refused", "sidecar", s.ID, "count", refused)
			}
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(storeRetry):
		}
	}
}

// say logs when storing begins to fail, and when it ends to.
func (r *recorder) say(ctx context.Context, err error) {
	if ctx.Err() == nil && r.failing.Swap(err != nil) != (err != nil) {
		logTurn(r.log, "decision records", err)
	}
}

// once tries to store a batch when it is its turn.
func (r *recorder) once(ctx context.Context, s mesh.Sidecar, batch *pb.Records) (int, error) {
	select {
	case r.turns <- struct{}{}:
		defer func() { <-r.turns }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return r.store.Store(ctx, s, batch.GetRecords())
}

func sizeOf(batch *pb.Records) int64 {
	size := int64(0)
	for _, r := range batch.GetRecords() {
		size += int64(len(r))
	}
	return size
}

package httpapi

import (
	"context"
	"sync"
	"time"
)

// Bounds of the question whether the database answers. Probes are not counted
// by a limit, so that the answer is kept for a moment.
const (
	pingTimeout = time.Second
	pingKept    = time.Second
)

// health asks the database at most once a moment, however many ask it. Who
// comes during a question waits for its answer.
type health struct {
	database Database
	now      func() time.Time

	mu   sync.Mutex // guards all below; held while asking, which pingTimeout bounds
	at   time.Time  // when the last question ended; zero before the first
	last error
}

func newHealth(d Database, now func() time.Time) *health { return &health{database: d, now: now} }

// check returns nil where the database answers. It does not end with the
// caller's context: its answer is for others as well.
func (h *health) check(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if age := h.now().Sub(h.at); !h.at.IsZero() && age >= 0 && age < pingKept {
		return h.last
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingTimeout)
	defer cancel()
	h.last = h.database.Ping(ctx)
	h.at = h.now()
	return h.last
}

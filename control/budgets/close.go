package budgets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"
)

// Bounds of ending what sidecars left open.
const (
	unseenFor     = 10 * time.Minute
	unseenEvery   = 30 * time.Second
	unseenTimeout = 20 * time.Second // of one turn
	maxCloses     = 400              // calls for one sidecar at once: 102,400 holds
)

// Replayed ends what processes of a sidecar with an incarnation below the one
// named hold still: it is charged, and a later settlement corrects it. After an
// error some of it was done; the sidecar is to say it again.
func (l *Inline) Replayed(ctx context.Context, sidecar string, incarnation int64) error {
	ctx, cancel := context.WithTimeout(ctx, closeWithin)
	defer cancel()
	n, err := l.end(ctx, sidecar, incarnation)
	if n > 0 {
		l.o.Log.Warn("holds of an earlier process were charged", slog.String("sidecar", sidecar), slog.Int("holds", n))
	}
	return err
}

// end ends holds until there are none. One call that ends nothing does not say so:
// those that it chose may have been ended by another meanwhile.
func (l *Inline) end(ctx context.Context, sidecar string, below int64) (total int, err error) {
	idle := false
	for range maxCloses {
		n, err := l.o.Ledger.CloseSidecar(ctx, sidecar, below)
		total += n
		if err != nil || n == 0 && idle {
			return total, err
		}
		idle = n == 0
	}
	return total, fmt.Errorf("budgets: a sidecar has more than %d open holds", total)
}

// Run ends the holds of sidecars that nothing was heard of for 10 min, until ctx
// ends. Several may run: each hold is ended once. A turn that fails is left to the
// next one.
func (l *Inline) Run(ctx context.Context) {
	if l.o.Silence == nil {
		return
	}
	tick := time.NewTicker(unseenEvery)
	defer tick.Stop()
	failing, steady := false, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := l.endUnseen(ctx, steady)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			l.o.Log.Warn("holds of silent sidecars can't be ended; trying again", slog.Any("error", err))
		}
		failing, steady = err != nil, err == nil
	}
}

// endUnseen does a turn. It ends nothing unless the turn before it went well: a
// database that was away, or a control that was, has not heard of anybody, and
// those who live report as soon as it is back.
func (l *Inline) endUnseen(ctx context.Context, steady bool) error {
	ctx, cancel := context.WithTimeout(ctx, unseenTimeout)
	defer cancel()
	sidecars, err := l.o.Silence.Unseen(ctx, unseenFor)
	if err != nil || !steady {
		return err
	}
	var faults []error // one sidecar's keep no other's open: they come first at each turn
	for _, id := range sidecars {
		n, err := l.end(ctx, id, math.MaxInt64)
		if n > 0 {
			l.o.Log.Warn("nothing was heard of a sidecar for long; its holds were charged", slog.String("sidecar", id), slog.Int("holds", n))
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

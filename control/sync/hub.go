package sync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/mesh"
)

// Times of the hub.
const (
	pollEvery   = time.Second
	debounce    = 20 * time.Millisecond // several changes at once are asked for once
	askTimeout  = 5 * time.Second       // of one round of questions
	listenRetry = time.Second
)

// view is what streams send, as one immutable version. What is missing is not
// known now: it was not asked for yet, or the answer was an error.
type view struct {
	live      map[audience]*liveMessage
	orders    map[string]*ordersMessage   // of breakers, by policy set
	revisions map[string]*revisionMessage // by policy set
	connected map[string]int              // sidecars of the whole mesh, by policy set
}

// hub learns what is in force and tells the streams.
type hub struct {
	source   Source
	breakers Breakers // nil for none
	keySet   func(ctx context.Context) ([]byte, error)
	roster   *roster
	log      *slog.Logger

	view    atomic.Pointer[view]      // never nil
	fresh   atomic.Pointer[time.Time] // when the last round began that had no error; never nil
	changed chan struct{}             // holds one: something may have changed

	live     *liveSet // owned by run, as all below
	versions int64    // of live data, made so far
	unsent   error    // policy sets that could not be had
	unasked  error    // orders for breakers that could not be had
	fault    string   // of the last round, "" for none
}

func newHub(o Options, r *roster) *hub {
	h := &hub{source: o.Source, breakers: o.Breakers, keySet: o.KeySet, roster: r, log: o.Log, changed: make(chan struct{}, 1)}
	h.view.Store(&view{})
	h.fresh.Store(&time.Time{})
	return h
}

// poke makes the hub ask soon.
func (h *hub) poke() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// run asks, each second and whenever something may have changed, until ctx ends.
func (h *hub) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { h.listen(ctx) })
	for ctx.Err() == nil {
		h.round(ctx)
		h.pause(ctx)
	}
}

func (h *hub) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(pollEvery):
	case <-h.changed:
		select {
		case <-ctx.Done():
		case <-time.After(debounce):
		}
	}
	// What changed until now is seen by the round that follows.
	select {
	case <-h.changed:
	default:
	}
}

// listen keeps the line on which changes are told. While it is down, polling
// finds them.
func (h *hub) listen(ctx context.Context) {
	for ctx.Err() == nil {
		err := h.source.Listen(ctx, func(what string) {
			if what == ChangedAll || what == ChangedSidecars {
				h.roster.suspect()
			}
			h.poke()
		})
		if ctx.Err() != nil {
			return
		}
		h.log.Warn("sync: changes are found by polling until the line is back", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(listenRetry):
		}
	}
}

// round asks for all that may have changed.
func (h *hub) round(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	began := time.Now()
	err := h.learn(ctx, h.roster.wanted())
	err = errors.Join(err, h.roster.review(ctx, began))
	if err == nil {
		h.fresh.Store(&began)
	}
	h.say(errors.Join(err, h.unsent, h.unasked))
}

// say logs a fault when it begins, becomes another, or ends.
func (h *hub) say(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	switch {
	case text == h.fault:
	case text == "":
		h.log.Info("sync: all that is in force can be asked for again")
	default:
		h.log.Error("sync: can't ask for all that is in force; what was sent goes on, unconfirmed", "error", err)
	}
	h.fault = text
}

// learn publishes what is in force for those who are connected. Of what can't
// be asked for, the last that was known stays.
func (h *hub) learn(ctx context.Context, w wanted) error {
	live, liveErr := h.messages(ctx, w.audiences)
	revisions, err := h.revisions(ctx, w.sets)
	h.publish(&view{live: live, orders: h.orders(ctx, w.sets), revisions: revisions, connected: h.roster.connected(w)})
	return errors.Join(liveErr, err)
}

// messages is the live data for each audience.
func (h *hub) messages(ctx context.Context, audiences map[audience]int) (map[audience]*liveMessage, error) {
	err := h.learnLive(ctx)
	if h.live == nil {
		return nil, err
	}
	h.live.keep(audiences)
	out := make(map[audience]*liveMessage, len(audiences))
	for a := range audiences {
		m, encodeErr := h.live.message(a)
		if encodeErr != nil {
			return out, errors.Join(err, encodeErr)
		}
		out[a] = m
	}
	return out, err
}

// learnLive loads the live data if it may be another than what is held.
func (h *hub) learnLive(ctx context.Context) error {
	epoch, err := h.source.Epoch(ctx)
	if err != nil {
		return fmt.Errorf("ask for the epoch: %w", err)
	}
	keys, err := h.keySet(ctx)
	if err != nil {
		return fmt.Errorf("ask for the key set: %w", err)
	}
	if l := h.live; l != nil && l.data.Epoch == epoch && string(l.keySet) == string(keys) {
		return nil
	}
	data, err := h.source.Live(ctx)
	if err != nil {
		return fmt.Errorf("ask for the live data: %w", err)
	}
	h.versions++
	h.live = newLiveSet(h.versions, keys, data)
	return nil
}

// revisions is what is active of the sets. One that can't be had is missing,
// and why is in unsent: the sidecars of others are none the worse for it.
func (h *hub) revisions(ctx context.Context, sets map[string]int) (map[string]*revisionMessage, error) {
	held := h.view.Load().revisions
	generations, err := h.source.Generations(ctx)
	if err != nil {
		return held, fmt.Errorf("ask for the generations: %w", err)
	}
	h.unsent = nil
	out := make(map[string]*revisionMessage, len(sets))
	for _, set := range slices.Sorted(maps.Keys(sets)) {
		if m := held[set]; m != nil && m.key.generation == generations[set] {
			out[set] = m
			continue
		}
		m, err := h.activation(ctx, set, generations[set])
		if err != nil {
			h.unsent = errors.Join(h.unsent, fmt.Errorf("policy set %s: %w", set, err))
			continue
		}
		out[set] = m
	}
	return out, ctx.Err()
}

func (h *hub) activation(ctx context.Context, set string, generation int64) (*revisionMessage, error) {
	if generation == 0 {
		return &revisionMessage{key: revisionKey{set: set}}, nil
	}
	a, err := h.source.Active(ctx, set)
	if err != nil {
		return nil, err
	}
	return newRevisionMessage(set, a)
}

// publish puts a view in force and wakes the streams if it has anything to send.
func (h *hub) publish(next *view) {
	before := h.view.Swap(next)
	if !maps.Equal(before.live, next.live) || !maps.Equal(before.revisions, next.revisions) || !maps.Equal(before.orders, next.orders) {
		h.roster.wakeAll()
	}
}

// has reports whether the view in force has what a sidecar needs.
func (h *hub) has(s *mesh.Sidecar) bool {
	v := h.view.Load()
	return v.live[audienceOf(s)] != nil && v.revisions[s.PolicySet] != nil
}

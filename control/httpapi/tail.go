package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	apiv1 "gatehouse/api/v1"
	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
)

// Bounds of tails.
const (
	maxTails       = 100 // open at once in this process
	maxTenantTails = 25  // of these, of callers of one tenant
	tailLife       = time.Hour
	tailPoll       = 500 * time.Millisecond // between two questions to the store
	tailQuestion   = 5 * time.Second        // for one of them
	tailPage       = 200                    // records of one answer
	tailCheck      = 2 * time.Second        // between two looks at the caller's rights
	tailBeat       = 10 * time.Second       // between two signs of life
	tailWrite      = 10 * time.Second       // for one write
	tailRetry      = 10 * time.Second       // told to whoever finds no room
)

// tails counts the open tails. It is safe for concurrent use.
type tails struct {
	changed func(open int) // told the number, with mu held

	mu   sync.Mutex // guards all below
	open int
	by   map[string]int // by the tenant of the caller; none is 0
}

func newTails(m Metrics) *tails {
	t := &tails{changed: func(int) {}, by: map[string]int{}}
	if m != nil {
		t.changed = m.DecisionTails
	}
	return t
}

// begin reports whether there is room for one more. Where there is, end must
// follow.
func (t *tails) begin(tenant string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open >= maxTails || t.by[tenant] >= maxTenantTails {
		return false
	}
	t.open++
	t.by[tenant]++
	t.changed(t.open)
	return true
}

func (t *tails) end(tenant string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open--
	if t.by[tenant]--; t.by[tenant] == 0 {
		delete(t.by, tenant)
	}
	t.changed(t.open)
}

// TailDecisions follows the decision records that the caller may see.
func (a *api) TailDecisions(ctx context.Context, r apiv1.TailDecisionsRequestObject) (apiv1.TailDecisionsResponseObject, error) {
	c, p := callOf(ctx), r.Params
	tenant, err := c.within(p.TenantId)
	if err != nil {
		return nil, err
	}
	t := &tail{api: a, call: c, tenant: tenant}
	t.filter, _ = decisionFilter(p.Allowed, p.Subject, p.Route, p.RuleId, p.SidecarId)
	if id := p.LastEventID; id != nil && *id != "" {
		var ok bool
		if t.cursor, ok = a.openCursor(tailOf(tenant), *id); !ok {
			return nil, apierr.Unfit(nil, apierr.Field{Pointer: "/header/Last-Event-ID", Code: "cursor", Message: "the id is not one of this tail"})
		}
	}
	return t, nil
}

// tail is one answer of server-sent events (HTML, 9.2). One goroutine, the
// request's own, does all of it.
type tail struct {
	api    *api
	call   *call
	tenant string
	filter mesh.DecisionFilter
	cursor string // of the store; "" until the first question
}

// VisitTailDecisionsResponse sends the answer until the caller has gone or may
// have it no more, the tail's time is over, or the server stops. An error before it has begun is
// answered as any other.
func (t *tail) VisitTailDecisionsResponse(w http.ResponseWriter) error {
	owner := t.call.principal.Tenant
	if !t.api.tails.begin(owner) {
		return exceeded("decision_tails", tailRetry)
	}
	defer t.api.tails.end(owner)
	ctx := t.call.connection
	items, err := t.ask(ctx)
	if err != nil {
		return err
	}
	out := newEvents(w)
	if err := t.send(out, items); err != nil || t.call.head {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.life())
	defer cancel()
	return t.follow(ctx, out)
}

// life is how long the tail may last: no longer than the caller's token.
func (t *tail) life() time.Duration {
	expires := t.call.principal.Expires
	if expires.IsZero() {
		return tailLife
	}
	return min(tailLife, expires.Sub(t.call.start))
}

// follow asks and sends by turns. Callers come back by themselves, so that an
// error is told and the tail ends.
func (t *tail) follow(ctx context.Context, out *events) error {
	check, poll, beat := time.NewTicker(tailCheck), time.NewTicker(tailPoll), time.NewTicker(tailBeat)
	defer check.Stop()
	defer poll.Stop()
	defer beat.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return out.end(t.call.connection)
		case <-stoppingOf(ctx):
			return out.end(ctx)
		case <-check.C:
			err = t.check(ctx)
		case <-beat.C:
			err = out.place(t.id())
		case <-poll.C:
			err = t.catchUp(ctx, out)
		}
		if err != nil {
			return out.fail(ctx, t.call.id, err)
		}
	}
}

// check ends the tail of a caller whose token is refused meanwhile, or that has
// lost the permission.
func (t *tail) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tailQuestion)
	defer cancel()
	return t.api.readmit(ctx, t.call)
}

// catchUp sends all that is there.
func (t *tail) catchUp(ctx context.Context, out *events) error {
	for ctx.Err() == nil {
		items, err := t.ask(ctx)
		if err != nil || len(items) == 0 {
			return err
		}
		if err := t.send(out, items); err != nil || len(items) < tailPage {
			return err
		}
	}
	return nil
}

// ask takes the next records from the store, and moves on behind them.
func (t *tail) ask(ctx context.Context) ([]apiv1.Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, tailQuestion)
	defer cancel()
	items, next, err := t.api.opts.Decisions.DecisionsSince(ctx, t.tenant, t.filter, t.cursor, tailPage)
	if err != nil {
		return nil, err
	}
	if len(next) > maxPosition {
		return nil, fmt.Errorf("a position of %d bytes, want at most %d", len(next), maxPosition)
	}
	t.cursor = next
	show := func(d mesh.Decision) apiv1.Decision { return t.api.showDecision(d, t.tenant) }
	return shown(t.call, items, tenantOfDecision, show)
}

// send sends records, and after them where the tail stands: also who has seen
// none can come back to it.
func (t *tail) send(out *events, items []apiv1.Decision) error {
	for _, d := range items {
		if err := out.decision(d); err != nil {
			return err
		}
	}
	return out.place(t.id())
}

func (t *tail) id() string { return t.api.sealCursor(tailOf(t.tenant), t.cursor) }

// events writes server-sent events. Each write has its own time, which takes
// the place of the server's for the whole answer.
type events struct {
	w   http.ResponseWriter
	ctl *http.ResponseController
}

func newEvents(w http.ResponseWriter) *events {
	w.Header().Set("Content-Type", "text/event-stream")
	return &events{w: w, ctl: http.NewResponseController(w)}
}

func (e *events) write(text []byte) error {
	if err := supported(e.ctl.SetWriteDeadline(time.Now().Add(tailWrite))); err != nil {
		return err
	}
	if _, err := e.w.Write(text); err != nil {
		return err
	}
	return supported(e.ctl.Flush())
}

// supported forgives writers that can't do what only connections need.
func supported(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

func (e *events) decision(d apiv1.Decision) error {
	var id string
	set(&id, d.Place)
	return e.event("decision", id, d)
}

// event writes one event.
// INVARIANT: encoded JSON has no line breaks, nor has a sealed cursor.
func (e *events) event(name, id string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "event: %s\n", name)
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	fmt.Fprintf(&b, "data: %s\n\n", text)
	return e.write(b.Bytes())
}

// place is a sign of life that tells where the tail stands. Without data it is
// no event.
func (e *events) place(id string) error { return e.write([]byte(": alive\nid: " + id + "\n\n")) }

// end says that the tail has ended, if anybody is there to hear it.
func (e *events) end(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil
	}
	return e.write([]byte(": end\n\n"))
}

// fail tells of an error as the last event. Whoever has gone is no error.
func (e *events) fail(ctx context.Context, requestID string, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(err, e.event("error", "", json.RawMessage(classify(err).Body(requestID))))
}

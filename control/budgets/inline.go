package budgets

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"gatehouse/budget"
	"gatehouse/internal/deadletter"
	"gatehouse/internal/ratelimit"
)

// Bounds of what a sidecar waits for.
const (
	// reserveWithin is below the 1.5 s that a sidecar waits for a hold, so that it
	// hears what is known.
	reserveWithin = 1300 * time.Millisecond
	settleWithin  = 4 * time.Second
	closeWithin   = 10 * time.Second // of an earlier process's holds
	defectEvery   = 10 * time.Second // that a defect is told again
)

// letterSource is what dead letters of settlements say of where they are from.
const letterSource = "settlement"

// Letters keeps what can't be delivered.
type Letters interface {
	// Add keeps a letter; again changes nothing. deadletter.ErrInvalid says that
	// it never will be kept.
	Add(ctx context.Context, l deadletter.Letter) error
}

// Silence knows which sidecars are not heard of.
type Silence interface {
	// Unseen returns ids of sidecars that have open holds, and of which nothing was
	// heard for a time; a bounded number of them.
	Unseen(ctx context.Context, since time.Duration) ([]string, error)
}

// InlineOptions are what NewInline needs.
type InlineOptions struct {
	Ledger  budget.Holds
	Letters Letters
	Silence Silence      // nil: the holds of a silent sidecar end at their own time
	Log     *slog.Logger // nil discards
}

// Inline is the ledger for what passes sidecars. See the package comment.
type Inline struct {
	o       InlineOptions
	reserve *budget.Batcher[budget.Hold, budget.Answer]
	settle  *budget.Batcher[budget.Settlement, budget.Result]
	told    atomic.Int64 // when a defect was told last, Unix nanoseconds
}

// NewInline returns an Inline. Stop ends what its calls begin.
func NewInline(o InlineOptions) (*Inline, error) {
	if o.Ledger == nil || o.Letters == nil {
		return nil, errors.New("budgets: needs a ledger, and a place for dead letters")
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return &Inline{o: o, reserve: budget.NewBatcher(o.Ledger.Reserve), settle: budget.NewBatcher(o.Ledger.Settle)}, nil
}

// Stop refuses what waits, and waits itself for what is with the store.
func (l *Inline) Stop() {
	l.reserve.Stop()
	l.settle.Stop()
}

// Reserve decides a hold of a tenant, with those that wait for the tenant's turn
// with it. Errors are those of a Batcher: of budget.ErrBusy, ErrNotSent,
// ErrInvalid and ErrUnknown nothing was done; of any other it may have been.
func (l *Inline) Reserve(ctx context.Context, tenant string, h budget.Hold) (budget.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, reserveWithin)
	defer cancel()
	a, err := l.reserve.Do(ctx, tenant, h)
	l.tell("reserve", err)
	return a, err
}

// Settle does a settlement of a tenant. One that is refused for good is a dead
// letter before Settle returns; after any error but ErrInvalid and ErrUnknown, the
// sender is to send it again.
func (l *Inline) Settle(ctx context.Context, tenant string, s budget.Settlement) (budget.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	r, err := l.settle.Do(ctx, tenant, s)
	if l.tell("settle", err); err != nil || agreed(s, r) {
		return r, err
	}
	// A crash here, or before the sender hears of it: he sends it again, and it is
	// the same letter.
	if err := l.bury(ctx, tenant, s, letter(tenant, s, string(r.Outcome), r)); err != nil {
		return budget.Result{}, err
	}
	return r, nil
}

// Bury keeps as a dead letter a settlement that may not even be tried: of a tenant
// that its sidecar may not settle for, or that is not there. It is the letter of
// home, the sidecar's own tenant.
func (l *Inline) Bury(ctx context.Context, home, tenant string, s budget.Settlement, why string) error {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	d := letter(tenant, s, why, budget.Result{})
	d.Tenant = home
	return l.bury(ctx, tenant, s, d)
}

// agreed reports whether nobody need look at what became of a settlement: it was
// done, or said before, or it gives back what was denied; a top-up's sender acts
// on the answer.
func agreed(s budget.Settlement, r budget.Result) bool {
	return r.Outcome == budget.Done || r.Replayed || s.Action == budget.TopUp || (s.Action == budget.Release && r.Outcome == budget.NeverHeld)
}

func (l *Inline) bury(ctx context.Context, tenant string, s budget.Settlement, d deadletter.Letter) error {
	err := l.o.Letters.Add(ctx, d)
	if errors.Is(err, deadletter.ErrInvalid) {
		l.o.Log.Error("a settlement was refused and can't be kept as a dead letter", "tenant", tenant, "sidecar", s.Sidecar, "request", s.ID, "outcome", d.Kind, "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", budget.ErrUnavailable, err)
	}
	l.o.Log.Warn("a settlement was refused; it is a dead letter", "tenant", tenant, "sidecar", s.Sidecar, "request", s.ID, "outcome", d.Kind)
	return nil
}

// undelivered is a dead letter's payload.
type undelivered struct {
	Tenant    string        `json:"tenant_id"`
	RequestID string        `json:"request_id"`
	Attempt   int32         `json:"attempt"`
	Sidecar   string        `json:"sidecar_id"`
	Action    budget.Action `json:"action"`
	Tokens    int64         `json:"tokens"`
	Flagged   bool          `json:"flagged"`
	Outcome   string        `json:"outcome"`
	State     budget.State  `json:"state,omitempty"` // of the request as it stands
	Reserved  int64         `json:"reserved,omitempty"`
	Actual    int64         `json:"actual,omitempty"`
}

// letter is the dead letter of a settlement; r is empty where it was not tried.
func letter(tenant string, s budget.Settlement, outcome string, r budget.Result) deadletter.Letter {
	payload, err := json.Marshal(undelivered{
		tenant, s.ID, s.Attempt, s.Sidecar, s.Action, s.Tokens, s.Flagged, outcome, r.State, r.Reserved, r.Actual,
	})
	if err != nil {
		panic("budgets: " + err.Error()) // it holds texts and numbers alone
	}
	return deadletter.Letter{
		Tenant: tenant, Project: r.Project, Source: letterSource, MessageID: letterID(tenant, s), Kind: outcome, Payload: payload,
		Class: "refused", Message: fmt.Sprintf("the ledger refused to %s", s.Action),
	}
}

// letterID is one for all that a sidecar says of a request, so that it is kept
// once; another sidecar can't take its place.
func letterID(tenant string, s budget.Settlement) string {
	sum := sha256.Sum256([]byte(ratelimit.Key(s.Sidecar, tenant, s.ID, strconv.Itoa(int(s.Attempt))))) // each part preceded by its length
	return string(budget.Inline) + "/" + hex.EncodeToString(sum[:])
}

// tell logs an error that is nobody's but ours, some of the times that it comes.
func (l *Inline) tell(what string, err error) {
	if err == nil {
		return
	}
	for _, known := range []error{
		budget.ErrUnavailable, budget.ErrBusy, budget.ErrNotSent, budget.ErrOutcomeUnknown, budget.ErrInvalid, budget.ErrUnknown, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, known) {
			return
		}
	}
	now := time.Now().UnixNano()
	if last := l.told.Load(); now-last >= int64(defectEvery) && l.told.CompareAndSwap(last, now) {
		l.o.Log.Error("the ledger fails", "what", what, "error", err)
	}
}

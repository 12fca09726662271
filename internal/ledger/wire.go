package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/budget"
)

// Errors beside budget.ErrUnavailable, which says that control could not be asked.
var (
	// ErrForbidden says that the tenant is not this sidecar's.
	ErrForbidden = errors.New("the tenant is not this sidecar's")

	// ErrNoRoom says that the limits have no room for a top-up: the hold is what it
	// was.
	ErrNoRoom = errors.New("no room to hold more")

	// ErrOver says that what is to be topped up is no hold any more.
	ErrOver = errors.New("the hold is over")
)

func reserveMessage(seq uint64, tenant string, h budget.Hold) *pb.LedgerUp {
	return &pb.LedgerUp{Message: &pb.LedgerUp_Reserve{Reserve: &pb.Reserve{
		Seq: seq, Tenant: tenant, RequestId: h.ID, Attempt: h.Attempt, Project: h.Project, Tokens: h.Tokens, Unlimited: h.Unlimited,
		TtlMs: h.TTL.Milliseconds(), BodyHash: h.BodyHash[:], Model: h.Model, Subject: h.Subject, DecisionId: h.Decision,
		TaskId: h.Task, Purpose: h.Purpose,
	}}}
}

func settleMessage(seq uint64, tenant string, s budget.Settlement) *pb.LedgerUp {
	return &pb.LedgerUp{Message: &pb.LedgerUp_Settle{Settle: settleOf(seq, tenant, s)}}
}

func settleOf(seq uint64, tenant string, s budget.Settlement) *pb.Settle {
	return &pb.Settle{
		Seq: seq, Tenant: tenant, RequestId: s.ID, Attempt: s.Attempt, Action: string(s.Action), Tokens: s.Tokens, Flagged: s.Flagged,
	}
}

// nobody stands for the sidecar's id, which control alone knows, where a hold or
// settlement is checked.
const nobody = "00000000-0000-0000-0000-000000000000"

// holdable returns budget.ErrInvalid for a hold that control would not take from
// anybody. INVARIANT: what is said to control is valid UTF-8, or the message, and with
// it the stream, would fail.
func holdable(tenant string, h budget.Hold) error {
	h.Sidecar = nobody
	return cmp.Or(named(tenant), inline(h.Key), h.Check())
}

func named(tenant string) error {
	if tenant == "" {
		return fmt.Errorf("%w: no tenant", budget.ErrInvalid)
	}
	return budget.CheckTenant(tenant)
}

// settleable is holdable for settlements.
func settleable(tenant string, s budget.Settlement) error {
	s.Sidecar = nobody
	return cmp.Or(named(tenant), inline(s.Key), s.Check())
}

func inline(k budget.Key) error {
	if k.Origin != budget.Inline {
		return fmt.Errorf("%w: no request of a sidecar", budget.ErrInvalid)
	}
	return nil
}

// record is a settlement as it rests in a spool.
func record(tenant string, s budget.Settlement) ([]byte, error) {
	return proto.Marshal(settleOf(0, tenant, s))
}

// parseRecord reads what record wrote.
func parseRecord(b []byte) (tenant string, s budget.Settlement, err error) {
	var m pb.Settle
	if err := proto.Unmarshal(b, &m); err != nil {
		return "", s, err
	}
	s = budget.Settlement{
		Key:    budget.Key{Origin: budget.Inline, ID: m.GetRequestId(), Attempt: m.GetAttempt()},
		Action: budget.Action(m.GetAction()), Tokens: m.GetTokens(), Flagged: m.GetFlagged(),
	}
	return m.GetTenant(), s, settleable(m.GetTenant(), s)
}

// decided reports whether a verdict is the ledger's own.
func decided(verdict string) bool {
	return slices.Contains([]budget.Verdict{budget.Held, budget.Refused, budget.Settled, budget.KeyReused}, budget.Verdict(verdict))
}

// certain reports whether a verdict says what became of a hold. Of busy, this try of
// it did nothing.
func certain(verdict string) bool {
	return decided(verdict) || slices.Contains([]string{pb.Forbidden, pb.Invalid, pb.Unknown, pb.Busy}, verdict)
}

// unwelcome reports whether a final outcome says that control would not take a
// settlement. That it was said before, or otherwise, control alone can tell apart.
func unwelcome(s budget.Settlement, outcome string) bool {
	switch budget.Outcome(outcome) {
	case budget.Done, budget.AlreadyCommitted, budget.AlreadyReleased:
		return false
	case budget.NeverHeld:
		return s.Action != budget.Release
	}
	return true
}

// answerOf reads the answer to a hold. An error says that it is none.
func answerOf(h budget.Hold, r *pb.Reserved) (budget.Answer, error) {
	if !decided(r.GetVerdict()) {
		return budget.Answer{}, fault(r.GetVerdict())
	}
	a := budget.Answer{Verdict: budget.Verdict(r.GetVerdict()), Replayed: r.GetReplayed()}
	if a.Verdict == budget.KeyReused {
		return a, nil
	}
	a.Request = budget.Request{Key: h.Key, Project: h.Project, Reserved: r.GetTokens(), Denial: denialOf(r.GetDenial())}
	switch a.Verdict {
	case budget.Held:
		a.State = budget.Reserved
	case budget.Refused:
		a.State = budget.Denied
	}
	return a, nil
}

func denialOf(d *pb.Denial) *budget.Denial {
	if d == nil {
		return nil
	}
	out := &budget.Denial{
		Reason: budget.Reason(d.GetReason()), LimitID: d.GetLimitId(), Window: budget.Window(d.GetWindow()),
		Limit: d.GetLimit(), Available: d.GetAvailable(), Requested: d.GetRequested(),
	}
	if ms := d.GetResetsUnixMs(); ms != 0 {
		out.ResetsAt = new(time.UnixMilli(ms).UTC())
	}
	return out
}

// fault is the error that a word of control stands for.
func fault(word string) error {
	switch word {
	case pb.Forbidden:
		return ErrForbidden
	case pb.Invalid:
		return budget.ErrInvalid
	case pb.Unknown:
		return budget.ErrUnknown
	}
	return fmt.Errorf("%w: control said %.32q", budget.ErrUnavailable, word)
}

// toppedUp is the error that the answer to a top-up stands for; nil if it was done.
func toppedUp(outcome string) error {
	switch budget.Outcome(outcome) {
	case budget.Done:
		return nil
	case budget.NoRoom:
		return ErrNoRoom
	case budget.AlreadyCommitted, budget.AlreadyReleased, budget.AlreadyExpired, budget.NeverHeld, budget.NotFound:
		return fmt.Errorf("%w: %s", ErrOver, outcome)
	}
	return fault(outcome)
}

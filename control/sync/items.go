package sync

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"time"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/budget"
	"gatehouse/internal/mesh"
)

// word is what an error of a Ledger is called; "" is none.
func word(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, budget.ErrInvalid):
		return pb.Invalid
	case errors.Is(err, budget.ErrUnknown):
		return pb.Unknown
	case errors.Is(err, budget.ErrBusy), errors.Is(err, budget.ErrNotSent):
		return pb.Busy
	}
	return pb.Unavailable
}

// serves reports whether a sidecar may speak for a tenant.
func serves(s *mesh.Sidecar, tenant string) bool { return s.Shared || tenant == s.Tenant }

// holdOf reads a hold. Whose it is, is the stream's to say. An error is
// budget.ErrInvalid.
func holdOf(r *pb.Reserve, sidecar string, incarnation int64) (budget.Hold, error) {
	h := budget.Hold{
		Key:     budget.Key{Origin: budget.Inline, ID: r.GetRequestId(), Attempt: r.GetAttempt()},
		Project: r.GetProject(), Tokens: r.GetTokens(), Unlimited: r.GetUnlimited(),
		Sidecar: sidecar, Incarnation: incarnation,
		Model: r.GetModel(), Task: r.GetTaskId(), Purpose: r.GetPurpose(), Subject: r.GetSubject(), Decision: r.GetDecisionId(),
	}
	if n := copy(h.BodyHash[:], r.GetBodyHash()); n != len(h.BodyHash) || n != len(r.GetBodyHash()) {
		return h, fmt.Errorf("%w: a hash has %d bytes", budget.ErrInvalid, len(h.BodyHash))
	}
	ms := r.GetTtlMs()
	if ms < 1 || ms > math.MaxInt64/int64(time.Millisecond) {
		return h, fmt.Errorf("%w: a time to live of %d ms", budget.ErrInvalid, ms)
	}
	h.TTL = time.Duration(ms) * time.Millisecond
	return h, cmp.Or(budget.CheckTenant(r.GetTenant()), h.Check())
}

// settlementOf reads a settlement, as holdOf does.
func settlementOf(r *pb.Settle, sidecar string) (budget.Settlement, error) {
	s := budget.Settlement{
		Key:    budget.Key{Origin: budget.Inline, ID: r.GetRequestId(), Attempt: r.GetAttempt()},
		Action: budget.Action(r.GetAction()), Tokens: r.GetTokens(), Flagged: r.GetFlagged(), Sidecar: sidecar,
	}
	return s, cmp.Or(budget.CheckTenant(r.GetTenant()), s.Check())
}

// rarely says when to tell of what may come again and again. It belongs to one
// goroutine.
type rarely struct {
	told   time.Time
	passed int // over since then
}

// due reports whether to tell of it now, and how often nobody was told before.
func (r *rarely) due(now time.Time) (passed int, due bool) {
	if now.Sub(r.told) < nonsenseEvery {
		r.passed++
		return 0, false
	}
	passed, r.passed, r.told = r.passed, 0, now
	return passed, true
}

func reserved(seq uint64, verdict string) *pb.LedgerDown {
	return &pb.LedgerDown{Message: &pb.LedgerDown_Reserved{Reserved: &pb.Reserved{Seq: seq, Verdict: verdict}}}
}

func settled(seq uint64, outcome string, final bool) *pb.LedgerDown {
	return &pb.LedgerDown{Message: &pb.LedgerDown_Settled{Settled: &pb.Settled{Seq: seq, Outcome: outcome, Final: final}}}
}

// answered is the ledger's answer to a hold.
func answered(seq uint64, a budget.Answer, err error) *pb.LedgerDown {
	if err != nil {
		return reserved(seq, word(err))
	}
	return &pb.LedgerDown{Message: &pb.LedgerDown_Reserved{Reserved: &pb.Reserved{
		Seq: seq, Verdict: string(a.Verdict), Replayed: a.Replayed, Tokens: a.Reserved, Denial: denialOf(a.Denial),
	}}}
}

func denialOf(d *budget.Denial) *pb.Denial {
	if d == nil {
		return nil
	}
	out := &pb.Denial{
		Reason: string(d.Reason), LimitId: d.LimitID, Window: string(d.Window), Limit: d.Limit, Available: d.Available, Requested: d.Requested,
	}
	if d.ResetsAt != nil {
		out.ResetsUnixMs = d.ResetsAt.UnixMilli()
	}
	return out
}

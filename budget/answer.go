package budget

// Verdict is what became of a hold that was asked for.
type Verdict string

// The verdicts.
const (
	// Held: the tokens are held. Nothing else may go upstream.
	Held Verdict = "held"
	// Refused: Request.Denial says why. A request that was denied stays so.
	Refused Verdict = "refused"
	// Settled: it was held once, and is no more; nothing was held anew.
	Settled Verdict = "settled"
	// KeyReused: the id is another request's. Request is empty.
	KeyReused Verdict = "key_reused"
)

// Answer is the ledger's answer to a Hold.
type Answer struct {
	Verdict
	Replayed bool // it was given before
	Request
}

// Found is the answer to a hold whose id is known: same is whether the hold is
// the very one that the request was made by. It never holds anew.
func Found(r Request, same bool) Answer {
	switch {
	case r.State == Void:
		r.Denial = &Denial{Reason: ReasonReleased}
		return Answer{Verdict: Refused, Request: r}
	case !same:
		return Answer{Verdict: KeyReused}
	case r.State == Denied:
		return Answer{Refused, true, r}
	case r.State == Reserved:
		return Answer{Held, true, r}
	}
	return Answer{Settled, true, r}
}

// Package budgets is the ledger of tokens as control serves it: a Service for
// callers of the control API, and an Inline for what passes sidecars. It owns what
// makes one request of the API the same as another, which code each refusal has,
// the gathering of the sidecars' calls, what becomes of a settlement that is
// refused for good, and the sweeps that end holds whose time or whose process is
// over.
//
// A Service refuses to touch what a sidecar holds: all that it asks for and settles
// is of origin api, so that the id of a running stream, which its client sees, is
// unknown here. It repeats nothing: whoever gets no answer asks again with the
// same id. Its methods return *apierr.Error.
//
// An Inline takes from its caller who a sidecar is. It refuses to lose a
// settlement: what the ledger won't take is a dead letter before it is answered.
//
// Both are safe for concurrent use. An Inline starts goroutines, which Stop
// awaits.
package budgets

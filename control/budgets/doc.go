// Package budgets is the ledger of tokens for callers of the control API. It owns
// what makes one request the same as another, which code each refusal has, and
// the sweep that ends holds whose time is over.
//
// It refuses to touch what a sidecar holds: all that it asks for and settles is
// of origin api, so that the id of a running stream, which its client sees, is
// unknown here. It repeats nothing: whoever gets no answer asks again with the
// same id.
//
// A Service is safe for concurrent use and starts no goroutine. Its methods
// return *apierr.Error.
package budgets

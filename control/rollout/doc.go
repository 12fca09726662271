// Package rollout decides which revision of a policy set is in force.
//
// A revision is pushed: looked at as a sidecar would look at it, its own tests
// run, and stored under the id that its content gives it, immutable. It is
// activated, or rolled back to if it was in force before; each of that is a new
// generation, signed, and the highest generation of a set is what is in force.
//
//	pushed ──ActivateRevision──► in force ──another──► was in force ──Rollback──► in force
//
// What a sidecar alone can find out (its own files, its listeners, what its
// Envoy takes) is not looked at here: the sidecar refuses, says why, and goes on
// with what it has.
//
// It refuses to put in force what is not, byte for byte, what was pushed, also
// where somebody changed it in the database. Rego of whoever pushes runs here,
// so that there is a bound on how long and on how much of it at once.
//
// Errors are *apierr.Error: those of the caller by their codes, internal.error
// with status 503 where the database is away or the key of revisions can't be
// opened, policy.unavailable where too much is being checked.
//
// A Service is safe for concurrent use. Several of them, in several processes,
// share one database and need nothing else to agree.
package rollout

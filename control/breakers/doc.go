// Package breakers makes one breaker of the mesh out of those that sidecars have
// for an upstream: it is open while at least two, and at least half, of the
// sidecars that were asked for the upstream in the last minute found it failing.
//
//	sidecars ──reports──► Store ◄──review, each second, of one replica
//	sidecars ◄──orders─── Store ◄──reset, by the API
//
// That one opens orders the sidecars of its policy set to open theirs, once: each
// closes its own by its own probe, and when enough have, the mesh's is closed. A
// reset orders all to close; what was reported before a sidecar has followed it
// does not open the breaker again. Orders rest in the Store and nowhere else, so
// that a replica that is restarted goes on where it was.
//
// It refuses to let one sidecar's word count for others: the names that it makes
// up are bounded by policy set, its figures stay its own, and alone it opens
// nothing. Breakers of control's own dependencies are not kept here: that of
// Redis is in control/rates, for the process alone.
//
// A Service is safe for concurrent use.
package breakers

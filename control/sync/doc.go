// Package sync is the gRPC service of control for sidecars (gatehouse.v1,
// api/v1/sidecar.proto): it tells each what is in force for it, takes what it
// reports and records, decides rates that the whole mesh counts, and passes holds
// and settlements to the ledger.
//
// It refuses whoever has no active sidecar's credential, a sidecar that asks
// for another tenant, messages out of order or out of bounds, and to say that
// all is well (Beat) when the database could not be asked in the last seconds.
// It keeps nothing: what it tells comes from a Source, what it hears goes to a
// Registry and to Records. Replicas need nothing but these to agree.
//
//	Source ──poll, Listen──► hub ──view (encoded once)──► stream ──► sidecar
//	Registry ◄──reports──────────────────────────────────┘  │
//	Records ◄───────────────────────────────────────────────┘
//
// A ledger stream stands beside that, with the Ledger behind it: each item is a
// goroutine, so that a tenant whose ledger is slow holds up nobody else; those of
// one request take turns. Who a hold is of, is the stream's to say, never the
// message's.
//
// What sidecars say of their circuit breakers goes to Breakers, and the orders that
// come of it go down beside the live data, by policy set. No beat vouches for them.
//
// The hub's one goroutine asks the database, and publishes what it learns as an
// immutable view. A stream is one goroutine that owns its session (a pure core:
// what was sent, what was said, what is to be sent next), one that receives,
// and one while a message is being sent. What waits for a slow receiver is the
// newest state of each kind, never a queue.
//
// A Server is safe for concurrent use. Start begins goroutines, Stop ends and
// awaits them.
package sync

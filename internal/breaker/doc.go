// Package breaker keeps callers away from upstreams that fail: after so many
// failures in a row a breaker opens and refuses; after a while it lets one call
// through, and goes by how that ends.
//
//	        failures in a row
//	closed ────────────────────► open ◄──────────┐
//	  ▲  ▲    an order to open    │              │ probe failed
//	  │  │                        │ recovery     │
//	  │  └── reset ───────────────┤              │
//	  │                           ▼              │
//	  └──────── probe came back ── half-open ────┘
//	                               │  ▲
//	                               └──┘ probe lost: another after recovery
//
// The machine (machine.go) is a pure core: state, event and now give the next
// state. Results count only in the generation that their call began in, so that
// none of before a trip closes a breaker or keeps it open. Beside it stands a
// gate of another make, hystrix-go's (docs/decisions/0002), which is asked for
// each probe and can only refuse. The machine is authoritative: a gate that goes
// on refusing for a whole recovery is passed over.
//
// It refuses to grow: breakers, calls under way and orders have limits. It
// decides nothing about what is a failure but in Judge, and knows no request.
//
// A Set is safe for concurrent use. It has no goroutine; hystrix-go keeps two for
// each breaker that ever opened, at most MaxBreakers times, for the life of the
// process.
package breaker

// Package ads moves revisions into a running Envoy: delta discovery over the
// sidecar's own socket.
//
// A revision switches in two steps, because Envoy would otherwise drop a
// cluster before the routes that use it:
//
//	idle ──push──► clusters ──CDS ACK──► routes ──RDS ACK──► idle
//	                  │                    │
//	                  └──── NACK, too slow ┴──► idle, with the revision before
//
//	clusters  old routes, old and new clusters
//	routes    new routes, old and new clusters
//
// What the old revision alone used is kept for Grace after the ACK, each
// cluster and each revision by its own timer: a request that matched an old
// route may still wait in Check for its body.
//
// Switch is the pure core; Server is the shell around go-control-plane that
// feeds it events and carries out what it wants. Facts behind the rules:
// Envoy 1.40 answers CDS after warming, applies CDS partially, RDS whole, and
// sends no answer for a type that did not change.
package ads

import "time"

// Bounds of the switch.
const (
	// Grace outlives every request that matched an old route: the time to
	// receive a body (60 s), Check (0.5 s) and two messages of an Exchange (2 s each).
	Grace = 65 * time.Second

	// MaxRetired bounds the clusters, and the revisions, that wait for their
	// timer; beyond it a pushed revision waits.
	MaxRetired = 256

	// AckTimeout is how long a connected Envoy may take for one step.
	AckTimeout = 15 * time.Second

	// maxNackText cuts what Envoy says of a refused resource, bytes.
	maxNackText = 400
)

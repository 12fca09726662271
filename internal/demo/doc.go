// Package demo shows what Gatehouse does: it starts a devstack, sends real
// requests through its Envoy, and prints for each what came back, whether the
// upstream was reached, and why.
//
// It owns the rows and the table. Each row is a claim that is checked against
// the answer and against the upstreams' own counters, which no proxied request
// can touch. A row that does not hold is printed as such; the rest still run.
// Rows run one after the other.
package demo

// Package soak holds the budget against its promise, again and again: what a
// provider bills never exceeds what was held for it, whatever clients, the
// provider, Envoy, the sidecar, control and Postgres do. It is test-only.
//
// All of them are the real thing and processes of their own, but the provider,
// which is a fake that counts for itself in the test's process. TestNoOverspend
// lets clients loose on a small limit; TestKills kills one process after the
// other while they are at it, and a supervisor starts it again at once.
//
// What is promised at each instant is looked at while it runs (watch_test.go);
// what is promised of each exchange, once all is quiet, by joining the
// provider's ledger and ours on the request id (judge_test.go).
//
//	go test ./internal/soak -soak.runs 100
//	go test ./internal/soak -run TestKills -soak.kills 10 -soak.seconds 60
//	go test ./internal/soak -run TestKills -soak.seed SEED
package soak

// Package bench compares, in one interleaved run, an Envoy without Check, one
// with an empty ext_authz server of grpc-go, and one with Gatehouse. `make
// bench` prints the figures; only their ratios mean something on another
// machine.
package bench

// Package bench compares, each in one interleaved run:
//
//   - an Envoy without Check, one with an empty ext_authz server of grpc-go, and
//     one with Gatehouse (BenchmarkSideBySide)
//   - an ext_proc server that only echoes with others, played to as Envoy would
//     (BenchmarkExchange)
//
// `make bench` prints the figures; only their ratios mean something on another
// machine.
package bench

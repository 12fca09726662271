// Package e2e holds the end-to-end tests: a real Envoy, configured by a real
// sidecar, in front of an upstream that counts what reached it. It has no code
// outside of its tests.
package e2e

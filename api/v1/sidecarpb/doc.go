// Package sidecarpb is generated from sidecar.proto: the service that control
// offers to sidecars.
package sidecarpb

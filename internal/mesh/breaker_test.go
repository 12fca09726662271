package mesh_test

import (
	"strings"
	"testing"

	"gatehouse/internal/mesh"
)

func TestBreakerName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"app": true, "0": true, "a-b_c9": true, "a" + strings.Repeat("-", 62): true,
		"": false, "-a": false, "_a": false, "A": false, "a b": false, "a/b": false, "a\x00": false, "\u00e4": false, "a" + strings.Repeat("-", 63): false,
	} {
		if got := mesh.BreakerName(name); got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
	for phase, want := range map[mesh.BreakerPhase]bool{mesh.BreakerClosed: true, mesh.BreakerOpen: true, mesh.BreakerHalfOpen: true, "": false, "ajar": false} {
		if got := phase.Valid(); got != want {
			t.Errorf("%q: got %v, want %v", phase, got, want)
		}
	}
}

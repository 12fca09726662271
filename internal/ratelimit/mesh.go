package ratelimit

import (
	"errors"
	"fmt"
	"time"
)

// Bounds of a limit that control counts for the whole mesh. Who reads one, asks
// for it and counts it all keep to them, by [Ask.CheckMesh].
const (
	MaxMeshUnits = 1_000_000      // of a count, a burst and a cost
	MaxMeshPer   = 24 * time.Hour // that a rate is over
	// MaxMeshSpan is how long a counter may live: until a whole burst, and what
	// one request costs, is free again.
	MaxMeshSpan = 31 * 24 * time.Hour
)

// Errors of CheckMesh. ErrMeshSpan is wrapped.
var (
	ErrMeshRange = errors.New("the limit is out of range")
	ErrMeshSpan  = errors.New("the limit keeps its counters for too long")
)

// MeshInterval is what one unit costs, in whole microseconds: rounded up, so that
// the rate is never above Count per Per. Both are in range.
func (a *Ask) MeshInterval() int64 {
	units := int64(a.Count) * int64(time.Microsecond)
	return (int64(a.Per) + units - 1) / units
}

// CheckMesh says whether control would count the ask: ErrMeshRange, ErrMeshSpan
// or nil. What it is named and keyed by is left alone.
func (a *Ask) CheckMesh() error {
	switch {
	case a.invalid(), a.Per > MaxMeshPer, max(a.Count, a.Burst, a.Cost) > MaxMeshUnits:
		return ErrMeshRange
	}
	units := max(a.Burst, a.Cost)
	// INVARIANT: below 10^6 units of 10^11 microseconds each, which is no overflow.
	if a.MeshInterval()*int64(units) > MaxMeshSpan.Microseconds() {
		return fmt.Errorf("%w: at %d in %v, %d units are free again after more than %v", ErrMeshSpan, a.Count, a.Per, units, MaxMeshSpan)
	}
	return nil
}

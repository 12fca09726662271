package ratelimit

import (
	"errors"
	"testing"
	"time"
)

func TestCheckMesh(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name string
		ask  Ask
		want error
	}{
		{"ordinary", Ask{Count: 600, Per: time.Minute, Burst: 60}, nil},
		{"the largest of all", Ask{Count: MaxMeshUnits, Per: MaxMeshPer, Burst: MaxMeshUnits, Cost: MaxMeshUnits}, nil},
		{"the burst of 31 days", Ask{Count: 1, Per: day, Burst: 31}, nil},
		{"the burst of 32 days", Ask{Count: 1, Per: day, Burst: 32}, ErrMeshSpan},
		{"the cost of 31 days", Ask{Count: 1, Per: day, Burst: 1, Cost: 31}, nil},
		{"the cost of 32 days", Ask{Count: 1, Per: day, Burst: 1, Cost: 32}, ErrMeshSpan},
		{"of thousands of years", Ask{Count: 1, Per: day, Burst: MaxMeshUnits}, ErrMeshSpan},
		{"31 days, and more by rounding up", Ask{Count: 31, Per: day, Burst: 31 * 31}, ErrMeshSpan},
		{"no count", Ask{Per: day, Burst: 1}, ErrMeshRange},
		{"no time", Ask{Count: 1, Burst: 1}, ErrMeshRange},
		{"no burst", Ask{Count: 1, Per: day}, ErrMeshRange},
		{"a negative cost", Ask{Count: 1, Per: day, Burst: 1, Cost: -1}, ErrMeshRange},
		{"a large count", Ask{Count: MaxMeshUnits + 1, Per: day, Burst: 1}, ErrMeshRange},
		{"a large burst", Ask{Count: 1, Per: time.Second, Burst: MaxMeshUnits + 1}, ErrMeshRange},
		{"a large cost", Ask{Count: 1, Per: time.Second, Burst: 1, Cost: MaxMeshUnits + 1}, ErrMeshRange},
		{"a long time", Ask{Count: 1, Per: MaxMeshPer + 1, Burst: 1}, ErrMeshRange},
	} {
		if err := tt.ask.CheckMesh(); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	for count, want := range map[int]int64{1: 1_000_000, 3: 333_334, 1_000_000: 1} {
		if got := (&Ask{Count: count, Per: time.Second}).MeshInterval(); got != want {
			t.Errorf("a unit of %d a second costs %d µs, want %d", count, got, want)
		}
	}
}

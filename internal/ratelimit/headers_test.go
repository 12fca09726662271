package ratelimit

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHeaders(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		in   Result
		want []Header
	}{
		{"allowed", Result{Allowed: true, Limit: "per-principal", Count: 600, Per: time.Minute, Burst: 60, Remaining: 59, Reset: 100 * time.Millisecond}, []Header{
			{"ratelimit-policy", `"per-principal";q=600;w=60;burst=60`},
			{"ratelimit", `"per-principal";r=59;t=1`},
			{"x-ratelimit-limit", "600"}, {"x-ratelimit-remaining", "59"}, {"x-ratelimit-reset", "1"},
		}},
		{"denied", Result{Limit: "l", Count: 5, Per: time.Minute, Burst: 5, Reset: time.Minute, RetryAfter: 12*time.Second + 1}, []Header{
			{"ratelimit-policy", `"l";q=5;w=60`},
			{"ratelimit", `"l";r=0;t=60`},
			{"x-ratelimit-limit", "5"}, {"x-ratelimit-remaining", "0"}, {"x-ratelimit-reset", "60"}, {"retry-after", "13"},
		}},
		{"odd name, window below a second, no wait known", Result{Limit: "a\"b\\c\nü", Count: 5, Per: time.Millisecond, Burst: 5}, []Header{
			{"ratelimit-policy", `"a\"b\\c___";q=5;w=1`},
			{"ratelimit", `"a\"b\\c___";r=0;t=0`},
			{"x-ratelimit-limit", "5"}, {"x-ratelimit-remaining", "0"}, {"x-ratelimit-reset", "0"}, {"retry-after", "1"},
		}},
		{"no limit", Result{Allowed: true}, nil},
	} {
		if d := cmp.Diff(tc.want, Headers(tc.in)); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, d)
		}
	}
}

// TestHeadersFollowRequests: r falls by one with each request, and t is not 0
// while anything is used.
func TestHeadersFollowRequests(t *testing.T) {
	t.Parallel()
	l := New()
	a := Ask{Rule: "r", Key: "k", Count: 1000, Per: time.Second, Burst: 20}
	for want := 19; want >= 0; want-- {
		got := Headers(take(t, l, 0, true, a))[1].Value
		if got != fmt.Sprintf(`"r";r=%d;t=1`, want) {
			t.Errorf("ratelimit: %s, want r=%d and t=1", got, want)
		}
	}
	h := Headers(take(t, l, 0, false, a))
	if got := h[len(h)-1]; got != (Header{"retry-after", "1"}) {
		t.Errorf("last header %+v, want retry-after: 1", got)
	}
}

func BenchmarkHeaders(b *testing.B) {
	b.ReportAllocs()
	r := Result{Allowed: true, Limit: "per-principal", Count: 600, Per: time.Minute, Burst: 60, Remaining: 59, Reset: time.Second}
	for b.Loop() {
		Headers(r)
	}
}

package rates

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gatehouse/internal/ratelimit"
	"gatehouse/internal/redistest"
)

// patience stands for callTimeout where a test is of what is counted: a busy
// machine may take longer.
const patience = 30 * time.Second

// patient are rates on a server that is well.
func patient(t testing.TB, url string) *Rates {
	t.Helper()
	r, err := newRates(Options{URL: url, Log: slog.New(slog.DiscardHandler), Now: time.Now}, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() }) // there is nobody left to tell
	return r
}

func take(t testing.TB, r *Rates, asks ...ratelimit.Ask) (ratelimit.Result, int) {
	t.Helper()
	res, which, err := r.Take(t.Context(), "prod", asks)
	if err != nil {
		t.Error(err)
	}
	return res, which
}

// ask is ten a second with a burst.
func ask(rule, key string, burst int) ratelimit.Ask { return slower(time.Second, rule, key, burst) }

func slower(per time.Duration, rule, key string, burst int) ratelimit.Ask {
	return ratelimit.Ask{Rule: rule, Key: ratelimit.Key(rule, key), Count: 10, Per: per, Burst: burst}
}

// row is one step of a story: the asks, after a while, and what is answered.
type row struct {
	after   time.Duration
	asks    []ratelimit.Ask
	allowed bool
	which   int
	left    int
}

// story is of limits of ten per per.
func story(per time.Duration) []row {
	wide, tight, dear := slower(per, "wide", "k", 10), slower(per, "tight", "k", 2), slower(per, "dear", "k", 2)
	dear.Cost = 3
	slow := tight
	slow.Count = 1
	one := func(a ...ratelimit.Ask) []ratelimit.Ask { return a }
	return []row{
		{0, one(wide, tight), true, 1, 1},
		{0, one(tight, wide), true, 0, 0},
		{0, one(wide, tight), false, 1, 0},
		{0, one(wide, dear), false, 1, 2},
		{0, one(wide), true, 0, 7}, // denials took nothing
		{0, one(wide, wide), true, 1, 5},
		{0, one(slower(per, "wide", "other", 10)), true, 0, 9},
		{per / 5, one(tight, tight, tight), false, 2, 0},
		{0, one(tight, tight), true, 1, 0},
		{0, one(slow), false, 0, 0}, // used units stay used at another rate
		{per + per/10, one(slow), true, 0, 1},
	}
}

func tell(t *testing.T, r *Rates, per time.Duration, wait func(time.Duration)) {
	t.Helper()
	for i, s := range story(per) {
		wait(s.after)
		res, which := take(t, r, s.asks...)
		if res.Allowed != s.allowed || which != s.which || res.Remaining != s.left || res.Limit != s.asks[which].Rule {
			t.Errorf("step %d: %+v by ask %d; want allowed %v, ask %d, %d remaining", i, res, which, s.allowed, s.which, s.left)
		}
	}
}

func TestStoryOnMiniredis(t *testing.T) {
	t.Parallel()
	m := redistest.Mini(t, epoch)
	tell(t, patient(t, m.URL()), time.Second, m.Advance)
}

// TestScriptAgreesWithCore takes the same steps with the script, by a server
// clock that the test moves, and with the limiter of one process.
func TestScriptAgreesWithCore(t *testing.T) {
	t.Parallel()
	m := redistest.Mini(t, epoch)
	r := patient(t, m.URL())
	rapid.Check(t, func(rt *rapid.T) {
		m.FlushAll()
		core, rules := ratelimit.New(), drawRules(rt)
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			m.Advance(time.Duration(rapid.Int64Range(0, 3_000_000).Draw(rt, "µs")) * time.Microsecond)
			asks := drawAsks(rt, rules)
			if len(asks) == 0 {
				continue
			}
			want := core.Take(m.Now(), asks)
			got, which := take(t, r, asks...)
			if d := cmp.Diff(want, got); d != "" {
				rt.Fatalf("at %v, %+v (-core +script):\n%s", m.Now(), asks, d)
			}
			if asks[which].Rule != got.Limit {
				rt.Fatalf("ask %d does not bind: %+v", which, got)
			}
			if got.Allowed && !m.Exists(counterKey("prod", asks[which].Key)) {
				rt.Fatal("nothing is kept")
			}
		}
	})
}

// drawRules makes limits whose unit costs whole microseconds, to the largest.
func drawRules(t *rapid.T) []ratelimit.Ask {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ratelimit.Ask {
		count := rapid.SampledFrom([]int{1, 2, 5, 100, 1_000_000}).Draw(t, "count")
		per := rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour, ratelimit.MaxMeshPer}).Draw(t, "per")
		a := ratelimit.Ask{Count: count, Per: per, Burst: rapid.SampledFrom([]int{1, 2, 5, 10_000}).Draw(t, "burst")}
		a.Burst = min(a.Burst, longest(a))
		return a
	}), 1, 4).Draw(t, "rules")
}

// longest is how many units of a limit may be taken at once.
func longest(a ratelimit.Ask) int {
	return int(ratelimit.MaxMeshSpan.Microseconds() / a.MeshInterval())
}

// drawAsks asks each rule at most once, each at its own rate.
func drawAsks(t *rapid.T, rules []ratelimit.Ask) (asks []ratelimit.Ask) {
	for i, a := range rules {
		if !rapid.Bool().Draw(t, "asked") {
			continue
		}
		a.Rule = string(rune('a' + i))
		a.Key = ratelimit.Key(a.Rule, rapid.SampledFrom([]string{"x", "y"}).Draw(t, "key"))
		a.Cost = min(rapid.SampledFrom([]int{0, 1, 3, 7000}).Draw(t, "cost"), longest(a))
		asks = append(asks, a)
	}
	return asks
}

// TestLargestNumbersStayExact goes to the ends of what the script may get: the
// last microsecond of a debt still counts.
func TestLargestNumbersStayExact(t *testing.T) {
	t.Parallel()
	m := redistest.Mini(t, epoch)
	r := patient(t, m.URL())
	a := ratelimit.Ask{Rule: "r", Key: "k", Count: 1, Per: ratelimit.MaxMeshPer, Burst: 31, Cost: 31}
	res, _ := take(t, r, a)
	if want := ratelimit.MaxMeshSpan; !res.Allowed || res.Remaining != 0 || res.Reset != want {
		t.Fatalf("%+v, want allowed, and free after %v", res, want)
	}
	if ttl := m.TTL(counterKey("prod", a.Key)); ttl != ratelimit.MaxMeshSpan {
		t.Errorf("the counter lives %v, want %v", ttl, ratelimit.MaxMeshSpan)
	}
	a.Cost = 1
	m.Advance(ratelimit.MaxMeshPer - time.Microsecond)
	if res, _ = take(t, r, a); res.Allowed || res.RetryAfter != time.Microsecond {
		t.Errorf("%+v, want a wait of 1µs", res)
	}
	m.Advance(time.Microsecond)
	if res, _ = take(t, r, a); !res.Allowed {
		t.Errorf("%+v, want allowed", res)
	}
}

// TestIdleCounterDisappears just when its debt is gone, and not before.
func TestIdleCounterDisappears(t *testing.T) {
	t.Parallel()
	m := redistest.Mini(t, epoch)
	r := patient(t, m.URL())
	a := ask("r", "k", 5)
	take(t, r, a)
	key := counterKey("prod", a.Key)
	if ttl := m.TTL(key); ttl != 100*time.Millisecond {
		t.Errorf("the counter lives %v, want 100ms", ttl)
	}
	m.Advance(100 * time.Millisecond)
	if m.Exists(key) {
		t.Error("the counter is still there")
	}
}

// TestRateChangeKeepsUnits to within a microsecond, and caps them at the burst.
func TestRateChangeKeepsUnits(t *testing.T) {
	t.Parallel()
	m := redistest.Mini(t, epoch)
	r := patient(t, m.URL())
	a := ratelimit.Ask{Rule: "r", Key: "k", Count: 7, Per: time.Second, Burst: 50, Cost: 40}
	take(t, r, a)
	a.Count, a.Cost = 3, 1
	if res, _ := take(t, r, a); res.Remaining != 9 {
		t.Errorf("%d remaining, want 9", res.Remaining)
	}
	a.Count, a.Per, a.Burst = 1, ratelimit.MaxMeshPer, 5
	if res, _ := take(t, r, a); res.Allowed || res.RetryAfter != ratelimit.MaxMeshPer || res.Reset != 5*ratelimit.MaxMeshPer {
		t.Errorf("%+v, want a wait within the new limit's own five days", res)
	}
}

func TestCounterKey(t *testing.T) {
	t.Parallel()
	long := ratelimit.Key("r", strings.Repeat("x", maxKeyBytes))
	got := counterKey("prod", long)
	if len(got) > 100 || got == counterKey("prod", long+"x") || !strings.HasPrefix(got, "gh:rate:{prod}:sha256:") {
		t.Errorf("a long key becomes %s", got)
	}
	if got := counterKey("prod", "1:r1:k"); got != "gh:rate:{prod}:1:r1:k" {
		t.Errorf("got %s", got)
	}
}

func TestAnswersOfAnotherShape(t *testing.T) {
	t.Parallel()
	asks := []ratelimit.Ask{ask("r", "k", 5)}
	for name, answer := range map[string][]int64{
		"none": nil, "odd": {1}, "too long": {1, -1, 1, -1}, "negative debt": {-1, -1}, "wait below -1": {1, -2},
		"debt beyond all bounds": {2*maxSpan + 1, -1}, "wait beyond all bounds": {1, 2*maxSpan + 1},
	} {
		if _, _, err := readAnswer(asks, answer); !errors.Is(err, errAnswer) {
			t.Errorf("%s: %v, want %v", name, err, errAnswer)
		}
	}
}

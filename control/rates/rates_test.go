package rates

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"gatehouse/internal/ratelimit"
	"gatehouse/internal/redistest"
)

// clock is a now that the test moves.
type clock struct{ nanos atomic.Int64 }

func (c *clock) now() time.Time          { return epoch.Add(time.Duration(c.nanos.Load())) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

// outage is a server, and rates whose circuit moves with the test's clock.
type outage struct {
	t      *testing.T
	server *redistest.Server
	rates  *Rates
	clock  clock
	log    strings.Builder // the logger locks it
}

func newOutage(t *testing.T, timeout time.Duration) *outage {
	t.Helper()
	o := &outage{t: t, server: redistest.Start(t)}
	r, err := newRates(Options{URL: o.server.URL(), Log: slog.New(slog.NewTextHandler(&o.log, nil)), Now: o.clock.now}, timeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	o.rates = r
	o.heals()
	return o
}

func (o *outage) take() error {
	_, _, err := o.rates.Take(o.t.Context(), "prod", []ratelimit.Ask{ask("r", "k", 1000)})
	return err
}

// heals shows that calls succeed again, within tries of a second: a busy
// machine may miss the deadline once or twice.
func (o *outage) heals() {
	o.t.Helper()
	var err error
	for range 10 {
		if err = o.take(); err == nil {
			return
		}
		o.clock.advance(openTime)
	}
	o.t.Fatalf("it does not heal: %v", err)
}

// opens fails until the circuit does.
func (o *outage) opens() {
	o.t.Helper()
	for i := range failuresToOpen {
		if err := o.take(); !errors.Is(err, ErrUnavailable) || errors.Is(err, errOpen) {
			o.t.Fatalf("call %d: %v", i, err)
		}
	}
	if err := o.take(); !errors.Is(err, errOpen) || !errors.Is(err, ErrUnavailable) {
		o.t.Fatalf("after %d failures: %v, want %v", failuresToOpen, err, errOpen)
	}
}

func TestStoryOnRedis(t *testing.T) {
	t.Parallel()
	r := patient(t, redistest.URL(t))
	tell(t, r, 2*time.Second, func(d time.Duration) { <-time.After(d) })
}

// TestWaitOnRedisIsTrue: whoever waits as told passes, by the server's clock.
func TestWaitOnRedisIsTrue(t *testing.T) {
	t.Parallel()
	r := patient(t, redistest.URL(t))
	a := ask("r", "k", 1)
	take(t, r, a)
	for range 3 {
		res, _ := take(t, r, a)
		if res.Allowed || res.RetryAfter > 100*time.Millisecond {
			t.Fatalf("%+v, want a denial of at most 100ms", res)
		}
		<-time.After(res.RetryAfter)
		if res, _ = take(t, r, a); !res.Allowed {
			t.Fatalf("%+v, want allowed after the wait", res)
		}
	}
}

func TestConcurrentTakesShareOneBurst(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	a := ratelimit.Ask{Rule: "r", Key: "k", Count: 1, Per: time.Hour, Burst: 100}
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range 4 { // as many controls
		r := patient(t, url)
		for range 2 {
			wg.Go(func() {
				for range 50 {
					if res, _ := take(t, r, a); res.Allowed {
						allowed.Add(1)
					}
				}
			})
		}
	}
	wg.Wait()
	if n := allowed.Load(); n != 100 {
		t.Errorf("%d allowed, want 100", n)
	}
}

func TestScriptThatIsLostIsSentAgain(t *testing.T) {
	t.Parallel()
	r := patient(t, redistest.URL(t))
	a := ask("r", "k", 10)
	take(t, r, a)
	if err := r.client.Load().ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if res, _ := take(t, r, a); res.Remaining != 8 {
		t.Errorf("%+v, want 8 remaining", res)
	}
}

func TestKilledRedis(t *testing.T) {
	t.Parallel()
	o := newOutage(t, callTimeout)
	o.server.Kill()
	o.opens()
	if err := o.rates.Ping(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("ping: %v, want %v", err, ErrUnavailable)
	}
	for range 3 * poolSize { // an outage long enough for any pool to give up
		o.clock.advance(openTime)
		if err := o.take(); err == nil || errors.Is(err, errOpen) {
			t.Fatalf("a probe: %v", err)
		}
	}
	o.server.Restart()
	if err := o.take(); !errors.Is(err, errOpen) {
		t.Fatalf("before the second is over: %v", err)
	}
	o.clock.advance(openTime)
	o.heals()
	if err := o.rates.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
	if fails, back := strings.Count(o.log.String(), "Redis fails"), strings.Count(o.log.String(), "Redis is back"); fails < 1 || fails != back {
		t.Errorf("told of %d failures and %d ends:\n%s", fails, back, &o.log)
	}
}

// TestStoppedRedisHoldsNobodyUp: each call ends by itself, and when the server
// goes on, so do we.
func TestStoppedRedisHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	o := newOutage(t, callTimeout)
	o.server.Stop()
	begin := time.Now()
	o.opens()
	if took := time.Since(begin); took < failuresToOpen*callTimeout || took > time.Second {
		t.Errorf("%d calls took %v, each should take %v", failuresToOpen, took, callTimeout)
	}
	o.server.Cont()
	o.clock.advance(openTime)
	o.heals()
}

// watcher counts the scripts under way.
type watcher struct{ now, most, all atomic.Int64 }

func (w *watcher) DialHook(next redis.DialHook) redis.DialHook { return next }
func (w *watcher) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (w *watcher) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "evalsha" { // such as a new connection's hello
			return next(ctx, cmd)
		}
		n := w.now.Add(1)
		defer w.now.Add(-1)
		for most := w.most.Load(); n > most && !w.most.CompareAndSwap(most, n); most = w.most.Load() {
		}
		w.all.Add(1)
		return next(ctx, cmd)
	}
}

func TestNothingPilesUp(t *testing.T) {
	t.Parallel()
	o := newOutage(t, callTimeout)
	o.server.Stop()
	w := &watcher{}
	client := o.rates.client.Load()
	client.AddHook(w)
	begin := time.Now()
	var wg sync.WaitGroup
	var busy, other atomic.Int64
	for range 1000 {
		wg.Go(func() {
			switch err := o.take(); {
			case errors.Is(err, errBusy) || errors.Is(err, errOpen):
				busy.Add(1)
			case errors.Is(err, ErrUnavailable):
				other.Add(1)
			default:
				t.Errorf("%v, want %v", err, ErrUnavailable)
			}
		})
	}
	wg.Wait()
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("1000 calls took %v", took)
	}
	if w.most.Load() > maxInFlight || w.all.Load() == 0 || busy.Load() == 0 {
		t.Errorf("%d calls were under way, at most %d may be; %d were refused at once", w.most.Load(), maxInFlight, busy.Load())
	}
	if n := client.PoolStats().TotalConns; n > poolSize {
		t.Errorf("%d connections, at most %d may be", n, poolSize)
	}
	o.server.Cont()
	o.clock.advance(openTime)
	o.heals()
}

func TestFullHouseIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	o := newOutage(t, patience)
	for range maxInFlight {
		o.rates.inFlight <- struct{}{}
	}
	for range 2 * failuresToOpen {
		if err := o.take(); !errors.Is(err, errBusy) || !errors.Is(err, ErrUnavailable) {
			t.Fatalf("%v, want %v", err, errBusy)
		}
	}
	<-o.rates.inFlight
	o.heals()
}

// TestCounterThatIsNone fails those who ask it, and nobody else.
func TestCounterThatIsNone(t *testing.T) {
	t.Parallel()
	o := newOutage(t, patience)
	bad := ask("bad", "k", 10)
	for name, spoil := range map[string]func(context.Context, *redis.Client, string) error{
		"text":         func(ctx context.Context, c *redis.Client, key string) error { return c.Set(ctx, key, "12 x", 0).Err() },
		"another type": func(ctx context.Context, c *redis.Client, key string) error { return c.LPush(ctx, key, "1").Err() },
	} {
		client, key := o.rates.client.Load(), counterKey("prod", bad.Key)
		if err := errors.Join(client.Del(t.Context(), key).Err(), spoil(t.Context(), client, key)); err != nil {
			t.Fatal(err)
		}
		good := ask("good", name, 10)
		for range 2 * failuresToOpen {
			_, _, err := o.rates.Take(t.Context(), "prod", []ratelimit.Ask{good, bad})
			if !errors.Is(err, ErrUnavailable) {
				t.Fatalf("%s: %v, want %v", name, err, ErrUnavailable)
			}
		}
		if err := o.take(); err != nil {
			t.Errorf("%s: another counter: %v", name, err)
		}
		if res, _ := take(t, o.rates, good); res.Remaining != 9 {
			t.Errorf("%s: %d remaining, want 9: the failures took", name, res.Remaining)
		}
	}
}

func TestMalformedAsksAreNotSent(t *testing.T) {
	t.Parallel()
	r := patient(t, "unix:///nowhere")
	good := ask("r", "k", 5)
	change := func(f func(*ratelimit.Ask)) []ratelimit.Ask {
		a := good
		f(&a)
		return []ratelimit.Ask{good, a}
	}
	for name, c := range map[string]struct {
		set  string
		asks []ratelimit.Ask
	}{
		"no set":        {"", []ratelimit.Ask{good}},
		"two slots":     {"a}{b", []ratelimit.Ask{good}},
		"too many":      {"prod", make([]ratelimit.Ask, MaxAsks+1)},
		"no rule":       {"prod", change(func(a *ratelimit.Ask) { a.Rule = "" })},
		"no count":      {"prod", change(func(a *ratelimit.Ask) { a.Count = 0 })},
		"large count":   {"prod", change(func(a *ratelimit.Ask) { a.Count = ratelimit.MaxMeshUnits + 1 })},
		"no burst":      {"prod", change(func(a *ratelimit.Ask) { a.Burst = 0 })},
		"large burst":   {"prod", change(func(a *ratelimit.Ask) { a.Burst = ratelimit.MaxMeshUnits + 1 })},
		"negative cost": {"prod", change(func(a *ratelimit.Ask) { a.Cost = -1 })},
		"large cost":    {"prod", change(func(a *ratelimit.Ask) { a.Cost = ratelimit.MaxMeshUnits + 1 })},
		"no time":       {"prod", change(func(a *ratelimit.Ask) { a.Per = 0 })},
		"long time":     {"prod", change(func(a *ratelimit.Ask) { a.Per = ratelimit.MaxMeshPer + 1 })},
		"long burst":    {"prod", change(func(a *ratelimit.Ask) { a.Count, a.Per, a.Burst = 1, ratelimit.MaxMeshPer, 32 })},
		"long cost":     {"prod", change(func(a *ratelimit.Ask) { a.Count, a.Per, a.Cost = 1, ratelimit.MaxMeshPer, 32 })},
	} {
		if _, _, err := r.Take(t.Context(), c.set, c.asks); !errors.Is(err, ErrInvalid) || errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v, want %v", name, err, ErrInvalid)
		}
	}
	if res, _, err := r.Take(t.Context(), "prod", nil); err != nil || !res.Allowed || res.Limit != "" {
		t.Errorf("no asks: %+v, %v, want allowed", res, err)
	}
}

// TestFirstErrorIsTold: what Redis answers never opens the circuit, so that
// nobody would hear of a server that refuses all.
func TestFirstErrorIsTold(t *testing.T) {
	t.Parallel()
	o := newOutage(t, patience)
	if err := o.rates.client.Load().Set(t.Context(), counterKey("prod", ask("r", "k", 1000).Key), "12 x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for range 3 * failuresToOpen {
		if err := o.take(); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("%v, want %v", err, ErrUnavailable)
		}
	}
	if got := o.log.String(); strings.Count(got, "Redis can't be used") != 1 || !strings.Contains(got, "error=") {
		t.Errorf("told:\n%s\nwant the error, once", got)
	}
}

func TestLateIsNotTold(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"success": nil, "late": fmt.Errorf("x: %w", context.DeadlineExceeded), "left": context.Canceled, "late on the wire": os.ErrDeadlineExceeded,
	} {
		if telling(err) {
			t.Errorf("%s is told", name)
		}
	}
}

// TestWhoLeavesCountsForNothing: neither is asked for, nor opens the circuit.
func TestWhoLeavesCountsForNothing(t *testing.T) {
	t.Parallel()
	o := newOutage(t, patience)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 * failuresToOpen {
		_, _, err := o.rates.Take(gone, "prod", []ratelimit.Ask{ask("r", "k", 1000)})
		if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnavailable) {
			t.Fatalf("%v, want %v", err, context.Canceled)
		}
	}
	if err := o.take(); err != nil {
		t.Error(err)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	o := newOutage(t, callTimeout)
	if err := o.rates.Close(); err != nil {
		t.Fatal(err)
	}
	o.opens()
	o.clock.advance(openTime)
	if err := o.take(); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("%v, want %v: nothing may be opened again", err, redis.ErrClosed)
	}
}

func TestBadURLIsNotQuoted(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "http://:hidden@h", "redis://:hid%zzden@h:1", "redis://:hidden@h:1/notanumber", "redis://:hidden@h:1/?pool_size=hidden"} {
		_, err := New(Options{URL: url})
		if err == nil || strings.Contains(fmt.Sprintf("%+v", err), "hid") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// TestURLCannotLiftTheLimits: what bounds us is not the operator's to forget.
func TestURLCannotLiftTheLimits(t *testing.T) {
	t.Parallel()
	o, err := parse("rediss://user:secret@h:1/3?pool_size=999&max_retries=9&dial_timeout=1h&read_timeout=1h&protocol=3&min_idle_conns=50", callTimeout)
	if err != nil {
		t.Fatal(err)
	}
	if o.PoolSize != poolSize || o.MaxRetries != -1 || o.DialTimeout != dialTimeout || o.ReadTimeout != pingTimeout || o.MinIdleConns != 0 || o.Protocol != 2 {
		t.Errorf("%+v", o)
	}
	if o.Username != "user" || o.Password != "secret" || o.DB != 3 || o.TLSConfig == nil {
		t.Error("the URL's own parts are lost")
	}
}

func BenchmarkTake(b *testing.B) {
	for _, n := range []int{1, 3} {
		b.Run(fmt.Sprint(n, "limits"), func(b *testing.B) {
			r := patient(b, redistest.URL(b))
			var asks []ratelimit.Ask
			for i := range n {
				asks = append(asks, ask("per-principal-"+fmt.Sprint(i), "issuer/subject", 60))
			}
			take(b, r, asks...)
			b.ReportAllocs()
			for b.Loop() {
				take(b, r, asks...)
			}
		})
	}
}

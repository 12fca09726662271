package rates

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"gatehouse/internal/ratelimit"
)

// Errors of Take. They are wrapped.
var (
	// ErrInvalid is a set or an ask that is out of range; nothing was asked.
	ErrInvalid = errors.New("rates: malformed")
	// ErrUnavailable means that nothing was decided; what was taken, if
	// anything, is lost.
	ErrUnavailable = errors.New("rates: the counters can't be asked")
)

// Causes of ErrUnavailable besides those that Redis has.
var (
	errOpen = errors.New("Redis failed lately")
	errBusy = errors.New("too many calls are under way")
)

const (
	// callTimeout bounds one Take.
	callTimeout = 10 * time.Millisecond
	// pingTimeout bounds one Ping.
	pingTimeout = 250 * time.Millisecond
	// maxInFlight is the number of Takes that may be under way.
	maxInFlight = 256
)

// Options are what Rates needs.
type Options struct {
	URL string // of Redis; it may hold a password
	Log *slog.Logger
	Now func() time.Time // time.Now where nil; it moves the circuit only
}

// Rates are the counters. Make them with New, and end with Close.
type Rates struct {
	o        Options
	timeout  time.Duration // callTimeout but in tests
	redis    *redis.Options
	script   *redis.Script
	inFlight chan struct{}
	client   atomic.Pointer[redis.Client]

	mu      sync.Mutex // guards all below
	circuit circuit
	told    bool // of an error, since Redis was back last
	closed  bool
}

// New reads the URL and connects to nothing yet. Its error never quotes the URL.
func New(o Options) (*Rates, error) { return newRates(o, callTimeout) }

func newRates(o Options, timeout time.Duration) (*Rates, error) {
	parsed, err := parse(o.URL, timeout)
	if err != nil {
		return nil, err
	}
	quiet()
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Rates{o: o, timeout: timeout, redis: parsed, script: newScript(), inFlight: make(chan struct{}, maxInFlight)}
	r.client.Store(redis.NewClient(parsed))
	return r, nil
}

// Close ends the connections. What is under way fails.
func (r *Rates) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return r.client.Load().Close()
}

// Ping asks Redis for a sign of life, whatever Take has seen of it lately.
func (r *Rates) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if err := r.client.Load().Ping(ctx).Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// Take decides a request by all of asks, and takes their costs if it passes
// every one. It returns the state of the ask that binds, and its index. The
// counters are those of a policy set. No asks means allowed.
//
// It ends within callTimeout. Its errors are ErrInvalid and ErrUnavailable.
func (r *Rates) Take(ctx context.Context, set string, asks []ratelimit.Ask) (ratelimit.Result, int, error) {
	if err := checkAsks(set, asks); err != nil {
		return ratelimit.Result{}, 0, err
	}
	if len(asks) == 0 {
		return ratelimit.Result{Allowed: true}, 0, nil
	}
	result, which, err := r.admit(ctx, set, asks)
	if err != nil {
		return ratelimit.Result{}, 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return result, which, nil
}

// admit lets a call through where there is room, and Redis seems to be there.
func (r *Rates) admit(ctx context.Context, set string, asks []ratelimit.Ask) (ratelimit.Result, int, error) {
	if err := ctx.Err(); err != nil {
		return ratelimit.Result{}, 0, err
	}
	select {
	case r.inFlight <- struct{}{}:
		defer func() { <-r.inFlight }()
	default:
		return ratelimit.Result{}, 0, errBusy
	}
	p, ok := r.enter()
	if !ok {
		return ratelimit.Result{}, 0, errOpen
	}
	result, which, err := r.ask(ctx, set, asks)
	r.leave(p, err)
	return result, which, err
}

// ask runs the script. A caller that leaves does not end it: that would cost
// the connection, and leave unknown whether Redis is well.
func (r *Rates) ask(ctx context.Context, set string, asks []ratelimit.Ask) (ratelimit.Result, int, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.timeout)
	defer cancel()
	keys, args := make([]string, len(asks)), make([]any, 0, 3*len(asks))
	for i := range asks {
		n := numbersOf(&asks[i])
		keys[i] = counterKey(set, asks[i].Key)
		args = append(args, n.interval, n.capacity, n.need)
	}
	answer, err := r.script.Run(ctx, r.client.Load(), keys, args...).Int64Slice()
	if err != nil {
		return ratelimit.Result{}, 0, err
	}
	return readAnswer(asks, answer)
}

// answered reports whether Redis said something, if only that it won't: the
// circuit is for waits, and one counter that is no counter must not open it.
func answered(err error) bool {
	_, refused := errors.AsType[redis.Error](err)
	return err == nil || refused || errors.Is(err, errAnswer)
}

func (r *Rates) enter() (pass, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.circuit.enter(r.o.Now())
}

// leave tells the circuit how a call went, and the log what came of it.
func (r *Rates) leave(p pass, err error) {
	r.mu.Lock()
	changed := r.circuit.leave(r.o.Now(), p, !answered(err))
	open := r.circuit.open
	if open && (changed || p.probe) {
		r.renewLocked()
	}
	tell := !r.told && telling(err)
	r.told = (r.told || tell) && !(changed && !open)
	r.mu.Unlock()
	if tell {
		r.o.Log.Warn("Redis can't be used as it should be", "error", err)
	}
	switch {
	case changed && open:
		r.o.Log.Error("Redis fails: mesh rate limits can't be counted", "failures", failuresToOpen, "error", err)
	case changed:
		r.o.Log.Info("Redis is back: mesh rate limits are counted again")
	}
}

// telling reports whether an error says what is wrong with Redis, or with how it
// is reached: such as a wrong password, which never opens the circuit. One that
// was late may be no more than that.
func telling(err error) bool {
	timeout, late := errors.AsType[net.Error](err)
	return err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) && !(late && timeout.Timeout())
}

// renewLocked begins with new connections. The library's pool would stop
// dialling after poolSize failures, and look again in its own time only.
func (r *Rates) renewLocked() {
	if r.closed {
		return
	}
	old := r.client.Swap(redis.NewClient(r.redis))
	_ = old.Close() // the calls on it fail, as Redis does
}

package rates

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"gatehouse/internal/ratelimit"
)

// Limits of one request.
const (
	// MaxAsks is the number of limits that decide one request.
	MaxAsks = 16
	// maxKeyBytes is the longest key that is kept as it is.
	maxKeyBytes = 256
)

// maxSpan is more than any span of time in the script, in microseconds: about
// 142 years. What is taken lasts ratelimit.MaxMeshSpan at most, but the server's
// clock may be set back. It and the time of day are below 2^52 until the year
// 2112, and their sum is exact in a double until then.
const maxSpan = int64(1) << 52

//go:embed take.lua
var takeSource string

// numbers are what the script knows of one ask, in microseconds.
type numbers struct {
	interval, capacity, need int64
}

func numbersOf(a *ratelimit.Ask) numbers {
	n := numbers{interval: a.MeshInterval()}
	// INVARIANT: checkAsks lets through no more than ratelimit.MaxMeshSpan.
	n.capacity = n.interval * int64(a.Burst)
	if cost := max(a.Cost, 1); cost <= a.Burst {
		n.need = n.interval * int64(cost)
	}
	return n
}

// checkAsks keeps what the script gets within what it can count, and what it
// keeps within the time that a counter may live.
func checkAsks(set string, asks []ratelimit.Ask) error {
	if set == "" || strings.ContainsAny(set, "{}") {
		return fmt.Errorf("%w: the policy set has no proper name", ErrInvalid)
	}
	if len(asks) > MaxAsks {
		return fmt.Errorf("%w: %d limits, at most %d", ErrInvalid, len(asks), MaxAsks)
	}
	for i := range asks {
		a := &asks[i]
		if a.Rule == "" {
			return fmt.Errorf("%w: limit %d has no name", ErrInvalid, i)
		}
		if err := a.CheckMesh(); err != nil {
			return fmt.Errorf("%w: limit %d: %w", ErrInvalid, i, err)
		}
	}
	return nil
}

// counterKey names a counter. The braces make one hash slot of a policy set's
// counters, which a script in a cluster needs. A long key is replaced by its
// hash, which no other can pose as: they begin with a length.
func counterKey(set, key string) string {
	if len(key) > maxKeyBytes {
		sum := sha256.Sum256([]byte(key))
		key = "sha256:" + hex.EncodeToString(sum[:])
	}
	return "gh:rate:{" + set + "}:" + key
}

// errAnswer is an answer that the script doesn't give.
var errAnswer = errors.New("the script's answer is malformed")

// readAnswer makes a result of what the script said, and finds the ask that
// binds.
func readAnswer(asks []ratelimit.Ask, answer []int64) (ratelimit.Result, int, error) {
	if len(answer) != 2*len(asks) {
		return ratelimit.Result{}, 0, errAnswer
	}
	var binding ratelimit.Result
	which := 0
	for i := range asks {
		r, err := resultOf(&asks[i], answer[2*i], answer[2*i+1])
		if err != nil {
			return ratelimit.Result{}, 0, err
		}
		if i == 0 {
			binding = r
			continue
		}
		if now := ratelimit.Binding(binding, r); now != binding {
			binding, which = now, i
		}
	}
	return binding, which, nil
}

// resultOf is what a debt and a wait, in microseconds, mean for one ask.
func resultOf(a *ratelimit.Ask, debt, wait int64) (ratelimit.Result, error) {
	if debt < 0 || debt > 2*maxSpan || wait < -1 || wait > 2*maxSpan {
		return ratelimit.Result{}, errAnswer
	}
	n := numbersOf(a)
	return ratelimit.Result{
		Allowed: wait == -1,
		Limit:   a.Rule, Count: a.Count, Per: a.Per, Burst: a.Burst,
		Remaining:  int(max(n.capacity-debt, 0) / n.interval),
		Reset:      time.Duration(debt) * time.Microsecond,
		RetryAfter: time.Duration(max(wait, 0)) * time.Microsecond,
	}, nil
}

// newScript is the script under the name of its hash: it is sent once, and
// again when the server has lost it.
func newScript() *redis.Script { return redis.NewScript(takeSource) }

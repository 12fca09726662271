package rates

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Limits of the connections.
const (
	// poolSize is the most connections to Redis.
	poolSize = 16
	// dialTimeout bounds the making of a connection, which goes on when the
	// call that needed it has given up. It is shorter than openTime, so that a
	// probe finds none of the old ones under way.
	dialTimeout = 500 * time.Millisecond
)

// parse reads a Redis URL: redis://, rediss:// or unix://. What is wrong with
// one is not said, as it may hold a password. Our limits go before those that
// the URL asks for; timeout is that of a call.
func parse(url string, timeout time.Duration) (*redis.Options, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("rates: the Redis URL is not one of redis://, rediss:// or unix:// with a valid rest")
	}
	o.PoolSize, o.MaxActiveConns, o.MinIdleConns, o.PipelinePoolSize = poolSize, 0, 0, -1
	o.MaxRetries, o.DialerRetries = -1, 1
	o.DialTimeout, o.PoolTimeout = dialTimeout, timeout
	longest := max(timeout, pingTimeout)
	o.ReadTimeout, o.WriteTimeout = longest, longest
	o.ContextTimeoutEnabled = true // a call's deadline goes before
	// What costs a new connection a round trip, or each answer a look.
	o.DisableIdentity, o.Protocol = true, 2
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return o, nil
}

// quiet keeps the library from writing to standard error: what it says of a
// failure is in our log, once, and not for each connection.
//
// The library has one logger for the process. No client is made before this.
var quiet = sync.OnceFunc(func() { redis.SetLogger(silence{}) })

type silence struct{}

// Printf implements the library's logger.
func (silence) Printf(context.Context, string, ...any) {}

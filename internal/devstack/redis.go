package devstack

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// redisTick is how often the time of the stack's own Redis moves on: it lets
// keys expire only when told.
const redisTick = 100 * time.Millisecond

// startRedis starts the stack's own Redis in this process, unless another is
// named, and returns its URL.
func (s *Stack) startRedis() (string, error) {
	if s.opts.Redis != "" {
		return s.opts.Redis, nil
	}
	password := rand.Text()
	r := miniredis.NewMiniRedis()
	r.RequireAuth(password)
	if err := r.StartAddr("127.0.0.1:0"); err != nil {
		return "", fmt.Errorf("the stack's own Redis: %w", err)
	}
	s.redis = r
	stopped := make(chan struct{})
	s.stopRedis = func() { close(stopped); r.Close() }
	s.watchers.Go(func() {
		tick := time.NewTicker(redisTick)
		defer tick.Stop()
		for {
			select {
			case <-stopped:
				return
			case <-tick.C:
				r.FastForward(redisTick)
			}
		}
	})
	return (&url.URL{Scheme: "redis", User: url.UserPassword("default", password), Host: r.Addr()}).String(), nil
}

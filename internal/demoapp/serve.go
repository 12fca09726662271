package demoapp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// Bounds of the two servers.
const (
	headerTimeout = 10 * time.Second
	readTimeout   = 60 * time.Second
	idleTimeout   = 2 * time.Minute
	stopTimeout   = time.Second
)

// Serve answers on app, and tells the counters on counters, until ctx ends.
// Both listeners are closed when it returns. Its error is nil when ctx ended.
func Serve(ctx context.Context, app, counters net.Listener) error {
	a := New()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return Run(ctx, app, server(a.Handler())) })
	g.Go(func() error { return Run(ctx, counters, server(a.Counters())) })
	return g.Wait()
}

func server(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout}
}

// Run serves on l until ctx ends; then what is under way has a second. l is closed
// when it returns. Its error is nil when ctx ended.
func Run(ctx context.Context, l net.Listener, s *http.Server) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if s.Shutdown(bounded) != nil {
			_ = s.Close() // a request that takes longer is cut
		}
	})
	err := s.Serve(l)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving on %s: %w", l.Addr(), err)
}

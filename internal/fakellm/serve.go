package fakellm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// Bounds of the two servers. What a body and a write may take is bounded call
// by call: an answer may take long.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	stopTimeout   = time.Second
)

// Control tells the ledger: GET /_fake/ledger answers with a Ledger, DELETE
// resets it.
func (p *Provider) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_fake/ledger", func(w http.ResponseWriter, _ *http.Request) {
		text, err := json.MarshalIndent(p.Ledger(), "", "  ")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(text, '\n')) // a client that is gone needs no answer
	})
	mux.HandleFunc("DELETE /_fake/ledger", func(w http.ResponseWriter, _ *http.Request) {
		p.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

// Serve answers calls on provider, and tells the ledger on control, until ctx
// ends. Both listeners are closed when it returns. Its error is nil when ctx
// ended.
func Serve(ctx context.Context, o Options, provider, control net.Listener) error {
	p := New(o)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serve(ctx, provider, p) })
	g.Go(func() error { return serve(ctx, control, p.Control()) })
	return g.Wait()
}

func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if s.Shutdown(bounded) != nil {
			_ = s.Close() // an answer that takes longer is cut
		}
	})
	err := s.Serve(l)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("fake provider: %w", err)
}

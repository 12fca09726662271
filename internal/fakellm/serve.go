package fakellm

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"gatehouse/internal/demoapp"
)

// Bounds of the two servers. What a body and a write may take is bounded call
// by call: an answer may take long.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
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
	g.Go(func() error { return demoapp.Run(ctx, provider, server(p)) })
	g.Go(func() error { return demoapp.Run(ctx, control, server(p.Control())) })
	return g.Wait()
}

func server(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}
}

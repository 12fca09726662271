package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReadyFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ready.json")
	r := Ready{Inbound: "http://127.0.0.1:1", Metrics: "http://127.0.0.1:2/metrics", PIDs: PIDs{App: 1, Control: 2, Envoy: 3}}
	noError(t, writeReady(path, r))
	text, err := os.ReadFile(path)
	noError(t, err)
	var got map[string]any
	noError(t, json.Unmarshal(text, &got))
	want := map[string]any{
		"api": "", "mesh": "", "inbound": "http://127.0.0.1:1", "outbound": "", "metrics": "http://127.0.0.1:2/metrics",
		"pids": map[string]any{"app": 1.0, "llm": 0.0, "control": 2.0, "sidecar": 0.0, "envoy": 3.0, "gatehouse": 0.0},
		"data": "", "policies": "", "app": "", "app_counters": "", "llm": "", "llm_ledger": "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ready file: -want +got\n%s", diff)
	}
	if r.Debug() != "http://127.0.0.1:2" {
		t.Errorf("Debug = %s", r.Debug())
	}
	noError(t, removeReady(path))
	noError(t, removeReady(path))
	noError(t, removeReady(""))
	wantError(t, removeReady(filepath.Join(t.TempDir(), "none", "ready.json")), "--ready-file", "no folder")
	wantError(t, writeReady(filepath.Join(t.TempDir(), "none", "ready.json"), r), "--ready-file")
}

func TestPoll(t *testing.T) {
	t.Parallel()
	missing := errors.New("something is missing")
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		noError(t, poll(t.Context(), nil, func(context.Context) error {
			if looks++; looks < 3 {
				return missing
			}
			return nil
		}))
		if looks != 3 {
			t.Errorf("%d looks, want 3", looks)
		}
		never := func(context.Context) error { return missing }
		died := make(chan struct{})
		close(died)
		if err := poll(t.Context(), died, never); !errors.Is(err, errDied) {
			t.Errorf("a child died: %v", err)
		}
		late := errors.New("too late")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, late)
		defer cancel()
		if err := poll(ctx, nil, never); !errors.Is(err, late) || !errors.Is(err, missing) {
			t.Errorf("time is up: %v, want both causes", err)
		}
	})
}

func TestServing(t *testing.T) {
	t.Parallel()
	ready, loaded := http.StatusServiceUnavailable, `{}`
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(loaded)) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(ready)
		_, _ = w.Write([]byte("Envoy is not connected"))
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	address := strings.TrimPrefix(srv.URL, "http://")
	u := unit{number: 1, inbound: address, outbound: address, debug: address}
	look := serving(u)
	wantError(t, look(t.Context()), "has not heard control")
	const heard = `"control": {"connected": true, "confirmed": "2026-01-02T03:04:05Z"}`
	loaded = `{"control": {"connected": true}}`
	wantError(t, look(t.Context()), "has not heard control")
	loaded = "{" + heard + "}"
	wantError(t, look(t.Context()), "not ready", "Envoy is not connected")
	ready = http.StatusOK
	noError(t, look(t.Context()))
	loaded = `{"revision": "before", "loaded": {"error": "authz.rego:1:1: no"}, ` + heard + "}"
	// No tick and no end of time: a refused set is not waited for.
	err := poll(t.Context(), nil, look)
	wantError(t, err, "is refused", "authz.rego:1:1: no")
	if !errors.Is(err, errRefused) {
		t.Errorf("%v is not errRefused", err)
	}
	loaded = "no JSON"
	wantError(t, look(t.Context()), "status")
	loaded = "{" + heard + "}"
	closed, err := listenLoopback(0)
	noError(t, err)
	noError(t, closed.Close())
	for _, spoil := range []func(*unit){
		func(u *unit) { u.inbound = closed.Addr().String() }, func(u *unit) { u.outbound = closed.Addr().String() },
		func(u *unit) { u.debug = closed.Addr().String() },
	} {
		bad := u
		spoil(&bad)
		wantError(t, serving(bad)(t.Context()), "refused")
	}
}

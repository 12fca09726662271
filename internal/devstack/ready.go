package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gatehouse/internal/wholefile"
)

const (
	// readyTimeout bounds a start, the cold one of a slow machine.
	readyTimeout = 60 * time.Second
	// pollInterval is how often is looked whether the next thing is there.
	pollInterval = 10 * time.Millisecond
	// probeTimeout bounds one look.
	probeTimeout = time.Second
	maxProbeBody = 1 << 20
)

// Ready says what runs where, for people and for programs.
type Ready struct {
	API         string `json:"api"`  // control's
	Mesh        string `json:"mesh"` // host:port of control's service for sidecars
	Inbound     string `json:"inbound"`
	Outbound    string `json:"outbound"`
	Metrics     string `json:"metrics"`
	PIDs        PIDs   `json:"pids"`
	Data        string `json:"data"`
	Policies    string `json:"policies"`
	App         string `json:"app"`
	AppCounters string `json:"app_counters"`
	LLM         string `json:"llm"`             // a provider of language models
	LLMLedger   string `json:"llm_ledger"`      // what it has counted
	Peers       []Peer `json:"peers,omitempty"` // further sidecars
}

// Peer is a further sidecar with its Envoy.
type Peer struct {
	Inbound  string `json:"inbound"`
	Outbound string `json:"outbound"`
	Metrics  string `json:"metrics"`
	Sidecar  int    `json:"sidecar"` // process id
	Envoy    int    `json:"envoy"`   // process id
}

func (u unit) ready() Peer {
	return Peer{Inbound: "http://" + u.inbound, Outbound: "http://" + u.outbound, Metrics: "http://" + u.debug + "/metrics"}
}

// PIDs are the processes of a stack.
type PIDs struct {
	App       int `json:"app"`
	LLM       int `json:"llm"`
	Control   int `json:"control"`
	Postgres  int `json:"postgres,omitzero"` // 0: it is another's
	Sidecar   int `json:"sidecar"`
	Envoy     int `json:"envoy"`
	Gatehouse int `json:"gatehouse"`
}

// Debug is the base URL of the sidecar's debug listener.
func (r Ready) Debug() string { return strings.TrimSuffix(r.Metrics, "/metrics") }

func writeReady(path string, r Ready) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = wholefile.Replace(path, append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("--ready-file: %w", err)
	}
	return nil
}

// removeReady makes sure that nobody takes an earlier stack for this one.
func removeReady(path string) error {
	if path == "" {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("--ready-file: %w", err)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return fmt.Errorf("--ready-file: %s is no folder", filepath.Dir(path))
	}
	return nil
}

// errDied ends a wait for something that a dead child can't do any more.
var errDied = errors.New("a child ended before all was ready")

// errRefused ends a wait for a policy set that control or the sidecar does not take.
var errRefused = errors.New("the policy set is refused")

// poll looks until there is nothing missing. Its error is ctx's, with what is
// still missing, or errDied, or errRefused.
func poll(ctx context.Context, died <-chan struct{}, missing func(context.Context) error) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := missing(ctx)
		if err == nil || errors.Is(err, errRefused) {
			return err
		}
		select {
		case <-died:
			return errDied
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

func exists(path string) func(context.Context) error {
	return func(context.Context) error {
		_, err := os.Stat(path)
		return err
	}
}

func probe(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxProbeBody))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s is not ready: %s", url, strings.TrimSpace(string(text)))
	}
	return text, err
}

func connects(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{Timeout: probeTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

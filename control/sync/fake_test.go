package sync

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/mesh"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/revision"
)

var errAway = errors.New("the database is away")

// world is all that a Server depends on, in memory. Its fields are set before
// the server runs, or by its methods.
type world struct {
	key    ed25519.PrivateKey
	public ed25519.PublicKey

	mu        sync.Mutex // guards all below
	away      map[string]bool
	calls     map[string]int
	sidecars  map[string]mesh.Sidecar // by secret
	reports   map[string]mesh.Report
	live      mesh.Live
	keySet    string
	active    map[string]mesh.Activated
	connected map[string]int
	listeners map[chan string]bool
	stored    map[string][]string // records by sidecar
	refused   int
	result    ratelimit.Result
	binds     int
	asked     []ratelimit.Ask
	hold      chan struct{} // what Authenticate, Store and Take wait for; nil for nothing
	busy      int           // how many wait
	busiest   int
}

func newWorld(t testing.TB) *world {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &world{
		key: key, public: public, away: map[string]bool{}, calls: map[string]int{}, sidecars: map[string]mesh.Sidecar{},
		reports: map[string]mesh.Report{}, live: mesh.Live{Epoch: 1}, keySet: `{"keys":[]}`, active: map[string]mesh.Activated{},
		connected: map[string]int{}, listeners: map[chan string]bool{}, stored: map[string][]string{},
		result: ratelimit.Result{Allowed: true},
	}
}

func (w *world) options() Options {
	return Options{Registry: w, Source: w, Records: w, Rates: w, KeySet: w.KeySet, Log: slog.New(slog.DiscardHandler)}
}

// ask counts a call and says whether it is answered.
func (w *world) ask(ctx context.Context, what string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls[what]++
	if w.away[what] || w.away["all"] {
		return errAway
	}
	return ctx.Err()
}

func (w *world) wait(ctx context.Context) error {
	w.mu.Lock()
	hold := w.hold
	w.busy++
	w.busiest = max(w.busiest, w.busy)
	w.mu.Unlock()
	defer w.do(func() { w.busy-- })
	if hold == nil {
		return nil
	}
	select {
	case <-hold:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// do changes the world.
func (w *world) do(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// change does so and tells all who listen.
func (w *world) change(what string, change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	for l := range w.listeners {
		select {
		case l <- what:
		default:
		}
	}
}

func (w *world) called(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[what]
}

// register adds a sidecar whose id and secret follow from its name.
func (w *world) register(s mesh.Sidecar) mesh.Sidecar {
	s.ID, s.Version = "id-"+s.Name, 1
	w.change(ChangedSidecars, func() { w.sidecars[secretOf(s.Name)] = s })
	return s
}

func secretOf(name string) string { return "ghs_" + name }

// activate puts a revision in force, whose content is a text.
func (w *world) activate(t testing.TB, set, text string) revision.Activation {
	t.Helper()
	files := revision.Files{revision.ConfigFile: []byte(text)}
	bundle, err := revision.Encode(files)
	if err != nil {
		t.Fatal(err)
	}
	var a revision.Activation
	w.change("policy_activations", func() {
		a = revision.Activation{
			PolicySet: set, Generation: w.active[set].Generation + 1, Revision: revision.ID(files), Kind: revision.Activate,
		}
		w.active[set] = mesh.Activated{Signed: a.Sign("k1", w.key), Bundle: bundle}
	})
	return a
}

func (w *world) Authenticate(ctx context.Context, secret string) (mesh.Sidecar, error) {
	if err := w.ask(ctx, "Authenticate"); err != nil {
		return mesh.Sidecar{}, err
	}
	if err := w.wait(ctx); err != nil {
		return mesh.Sidecar{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.sidecars[secret]
	if !ok || s.Revoked {
		return mesh.Sidecar{}, mesh.ErrUnknown
	}
	return s, nil
}

func (w *world) Versions(ctx context.Context, ids []string) (map[string]int64, error) {
	if err := w.ask(ctx, "Versions"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]int64{}
	for _, id := range ids {
		if s, ok := w.sidecars[secretOf(strings.TrimPrefix(id, "id-"))]; ok && !s.Revoked {
			out[id] = s.Version
		}
	}
	return out, nil
}

func (w *world) Report(ctx context.Context, reports map[string]mesh.Report) error {
	if err := w.ask(ctx, "Report"); err != nil {
		return err
	}
	w.do(func() { maps.Copy(w.reports, reports) })
	return nil
}

func (w *world) reported(id string) mesh.Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reports[id]
}

func (w *world) Connected(ctx context.Context, _ time.Duration) (map[string]int, error) {
	if err := w.ask(ctx, "Connected"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.connected), nil
}

func (w *world) Epoch(ctx context.Context) (int64, error) {
	err := w.ask(ctx, "Epoch")
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.live.Epoch, err
}

func (w *world) Live(ctx context.Context) (mesh.Live, error) {
	err := w.ask(ctx, "Live")
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.live, err
}

func (w *world) KeySet(ctx context.Context) ([]byte, error) {
	err := w.ask(ctx, "KeySet")
	w.mu.Lock()
	defer w.mu.Unlock()
	return []byte(w.keySet), err
}

func (w *world) Generations(ctx context.Context) (map[string]int64, error) {
	if err := w.ask(ctx, "Generations"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]int64{}
	for set, a := range w.active {
		out[set] = a.Generation
	}
	return out, nil
}

func (w *world) Active(ctx context.Context, set string) (mesh.Activated, error) {
	err := w.ask(ctx, "Active "+set)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.active[set], err
}

func (w *world) Listen(ctx context.Context, changed func(what string)) error {
	if err := w.ask(ctx, "Listen"); err != nil {
		return err
	}
	line := make(chan string, 100)
	w.do(func() { w.listeners[line] = true })
	defer w.do(func() { delete(w.listeners, line) })
	changed(ChangedAll)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case what, ok := <-line:
			if !ok {
				return errAway
			}
			changed(what)
		}
	}
}

// cut ends all lines, as a database does that goes away.
func (w *world) cut() {
	w.do(func() {
		for l := range w.listeners {
			close(l)
		}
		clear(w.listeners)
	})
}

func (w *world) Store(ctx context.Context, s mesh.Sidecar, records [][]byte) (int, error) {
	if err := w.ask(ctx, "Store"); err != nil {
		return 0, err
	}
	if err := w.wait(ctx); err != nil {
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range records {
		w.stored[s.ID] = append(w.stored[s.ID], string(r))
	}
	return w.refused, nil
}

func (w *world) Take(ctx context.Context, set string, asks []ratelimit.Ask) (ratelimit.Result, int, error) {
	if err := w.ask(ctx, "Take "+set); err != nil {
		return ratelimit.Result{}, 0, err
	}
	if err := w.wait(ctx); err != nil {
		return ratelimit.Result{}, 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = asks
	return w.result, w.binds, nil
}

// fakeID is the id of some revision.
func fakeID(n int) string {
	s := strconv.FormatInt(int64(n), 16)
	return strings.Repeat("0", revisionBytes-len(s)) + s
}

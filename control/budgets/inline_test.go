package budgets

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/budget"
	"gatehouse/budget/memory"
	"gatehouse/internal/deadletter"
	"gatehouse/internal/request"
)

// Two sidecars.
const (
	ada  = "00000000-0000-4000-8000-00000000000a"
	bert = "00000000-0000-4000-8000-00000000000b"
)

// pile keeps dead letters, one of each place.
type pile struct {
	mu      sync.Mutex // guards all below
	err     error
	letters map[string]deadletter.Letter
	adds    int
}

func (p *pile) Add(_ context.Context, l deadletter.Letter) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.adds++; p.err != nil {
		return p.err
	}
	if err := l.Check(); err != nil {
		return err
	}
	if p.letters == nil {
		p.letters = map[string]deadletter.Letter{}
	}
	if _, there := p.letters[l.Source+l.MessageID]; !there {
		p.letters[l.Source+l.MessageID] = l
	}
	return nil
}

// kinds are those of all letters, with their payload's action and tokens.
func (p *pile) kinds(t *testing.T) (out []string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.letters {
		var u undelivered
		if err := json.Unmarshal(l.Payload, &u); err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s: %s %s %d of %s is %s", l.Tenant, l.Kind, u.Action, u.Tokens, u.RequestID, u.State))
	}
	slices.Sort(out)
	return out
}

// inline is an Inline over a store in memory, with a limit of 100 tokens.
type inline struct {
	t     *testing.T
	now   time.Time
	store *memory.Store
	pile  pile
	log   told
	*Inline
}

func newInline(t *testing.T) *inline {
	t.Helper()
	l := &inline{t: t, now: began}
	l.store = memory.New(func() time.Time { return l.now })
	l.Inline = inlineOf(t, InlineOptions{Ledger: l.store, Letters: &l.pile, Log: slog.New(slog.NewTextHandler(&l.log, nil))})
	if _, err := l.store.CreateLimit(t.Context(), request.Principal{}, budget.Limit{Tenant: "org1", Window: budget.Day, Zone: "UTC", Tokens: 100}); err != nil {
		t.Fatal(err)
	}
	return l
}

func inlineOf(t *testing.T, o InlineOptions) *Inline {
	t.Helper()
	l, err := NewInline(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Stop)
	return l
}

func key(id string) budget.Key { return budget.Key{Origin: budget.Inline, ID: id, Attempt: 1} }

func holdOf(id string, tokens, incarnation int64) budget.Hold {
	return budget.Hold{Key: key(id), Tokens: tokens, TTL: time.Hour, Sidecar: ada, Incarnation: incarnation}
}

func (l *inline) hold(id string, tokens, incarnation int64) budget.Verdict {
	l.t.Helper()
	a, err := l.Reserve(l.t.Context(), "org1", holdOf(id, tokens, incarnation))
	if err != nil {
		l.t.Fatal(err)
	}
	return a.Verdict
}

func (l *inline) say(id string, a budget.Action, tokens int64, sidecar string) budget.Outcome {
	l.t.Helper()
	r, err := l.Settle(l.t.Context(), "org1", budget.Settlement{Key: key(id), Action: a, Tokens: tokens, Sidecar: sidecar})
	if err != nil {
		l.t.Fatal(err)
	}
	return r.Outcome
}

func (l *inline) state(id string) budget.State {
	l.t.Helper()
	r, err := l.store.Request(l.t.Context(), "org1", key(id))
	if err != nil {
		l.t.Fatal(err)
	}
	return r.State
}

func TestNewInlineNeeds(t *testing.T) {
	t.Parallel()
	for _, o := range []InlineOptions{{Ledger: memory.New(time.Now)}, {Letters: &pile{}}} {
		if l, err := NewInline(o); err == nil || l != nil {
			t.Errorf("got %v and %v", l, err)
		}
	}
}

// TestWhatBecomesADeadLetter: what is refused for good, and once; not what is
// done, said again, or refused to who acts on it.
func TestWhatBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	type word struct {
		id      string
		action  budget.Action
		tokens  int64
		sidecar string
		want    budget.Outcome
	}
	for name, tt := range map[string]struct {
		words []word
		want  []string
	}{
		"done":                  {[]word{{"held", budget.Commit, 5, ada, budget.Done}}, nil},
		"said again":            {[]word{{"held", budget.Commit, 5, ada, budget.Done}, {"held", budget.Commit, 5, ada, budget.AlreadyCommitted}}, nil},
		"of nothing":            {[]word{{"new", budget.Release, 0, ada, budget.Done}, {"new", budget.Release, 0, ada, budget.AlreadyReleased}}, nil},
		"a denied one released": {[]word{{"denied", budget.Release, 0, ada, budget.NeverHeld}}, nil},
		"a top-up":              {[]word{{"held", budget.TopUp, 1000, ada, budget.NoRoom}, {"denied", budget.TopUp, 5, ada, budget.NeverHeld}}, nil},
		"a denied one used":     {[]word{{"denied", budget.Commit, 7, ada, budget.NeverHeld}}, []string{"org1: denied commit 7 of denied is denied"}},
		"one never seen used":   {[]word{{"new", budget.Commit, 7, ada, budget.NotFound}}, []string{"org1: not_found commit 7 of new is "}},
		"another word": {
			[]word{{"held", budget.Commit, 5, ada, budget.Done}, {"held", budget.Commit, 6, ada, budget.AlreadyCommitted}, {"held", budget.Release, 0, ada, budget.AlreadyCommitted}},
			[]string{"org1: already_committed commit 6 of held is committed"},
		},
		"another's": {
			[]word{{"held", budget.Release, 0, bert, budget.NotFound}, {"held", budget.Release, 0, ada, budget.Done}, {"held", budget.Commit, 1, ada, budget.AlreadyReleased}},
			[]string{"org1: already_released commit 1 of held is released", "org1: not_found release 0 of held is "},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newInline(t)
			if l.hold("held", 10, 1) != budget.Held || l.hold("denied", 1000, 1) != budget.Refused {
				t.Fatal("the ledger is not as wanted")
			}
			for round := range 2 { // as after lost answers
				for _, w := range tt.words {
					if got := l.say(w.id, w.action, w.tokens, w.sidecar); got != w.want && round == 0 {
						t.Errorf("%s %s: %s, want %s", w.action, w.id, got, w.want)
					}
				}
			}
			if diff := cmp.Diff(tt.want, l.pile.kinds(t)); diff != "" {
				t.Errorf("letters (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNoAnswerBeforeTheLetter: a settlement whose letter can't be kept now is to
// be sent again; one whose letter never can is told.
func TestNoAnswerBeforeTheLetter(t *testing.T) {
	t.Parallel()
	l := newInline(t)
	s := budget.Settlement{Key: key("new"), Action: budget.Commit, Tokens: 1, Sidecar: ada}
	l.pile.err = errors.New("away")
	if r, err := l.Settle(t.Context(), "org1", s); !errors.Is(err, budget.ErrUnavailable) {
		t.Errorf("%+v, %v", r, err)
	}
	if err := l.Bury(t.Context(), "org1", "org2", s, "forbidden"); !errors.Is(err, budget.ErrUnavailable) {
		t.Errorf("bury: %v", err)
	}
	l.pile.err = fmt.Errorf("%w: no such tenant", deadletter.ErrInvalid)
	if r, err := l.Settle(t.Context(), "org1", s); err != nil || r.Outcome != budget.NotFound {
		t.Errorf("%+v, %v", r, err)
	}
	if said := l.log.take(); !strings.Contains(said, "can't be kept as a dead letter") {
		t.Errorf("the log says %s", said)
	}
	l.pile.err = nil
	if err := l.Bury(t.Context(), "org1", "org2", s, "forbidden"); err != nil {
		t.Fatal(err)
	}
	for _, d := range l.pile.letters {
		if d.Tenant != "org1" || !bytes.Contains(d.Payload, []byte(`"tenant_id":"org2"`)) || d.Kind != "forbidden" {
			t.Errorf("the letter is %+v", d)
		}
	}
}

func TestLetterID(t *testing.T) {
	t.Parallel()
	s := budget.Settlement{Key: budget.Key{Origin: budget.Inline, ID: "a", Attempt: 1}, Sidecar: ada}
	seen := map[string]string{letterID("t", s): "itself"}
	other := func(name, tenant string, change func(*budget.Settlement)) {
		o := s
		change(&o)
		id := letterID(tenant, o)
		if was, known := seen[id]; known {
			t.Errorf("%s is the letter of %s", name, was)
		}
		if len(id) > 255 {
			t.Errorf("%s: %d bytes", name, len(id))
		}
		seen[id] = name
	}
	other("another tenant", "u", func(*budget.Settlement) {})
	other("another sidecar", "t", func(o *budget.Settlement) { o.Sidecar = bert })
	other("another request", "t", func(o *budget.Settlement) { o.ID = "b" })
	other("another attempt", "t", func(o *budget.Settlement) { o.Attempt = 2 })
	other("a border", "ta", func(o *budget.Settlement) { o.ID = "" })
	again := s
	again.Action, again.Tokens = budget.Commit, 9
	if seen[letterID("t", again)] != "itself" {
		t.Error("what is said of one request has several letters")
	}
}

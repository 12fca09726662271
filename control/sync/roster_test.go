package sync

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"gatehouse/internal/mesh"
)

func memberOf(s mesh.Sidecar, incarnation int64) *member {
	return newMember(caller{credential{secret: s.Name, hash: hash{s.Name[0]}}, s}, incarnation)
}

func sidecarNo(n int) mesh.Sidecar {
	return mesh.Sidecar{ID: "id-" + strconv.Itoa(n), Name: strconv.Itoa(n), PolicySet: "p", Version: 1}
}

func TestRosterKeepsTheLaterProcess(t *testing.T) {
	t.Parallel()
	r := newRoster(newWorld(t), nil)
	s := sidecarNo(1)
	first, later, older := memberOf(s, 2), memberOf(s, 3), memberOf(s, 1)
	for _, m := range []*member{first, later} {
		if err := r.join(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.join(older); err != errOlder {
		t.Errorf("an older one: %v", err)
	}
	if c := first.cause.Load(); c == nil || *c != errSuperseded {
		t.Error("the first is not ended")
	}
	r.leave(first)
	r.leave(older)
	if all := r.all(); len(all) != 1 || all[0] != later {
		t.Errorf("%d members, want the later process alone", len(all))
	}
	if _, ok := r.known(later.hash, time.Time{}); !ok {
		t.Error("the later process is not known by its credential")
	}
	later.end(errUnknown)
	if _, ok := r.known(later.hash, time.Time{}); ok {
		t.Error("it is known when its registration has ended")
	}
	r.leave(later)
	if _, ok := r.known(later.hash, time.Time{}); ok || len(r.all()) != 0 {
		t.Error("it is known after it left")
	}
}

func TestRosterRenews(t *testing.T) {
	t.Parallel()
	renewed := sidecarNo(1)
	renewed.Version, renewed.PolicySet = 2, "q"
	for _, tt := range []struct {
		name  string
		s     mesh.Sidecar
		err   error
		fails bool
		cause error
		set   string
	}{
		{"it changed", renewed, nil, false, nil, "q"},
		{"the credential is another's now", sidecarNo(2), nil, false, errUnknown, "p"},
		{"the credential was replaced", mesh.Sidecar{}, mesh.ErrUnknown, false, errUnknown, "p"},
		{"nobody knows", mesh.Sidecar{}, errAway, true, nil, "p"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRoster(newWorld(t), func(context.Context, string) (mesh.Sidecar, error) { return tt.s, tt.err })
			m := memberOf(sidecarNo(1), 1)
			if err := r.renew(t.Context(), m); (err != nil) != tt.fails {
				t.Errorf("error %v", err)
			}
			var cause error
			if c := m.cause.Load(); c != nil {
				cause = *c
			}
			if !errors.Is(cause, tt.cause) {
				t.Errorf("it ends with %v, want %v", cause, tt.cause)
			}
			if got := m.registration.Load().PolicySet; got != tt.set {
				t.Errorf("its set is %s, want %s", got, tt.set)
			}
		})
	}
}

func TestRosterCountsTheWholeMesh(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.connected = map[string]int{"p": 3, "q": 9}
	r := newRoster(w, nil)
	for i := range 5 {
		s := sidecarNo(i)
		if i == 4 {
			s.PolicySet = "q"
		}
		w.sidecars[secretOf(s.Name)] = s
		if err := r.join(memberOf(s, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.review(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	got := r.connected(r.wanted())
	if got["p"] != 4 || got["q"] != 9 {
		t.Errorf("connected %v, want the larger of what is here and what is reported", got)
	}
}

func TestReportsKeepTheNewest(t *testing.T) {
	t.Parallel()
	r := newReports(newWorld(t), slog.New(slog.DiscardHandler))
	at := func(incarnation int64, second int) mesh.Report {
		return mesh.Report{Incarnation: incarnation, At: start.Add(time.Duration(second) * time.Second)}
	}
	for _, tt := range []struct {
		name      string
		put, want mesh.Report
	}{
		{"the first", at(2, 5), at(2, 5)},
		{"a later one", at(2, 6), at(2, 6)},
		{"an earlier one", at(2, 4), at(2, 6)},
		{"a later one of an older process", at(1, 9), at(2, 6)},
		{"an earlier one of a later process", at(3, 1), at(3, 1)},
	} {
		r.put("a", tt.put)
		if got := r.pending["a"]; got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
	for i := range maxReports {
		r.put(strconv.Itoa(i), at(1, 1))
	}
	r.put("a", at(3, 2))
	if len(r.pending) != maxReports || r.pending["a"] != at(3, 2) {
		t.Errorf("%d wait, want %d, and those that wait replaced", len(r.pending), maxReports)
	}
}

func TestPresented(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("a", maxCredential-len("Bearer "))
	for _, tt := range []struct {
		values []string
		want   string
	}{
		{[]string{"Bearer ghs_x"}, "ghs_x"},
		{[]string{"bearer ghs_x"}, "ghs_x"},
		{[]string{"Bearer " + longest}, longest},
		{[]string{"Bearer a" + longest}, ""},
		{[]string{"Bearer ghs_x "}, ""},
		{nil, ""},
	} {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.MD{"authorization": tt.values})
		c, err := presented(ctx)
		if c.secret != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%.40q: %.40q, %v", tt.values, c.secret, err)
		}
	}
	if _, err := presented(t.Context()); err != errNoCredential {
		t.Errorf("without metadata: %v", err)
	}
}

func TestCallersAreRememberedBounded(t *testing.T) {
	t.Parallel()
	d := newDoor(newWorld(t))
	no := func(n int) caller { return caller{credential: credential{hash: hash{byte(n), byte(n >> 8)}}} }
	for i := range maxRecent {
		d.remember(no(i), start)
	}
	later := start.Add(recentFor + 1)
	d.remember(no(maxRecent), later)
	if len(d.recent) != 1 {
		t.Errorf("%d are remembered, want those alone that came lately", len(d.recent))
	}
	for i := range maxRecent {
		d.remember(no(i), later)
	}
	if len(d.recent) > maxRecent {
		t.Errorf("%d are remembered, want at most %d", len(d.recent), maxRecent)
	}
}

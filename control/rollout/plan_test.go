package rollout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
	"gatehouse/internal/revision"
)

func admin() request.Principal {
	return request.Principal{Kind: request.KindToken, Subject: "ada", Tenant: request.AnyTenant, Role: request.RoleAdmin}
}

// reason is the code of an error and its reason, "" for none.
func reason(err error) string {
	if err == nil {
		return ""
	}
	e := apierr.From(answer(err))
	_, rest, found := strings.Cut(string(e.Body("")), `"reason":"`)
	if !found {
		return string(e.Code())
	}
	text, _, _ := strings.Cut(rest, `"`)
	return string(e.Code()) + " " + text
}

func TestPlan(t *testing.T) {
	t.Parallel()
	a := &revision.Activation{PolicySet: "set", Generation: 3, Revision: "a", Kind: revision.Activate}
	b := &Stored{Revision: mesh.Revision{PolicySet: "set", ID: "b"}}
	same := &Stored{Revision: mesh.Revision{PolicySet: "set", ID: "a"}}
	up := func(g int64, k revision.Kind) *revision.Activation {
		return &revision.Activation{PolicySet: "set", Generation: g, Revision: "b", Kind: k}
	}
	for _, tt := range []struct {
		name string
		move move
		st   Standing
		want *revision.Activation
		err  string
	}{
		{"first", move{revision.Activate, "b", 0}, Standing{Version: 1, Target: b}, up(1, revision.Activate), ""},
		{"first, with sidecars ahead", move{revision.Activate, "b", 1}, Standing{Version: 1, Highest: 9, Target: b}, up(10, revision.Activate), ""},
		{"next", move{revision.Activate, "b", 7}, Standing{Version: 7, Active: a, Highest: 3, Target: b}, up(4, revision.Activate), ""},
		{"back", move{revision.Rollback, "b", 0}, Standing{Version: 7, Active: a, Highest: 3, Target: b, Before: true}, up(4, revision.Rollback), ""},
		{"back to the one before", move{revision.Rollback, "", 0}, Standing{Version: 7, Active: a, Highest: 3, Target: b, Before: true}, up(4, revision.Rollback), ""},
		{"in force", move{revision.Activate, "a", 7}, Standing{Version: 7, Active: a, Highest: 3, Target: same, Before: true}, nil, ""},
		{"in force, back", move{revision.Rollback, "a", 0}, Standing{Version: 7, Active: a, Highest: 3, Target: same, Before: true}, nil, ""},
		{"in force, of an old version", move{revision.Activate, "a", 6}, Standing{Version: 7, Active: a, Target: same}, nil, "state.precondition_failed"},
		{"old version", move{revision.Activate, "b", 6}, Standing{Version: 7, Active: a, Target: b}, nil, "state.precondition_failed"},
		{"no such revision", move{revision.Activate, "b", 0}, Standing{Version: 7, Active: a}, nil, "resource.not_found"},
		{"back to no such revision", move{revision.Rollback, "b", 0}, Standing{Version: 7, Active: a}, nil, "resource.not_found"},
		{"was in force", move{revision.Activate, "b", 0}, Standing{Version: 7, Active: a, Target: b, Before: true}, nil, "state.conflict use_rollback"},
		{"never in force", move{revision.Rollback, "b", 0}, Standing{Version: 7, Active: a, Target: b}, nil, "state.conflict never_in_force"},
		{"nothing before", move{revision.Rollback, "", 0}, Standing{Version: 7, Active: a}, nil, "state.conflict nothing_before"},
		{"nothing at all", move{revision.Rollback, "", 0}, Standing{Version: 7}, nil, "state.conflict nothing_before"},
	} {
		got, err := tt.move.plan("set", tt.st)
		if diff := cmp.Diff(tt.want, got); diff != "" || reason(err) != tt.err {
			t.Errorf("%s: got error %q, want %q; activation (-want +got):\n%s", tt.name, reason(err), tt.err, diff)
		}
	}
}

// TestNamesThatCanBeNone never reach the store, which would panic here.
func TestNamesThatCanBeNone(t *testing.T) {
	t.Parallel()
	s, err := New(Options{Store: struct{ Store }{}, Box: box(t, "s", "")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, id := t.Context(), strings.Repeat("a", idLen)
	for name, call := range map[string]func(set, id string) error{
		"get":       func(set, id string) error { _, err := s.Revision(ctx, set, id); return err },
		"activate":  func(set, id string) error { _, err := s.ActivateRevision(ctx, admin(), set, id, 0); return err },
		"roll back": func(set, id string) error { _, err := s.Rollback(ctx, admin(), set, id, 0); return err },
	} {
		for _, tt := range [][2]string{{"Set", id}, {"", id}, {"set\x00", id}, {"set\n", id}, {strings.Repeat("s", 64), id}, {"set", "aaaaaaa"}, {"set", id + "a"}, {"set", strings.ToUpper(id)}, {"set", "zzzzzzzz"}} {
			if got := reason(call(tt[0], tt[1])); got != "resource.not_found" {
				t.Errorf("%s of %q in %.70q: got %s", name, tt[1], tt[0], got)
			}
		}
	}
	_, err = s.Rollback(ctx, admin(), "Set", "", 0)
	_, err2 := s.PolicySet(ctx, "Set")
	_, err3 := s.Revisions(ctx, "Set", "", 1)
	_, err4 := s.ActivateRevision(ctx, admin(), "set", "", 0)
	for i, err := range []error{err, err2, err3, err4} {
		if reason(err) != "resource.not_found" {
			t.Errorf("call %d: got %v", i, err)
		}
	}
	_, err = s.PolicySets(ctx, "Set", 1)
	if reason(err) != "validation.invalid" {
		t.Errorf("a position that is no name: got %v", err)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want string
		http int
	}{
		{ErrNotFound, "resource.not_found", 404},
		{ErrAmbiguous, "state.conflict ambiguous", 409},
		{ErrPosition, "validation.invalid", 422},
		{errBusy, "policy.unavailable", 503},
		{fmt.Errorf("x: %w", ErrUnavailable), "internal.error", 503},
		{fmt.Errorf("x: %w", errSealed), "internal.error", 503},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), "internal.error", 503},
		{context.Canceled, "internal.error", 503},
		{errors.New("broken"), "internal.error", 500},
		{fmt.Errorf("x: %w", apierr.Conflict("mine", nil)), "state.conflict mine", 409},
	} {
		if e := apierr.From(answer(tt.err)); reason(tt.err) != tt.want || e.HTTP() != tt.http {
			t.Errorf("%v: got %s and %d, want %s and %d", tt.err, reason(tt.err), e.HTTP(), tt.want, tt.http)
		}
	}
	if err := answer(nil); err != nil {
		t.Errorf("no error: got %v", err)
	}
}

func TestNewNeeds(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{"store": {Box: box(t, "s", "")}, "box": {Store: noStore{}}} {
		if _, err := New(o); err == nil {
			t.Errorf("made without a %s", name)
		}
	}
	if _, err := New(Options{Store: noStore{}, Box: box(t, "s", ""), Log: slog.New(slog.NewTextHandler(io.Discard, nil))}); err != nil {
		t.Error(err)
	}
}

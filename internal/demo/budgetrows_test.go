package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestQuotaIsFinal(t *testing.T) {
	t.Parallel()
	header := func(value string) http.Header { return http.Header{"X-Should-Retry": {value}} }
	const text = "insufficient_quota: 5 tokens are needed"
	for _, tt := range []struct {
		a    answer
		want []string
	}{
		{answer{text: text, header: header("false")}, nil},
		{answer{text: text, header: header("true")}, []string{`x-should-retry is "true"`}},
		{answer{text: "insufficient_quota", header: http.Header{}}, []string{"tokens are needed", `x-should-retry is ""`}},
	} {
		wantFault(t, fmt.Sprint(tt.a.header), outcome{fault: finalQuota(tt.a)}, tt.want...)
	}
}

// A limit of the demo's own is gone however its rows end.
func TestOwnLimitIsDropped(t *testing.T) {
	t.Parallel()
	enough := errors.New("enough")
	for _, tt := range []struct {
		what string
		do   func(*unguarded) error
		want string
	}{
		{"spent", func(u *unguarded) error {
			u.settles(500, 103)
			if _, err := spend(t.Context(), u.probe); err != nil {
				return err
			}
			_, err := ownLimit(func(context.Context, *probe) (answer, error) { return answer{}, enough })(t.Context(), u.probe)
			return err
		}, "enough"},
		{"the first call is refused", func(u *unguarded) error {
			u.refuse = &reaction{503, `{"error": {"error_code": "budget.unavailable"}}`}
			_, err := spend(t.Context(), u.probe)
			return err
		}, "answered 503 budget.unavailable"},
		{"nothing takes off", func(u *unguarded) error {
			u.refuse = &reaction{503, `{"error": {"error_code": "budget.unavailable"}}`}
			_, err := lowerInFlight(t.Context(), u.probe)
			return err
		}, "answered 503 budget.unavailable"},
		{"lowered, and not so", func(u *unguarded) error {
			u.usage([6]any{limitID, 300, 300, 0, 300, 0})
			_, err := lowerInFlight(t.Context(), u.probe)
			return err
		}, "expected limit 300 below ceiling"},
	} {
		u := newUnguarded(t)
		u.makesLimits()
		wantFault(t, tt.what, outcome{fault: tt.do(u)}, tt.want)
		if last := u.asked[len(u.asked)-1]; last != "DELETE "+limitsPath+"/"+limitID || u.limit != "" {
			t.Errorf("%s: the last that control was asked is %s", tt.what, last)
		}
	}
}

func TestLoweredInFlight(t *testing.T) {
	t.Parallel()
	u := newUnguarded(t)
	u.makesLimits()
	u.usage([6]any{"other", 1000, 1000, 0, 531, 469}, [6]any{limitID, 300, 531, 0, 531, 0})
	note, err := lowerInFlight(t.Context(), u.probe)
	noError(t, err)
	if note != "limit 300, ceiling 531, used 0, reserved 531, available 0" {
		t.Errorf("note is %q", note)
	}
	a, err := budgetState(t.Context(), u.probe)
	if err != nil || a.note != "limit 1000, ceiling 1000, used 0, reserved 531, available 469" {
		t.Errorf("state %q, %v", a.note, err)
	}
	_ = u.flight.Body.Close()
	want := []string{"POST " + limitsPath, "PATCH " + limitsPath + "/" + limitID, "GET " + statePath, "GET " + statePath}
	if diff := cmp.Diff(want, u.asked); diff != "" {
		t.Errorf("control was asked: -want +got\n%s", diff)
	}
}

func TestStatesThatDoNotAddUpAreSeen(t *testing.T) {
	t.Parallel()
	u := newUnguarded(t)
	u.limit = limitID
	lowered := [6]any{limitID, 300, 531, 0, 531, 0}
	for _, tt := range []struct {
		limits [][6]any
		want   string
	}{
		{[][6]any{lowered}, "has no limit"},
		{[][6]any{lowered, {"other", 1000, 1000, 0, 0, 1000}}, "expected something reserved"},
		{[][6]any{lowered, {"other", 1000, 1000, 10, 531, 469}}, "all together to be the limit"},
		{[][6]any{{"good", 1000, 1000, 0, 531, 469}, {"other", 1000, 1000, 10, 531, 469}}, "used 10"},
	} {
		u.usage(tt.limits...)
		_, err := budgetState(t.Context(), u.probe)
		wantFault(t, fmt.Sprint(tt.limits), outcome{fault: err}, tt.want)
	}
}

func TestLanded(t *testing.T) {
	t.Parallel()
	u := newUnguarded(t)
	_, err := landed(t.Context(), u.probe)
	wantFault(t, "none", outcome{fault: err}, "no call is under way")
	for _, tt := range []struct {
		model string
		state [6]any
		want  []string
	}{
		{"words-200", [6]any{limitID, 300, 300, 203, 0, 97}, nil},
		{"words-200", [6]any{limitID, 300, 300, 203, 1, 96}, []string{"expected nothing reserved"}},
		{"words-200", [6]any{limitID, 300, 531, 203, 0, 97}, []string{"ceiling = limit"}},
		{"words-3", [6]any{limitID, 300, 300, 6, 0, 294}, []string{"expected word200"}},
	} {
		u.limit = limitID
		u.usage(tt.state)
		u.settles(500, int64(tt.state[3].(int)))
		u.flight, err = u.takeOff(t.Context(), prompt{base: openai, model: tt.model, most: 400, stream: true})
		noError(t, err)
		a, err := landed(t.Context(), u.probe)
		wantFault(t, fmt.Sprint(tt), outcome{fault: err}, tt.want...)
		if a.status != http.StatusOK || u.flight != nil {
			t.Errorf("%v: %s, flight %v", tt, a, u.flight)
		}
	}
}

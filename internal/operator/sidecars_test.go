package operator

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/api/v1/client"
)

func reporting(name string, generation int64) client.Sidecar {
	return client.Sidecar{Name: name, PolicySet: "main", TenantId: "org1", Connected: true, Generation: &generation, Revision: new("r")}
}

func TestStandingOf(t *testing.T) {
	t.Parallel()
	active := &client.PolicyActivation{Generation: 3, Revision: "r"}
	with := func(change func(*client.Sidecar)) client.Sidecar {
		s := reporting("a", 3)
		change(&s)
		return s
	}
	refusal := func(g int64) *client.SidecarRefusal { return &client.SidecarRefusal{Generation: g} }
	tests := []struct {
		name   string
		s      client.Sidecar
		active *client.PolicyActivation
		want   Standing
	}{
		{"in force", reporting("a", 3), active, InForce},
		{"a refusal of another generation", with(func(s *client.Sidecar) { s.Refused = refusal(2) }), active, InForce},
		{"older", reporting("a", 2), active, Stale},
		{"newer", reporting("a", 4), active, Stale},
		{"same generation, other revision", with(func(s *client.Sidecar) { s.Revision = new("x") }), active, Stale},
		{"never reported", client.Sidecar{}, active, Away},
		{"gone", with(func(s *client.Sidecar) { s.Connected = false }), active, Away},
		{"refused", with(func(s *client.Sidecar) { s.Generation, s.Refused = new(int64(2)), refusal(3) }), active, Refused},
		{"revoked", with(func(s *client.Sidecar) { s.Revoked = true }), active, Revoked},
		{"nothing active", reporting("a", 3), nil, NoSet},
	}
	for _, tt := range tests {
		if got := StandingOf(tt.s, tt.active); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func fleetAnswer(t *testing.T, list ...client.Sidecar) *http.Response {
	t.Helper()
	text, err := json.Marshal(client.SidecarList{Items: list})
	noError(t, err)
	return answer(200, "application/json", string(text))
}

func TestAwaitInForce(t *testing.T) {
	t.Parallel()
	other, revoked := reporting("other", 1), reporting("revoked", 1)
	other.PolicySet, revoked.Revoked = "else", true
	refusing := reporting("b", 1)
	refusing.Refused = &client.SidecarRefusal{Generation: 3}
	tests := []struct {
		name  string
		polls [][]client.Sidecar // the last one stays
		wait  time.Duration
		took  time.Duration
		asked int
	}{
		{"at once", [][]client.Sidecar{{reporting("a", 3), other, revoked}}, time.Minute, 0, 1},
		{"after a while", [][]client.Sidecar{{reporting("a", 2)}, {reporting("a", 2)}, {reporting("a", 3)}}, time.Minute, 2 * fleetPoll, 3},
		{"refused is an answer", [][]client.Sidecar{{reporting("a", 2), refusing}, {reporting("a", 3), refusing}}, time.Minute, fleetPoll, 2},
		{"never", [][]client.Sidecar{{reporting("a", 2)}}, fleetPoll*2 + 1, fleetPoll*2 + 1, 3},
		{"looked at once", [][]client.Sidecar{{reporting("a", 2)}}, 0, 0, 1},
		{"nobody", [][]client.Sidecar{{other}}, time.Minute, 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				c := clientOf(t, func(*http.Request) (*http.Response, error) {
					asked++
					return fleetAnswer(t, tt.polls[min(asked, len(tt.polls))-1]...), nil
				})
				begun := time.Now()
				got, err := c.AwaitInForce(t.Context(), "main", client.PolicyActivation{Generation: 3, Revision: "r"}, tt.wait)
				noError(t, err)
				if took := time.Since(begun); took != tt.took || asked != tt.asked {
					t.Errorf("asked %d times in %s, want %d in %s", asked, took, tt.asked, tt.took)
				}
				for _, s := range got {
					if s.PolicySet != "main" || s.Revoked {
						t.Errorf("%s is none of the set", s.Name)
					}
				}
			})
		})
	}
}

func TestListsAreReadToTheirEnd(t *testing.T) {
	t.Parallel()
	var asked []string
	c := clientOf(t, func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.RawQuery)
		if len(asked) == 1 {
			return answer(200, "application/json", `{"items": [{"name": "a", "tenant_id": "org1"}], "next": "n1"}`), nil
		}
		return answer(200, "application/json", `{"items": [{"name": "b", "tenant_id": "org1"}]}`), nil
	})
	s, err := c.Sidecar(t.Context(), "org1", "b")
	noError(t, err)
	if s.Name != "b" {
		t.Errorf("found %s", s.Name)
	}
	if diff := cmp.Diff([]string{"limit=200&tenant_id=org1", "limit=200&cursor=n1&tenant_id=org1"}, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	if _, err := c.Sidecar(t.Context(), "org1", "c"); err == nil || !strings.Contains(err.Error(), "gatehouse proxy status") {
		t.Errorf("got %v", err)
	}
}

func TestDecisionsAreAsManyAsAskedFor(t *testing.T) {
	t.Parallel()
	var limits []string
	c := clientOf(t, func(r *http.Request) (*http.Response, error) {
		limits = append(limits, r.URL.Query().Get("limit"))
		return answer(200, "application/json", `{"items": [`+strings.TrimSuffix(strings.Repeat(`{"id": "d", "record": {}},`, 200), ",")+`], "next": "n"}`), nil
	})
	got, err := c.Decisions(t.Context(), client.ListDecisionsParams{}, 250)
	noError(t, err)
	if diff := cmp.Diff([]string{"200", "50"}, limits); len(got) != 250 || diff != "" {
		t.Errorf("%d decisions, limits (-want +got):\n%s", len(got), diff)
	}
}

func TestAListIsBounded(t *testing.T) {
	t.Parallel()
	_, err := All(func(limit int, _ *string) ([]int, *string, error) { return make([]int, maxListed/2), new("n"), nil })
	if err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
}

package extauthz

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"gatehouse/internal/apierr"
	"gatehouse/internal/snapshot"
	"gatehouse/policies"
)

// Envoy would refuse all of an answer that holds a string of other bytes.
func TestMetadataIsValidText(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{"tasks": "tasks", "caf\xe9": "caf\ufffd", "\xff": "\ufffd"} {
		got := &structpb.Struct{}
		if err := proto.Unmarshal(appendText(nil, "route", value), got); err != nil {
			t.Fatalf("%q: %v", value, err)
		}
		if text := got.GetFields()["route"].GetStringValue(); text != want {
			t.Errorf("%q: got %q, want %q", value, text, want)
		}
	}
	if b := appendText(nil, "route", ""); len(b) != 0 {
		t.Errorf("an empty text makes %x", b)
	}
}

// A policy may pass on either, or both, or nothing.
func TestPolicyMetadata(t *testing.T) {
	t.Parallel()
	data, obligations := map[string]any{"team": "a"}, map[string]any{"max": "5"}
	for name, c := range map[string]struct {
		d    policies.Decision
		want string
	}{
		"both":        {policies.Decision{DynamicMetadata: data, Obligations: obligations}, `{"obligations":{"max":"5"},"team":"a"}`},
		"data":        {policies.Decision{DynamicMetadata: data}, `{"team":"a"}`},
		"obligations": {policies.Decision{Obligations: obligations}, `{"obligations":{"max":"5"}}`},
		"nothing":     {policies.Decision{}, `{}`},
	} {
		got := &structpb.Struct{}
		if err := proto.Unmarshal((&check{policy: c.d}).policyMetadata(nil), got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text, err := json.Marshal(got.AsMap())
		if err != nil || string(text) != c.want {
			t.Errorf("%s: got %s, %v, want %s", name, text, err, c.want)
		}
	}
}

// A policy can write neither what the guard nor what the Exchange obeys.
func TestPolicyMetadataIsNotObeyed(t *testing.T) {
	t.Parallel()
	got := &structpb.Struct{}
	d := policies.Decision{DynamicMetadata: map[string]any{"nohold": "x", "withheld": true, "team": "a"}}
	if err := proto.Unmarshal((&check{policy: d}).policyMetadata(nil), got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"team": "a"}, got.AsMap()); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
}

func TestMembersOfOtherKinds(t *testing.T) {
	t.Parallel()
	got := &structpb.Struct{}
	if err := proto.Unmarshal(appendNumber(appendFlag(nil, "flag"), "number", 1_700_000_000), got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"flag": true, "number": 1.7e9}, got.AsMap()); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
}

// A format that no client is known of gets our own form.
func TestDenialInAnUnknownFormat(t *testing.T) {
	t.Parallel()
	c := &check{in: &envoyRequest{}, route: &snapshot.Route{Format: "other"}}
	a := &answer{}
	c.denyAsProvider(a, apierr.New(apierr.AuthForbidden, apierr.Options{}))
	if want := string(apierr.New(apierr.AuthForbidden, apierr.Options{}).Body("")); a.body != want || !a.responds("content-type") {
		t.Errorf("got %s, want %s", a.body, want)
	}
}

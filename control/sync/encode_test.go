package sync

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/mesh"
	"gatehouse/internal/revision"
)

func everything() mesh.Live {
	return mesh.Live{
		Epoch:     9,
		Subjects:  []mesh.RevokedSubject{{Tenant: "org1", Subject: "s1", IssuedBefore: 1}, {Tenant: "org2", Subject: "s2", IssuedBefore: 2}, {Tenant: "*", Subject: "s3", IssuedBefore: 3}},
		Tokens:    []mesh.RevokedToken{{Tenant: "org1", TokenID: "t1"}, {Tenant: "org2", TokenID: "t2"}, {Tenant: "*", TokenID: "t3"}},
		Suspended: []string{"org1", "org2"},
		Blocked:   []mesh.BlockedAgent{{Tenant: "org1", ID: "a1", Name: "n1"}, {Tenant: "org2", ID: "a2", Name: "n2"}},
	}
}

// TestLiveIsOfTheTenant: what is another tenant's never reaches a bound sidecar.
func TestLiveIsOfTheTenant(t *testing.T) {
	t.Parallel()
	all := &pb.Live{
		Epoch: 9, KeySet: []byte("keys"),
		Subjects:         []*pb.RevokedSubject{{Subject: "s1", IssuedBefore: 1}, {Subject: "s2", IssuedBefore: 2}, {Subject: "s3", IssuedBefore: 3}},
		Tokens:           []*pb.RevokedToken{{Tenant: "*", Id: "t3"}, {Tenant: "org1", Id: "t1"}, {Tenant: "org2", Id: "t2"}},
		SuspendedTenants: []string{"org1", "org2"},
		Agents:           []*pb.BlockedAgent{{Tenant: "org1", Id: "a1", Name: "n1"}, {Tenant: "org2", Id: "a2", Name: "n2"}},
	}
	for _, tt := range []struct {
		name string
		to   mesh.Sidecar
		want *pb.Live
	}{
		{"shared", mesh.Sidecar{Tenant: "org1", Shared: true}, all},
		{"bound", mesh.Sidecar{Tenant: "org1"}, &pb.Live{
			Epoch: 9, KeySet: []byte("keys"),
			Subjects:         []*pb.RevokedSubject{{Subject: "s1", IssuedBefore: 1}, {Subject: "s3", IssuedBefore: 3}},
			Tokens:           []*pb.RevokedToken{{Tenant: "*", Id: "t3"}, {Tenant: "org1", Id: "t1"}},
			SuspendedTenants: []string{"org1"},
			Agents:           []*pb.BlockedAgent{{Tenant: "org1", Id: "a1", Name: "n1"}},
		}},
		{"of a tenant that nothing is said of", mesh.Sidecar{Tenant: "org3"}, &pb.Live{
			Epoch: 9, KeySet: []byte("keys"), Subjects: []*pb.RevokedSubject{{Subject: "s3", IssuedBefore: 3}}, Tokens: []*pb.RevokedToken{{Tenant: "*", Id: "t3"}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, err := newLiveSet(1, []byte("keys"), everything()).message(audienceOf(&tt.to))
			if err != nil {
				t.Fatal(err)
			}
			var down pb.Down
			if err := proto.Unmarshal(m.text, &down); err != nil {
				t.Fatal(err)
			}
			// The order of tenants is that of a map.
			sorted := []cmp.Option{
				protocmp.Transform(), protocmp.SortRepeated(func(a, b string) bool { return a < b }),
				protocmp.SortRepeated(func(a, b *pb.RevokedSubject) bool { return a.GetSubject() < b.GetSubject() }),
				protocmp.SortRepeated(func(a, b *pb.BlockedAgent) bool { return a.GetId() < b.GetId() }),
			}
			if d := cmp.Diff(tt.want, down.GetLive(), sorted...); d != "" {
				t.Errorf("live data (-want +got):\n%s", d)
			}
		})
	}
}

// TestLiveIsEncodedOnce for each audience, and anew for each version.
func TestLiveIsEncodedOnce(t *testing.T) {
	t.Parallel()
	l := newLiveSet(1, nil, everything())
	a, b := audience{tenant: "org1"}, audience{shared: true}
	get := func(l *liveSet, a audience) *liveMessage {
		t.Helper()
		m, err := l.message(a)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	first := get(l, a)
	if get(l, a) != first {
		t.Error("encoded twice for one audience")
	}
	if get(l, b).key == first.key {
		t.Error("two audiences have the same key")
	}
	if get(newLiveSet(2, nil, everything()), a).key == first.key {
		t.Error("two versions have the same key")
	}
	l.keep(map[audience]int{b: 1})
	if len(l.encoded) != 1 {
		t.Errorf("%d messages are kept, want that of who is connected", len(l.encoded))
	}
}

func TestLiveThatCanNotBeEncoded(t *testing.T) {
	t.Parallel()
	l := newLiveSet(1, nil, mesh.Live{Tokens: []mesh.RevokedToken{{Tenant: "*", TokenID: "\xff"}}})
	if _, err := l.message(audience{shared: true}); err == nil {
		t.Error("no error")
	}
}

func TestRevisionThatCanNotBeSent(t *testing.T) {
	t.Parallel()
	signed := func(set string, generation int64) mesh.Activated {
		return mesh.Activated{Signed: revision.Signed{Activation: revision.Activation{PolicySet: set, Generation: generation}}}
	}
	for name, a := range map[string]mesh.Activated{"none": {}, "of another set": signed("q", 1), "without a generation": signed("p", 0)} {
		if _, err := newRevisionMessage("p", a); !errors.Is(err, errNoActivation) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := signed("p", 1)
	bad.KeyID = "\xff"
	if _, err := newRevisionMessage("p", bad); err == nil {
		t.Error("one that can't be encoded: no error")
	}
}

// BenchmarkLive is a revocation among a hundred thousand, told to one of a
// thousand tenants.
func BenchmarkLive(b *testing.B) {
	var data mesh.Live
	for i := range 100_000 {
		data.Tokens = append(data.Tokens, mesh.RevokedToken{Tenant: fakeID(i % 1000), TokenID: fakeID(i)})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := newLiveSet(1, nil, data).message(audience{tenant: fakeID(1)}); err != nil {
			b.Fatal(err)
		}
	}
}

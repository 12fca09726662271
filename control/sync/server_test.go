package sync

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/certtest"
	"gatehouse/internal/mesh"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/revision"
)

func TestFirstContact(t *testing.T) {
	t.Parallel()
	r := serve(t, newWorld(t), nil)
	r.register(ada("p"))
	a := r.activate(t, "p", "one")
	r.change(ChangedAll, func() {
		r.live = mesh.Live{
			Epoch:    5,
			Subjects: []mesh.RevokedSubject{{Tenant: "org1", Subject: "s1", IssuedBefore: 9}, {Tenant: "org2", Subject: "s2"}},
			Tokens:   []mesh.RevokedToken{{Tenant: "org1", TokenID: "t1"}},
		}
		r.connected = map[string]int{"p": 3}
	})
	got := r.connect(t, "ada", 1, nil).settle()
	signed := r.active["p"]
	beat := got[len(got)-1].GetBeat()
	want := []*pb.Down{
		{Message: &pb.Down_Welcome{Welcome: &pb.Welcome{
			SidecarId: "id-ada", Name: "ada", Tenant: "org1", Project: "proj1", Agent: "agent1", Role: "developer", PolicySet: "p",
		}}},
		{Message: &pb.Down_Live{Live: &pb.Live{
			Epoch: 5, KeySet: []byte(`{"keys":[]}`), Subjects: []*pb.RevokedSubject{{Subject: "s1", IssuedBefore: 9}}, Tokens: []*pb.RevokedToken{{Tenant: "org1", Id: "t1"}},
		}}},
		{Message: &pb.Down_Revision{Revision: &pb.Revision{
			PolicySet: "p", Generation: 1, Revision: a.Revision, Kind: "activate", Bundle: signed.Bundle, Signature: signed.Signature, KeyId: "k1",
		}}},
		{Message: &pb.Down_Beat{Beat: &pb.Beat{Epoch: 5, NowUnixMs: beat.GetNowUnixMs(), Connected: beat.GetConnected()}}},
	}
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Errorf("sent (-want +got):\n%s", d)
	}
	if skew := time.Since(time.UnixMilli(beat.GetNowUnixMs())); skew < -time.Second || skew > patience || beat.GetConnected() < 1 {
		t.Errorf("the beat says %v", beat)
	}
	if err := signed.Verify(revision.Keys{"k1": r.public}); err != nil {
		t.Error(err)
	}
}

func TestHeldRevisionIsNotSent(t *testing.T) {
	t.Parallel()
	r := serve(t, newWorld(t), nil)
	a := r.activate(t, "p", "one")
	sidecar := ada("p")
	sidecar.Last.Generation, sidecar.Last.Revision = 1, a.Revision
	r.register(sidecar)
	got := r.connect(t, "ada", 1, &pb.Status{Generation: 1, Revision: a.Revision}).settle()
	if len(got) != 3 || got[0].GetWelcome() == nil || got[1].GetLive() == nil {
		t.Errorf("sent %v, want Welcome, Live, Beat", got)
	}
}

func TestChangesArePushed(t *testing.T) {
	t.Parallel()
	acked := make(chan int64, 10)
	r := serve(t, newWorld(t), func(o *Options) {
		o.Acknowledged = func(set string, generation int64, after time.Duration) {
			if set == "p" && after >= 0 {
				acked <- generation
			}
		}
	})
	r.register(ada("p"))
	r.activate(t, "p", "one")
	p := r.connect(t, "ada", 1, nil)
	p.settle()
	a := r.activate(t, "p", "two")
	if got := p.next().GetRevision(); got.GetGeneration() != 2 || got.GetRevision() != a.Revision {
		t.Fatalf("got %v, want generation 2", got)
	}
	p.say(&pb.Status{Generation: 2, Revision: a.Revision})
	if got := <-acked; got != 2 {
		t.Errorf("generation %d is acknowledged, want 2", got)
	}
	b := r.activate(t, "p", "three")
	p.next()
	p.say(&pb.Status{Generation: 2, Revision: a.Revision, Refused: &pb.Refused{Generation: 3, Revision: b.Revision, Reason: "no"}})
	eventually(t, "the refusal is reported", func() bool { return r.reported("id-ada").Refused.Reason == "no" })
	if got := r.reported("id-ada"); got.Generation != 2 || got.Build != "test" || got.Refused.Generation != 3 {
		t.Errorf("reported %+v", got)
	}
	r.change("live_epoch", func() { r.live = mesh.Live{Epoch: 2, Suspended: []string{"org1"}} })
	if got := p.next().GetLive(); got.GetEpoch() != 2 || len(got.GetSuspendedTenants()) != 1 {
		t.Errorf("got %v, want the new live data", got)
	}
	r.change("live_epoch", func() { r.keySet = `{"keys":[1]}` })
	if got := p.next().GetLive(); string(got.GetKeySet()) != `{"keys":[1]}` {
		t.Errorf("got %v, want the new keys", got)
	}
}

func TestRegistrationChanges(t *testing.T) {
	t.Parallel()
	r := serve(t, newWorld(t), nil)
	s := r.register(ada("p"))
	r.activate(t, "p", "one")
	r.activate(t, "q", "other")
	p := r.connect(t, "ada", 1, nil)
	p.settle()
	r.change("live_epoch", func() { r.live = mesh.Live{Epoch: 2, Suspended: []string{"org1", "org2"}} })
	if got := p.next().GetLive().GetSuspendedTenants(); len(got) != 1 || got[0] != "org1" {
		t.Errorf("live data say %v, want those of org1", got)
	}
	s.PolicySet, s.Tenant, s.Version = "q", "org2", 2
	r.change(ChangedSidecars, func() { r.sidecars[secretOf("ada")] = s })
	if got := p.next().GetWelcome(); got.GetPolicySet() != "q" || got.GetTenant() != "org2" {
		t.Fatalf("got %v, want Welcome to q and org2", got)
	}
	if got := p.next().GetLive().GetSuspendedTenants(); len(got) != 1 || got[0] != "org2" {
		t.Errorf("live data say %v, want those of org2", got)
	}
	if got := p.next().GetRevision(); got.GetPolicySet() != "q" {
		t.Errorf("got %v, want the revision of q", got)
	}
	if got := r.server.Status(); got.Connected["q"] != 1 || got.Connected["p"] != 0 || !got.Fresh {
		t.Errorf("status %+v", got)
	}
}

func TestRegistrationEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(r *running, s mesh.Sidecar){
		"revoked": func(r *running, s mesh.Sidecar) { s.Revoked = true; r.sidecars[secretOf("ada")] = s },
		"deleted": func(r *running, _ mesh.Sidecar) { delete(r.sidecars, secretOf("ada")) },
		"rotated": func(r *running, s mesh.Sidecar) { // known by its version, under a new secret
			r.sidecars["ghs_new"] = s
			s.Version, s.Revoked = 2, false
			r.sidecars[secretOf("ada")] = mesh.Sidecar{ID: "id-someone-else", Version: 2}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := serve(t, newWorld(t), nil)
			s := r.register(ada("p"))
			p := r.connect(t, "ada", 1, nil)
			p.settle()
			r.change(ChangedSidecars, func() { end(r, s) })
			p.ends(codes.Unauthenticated)
		})
	}
}

func TestTwoStreamsOfOneSidecar(t *testing.T) {
	t.Parallel()
	r := serve(t, newWorld(t), nil)
	r.register(ada("p"))
	first := r.connect(t, "ada", 5, nil)
	first.settle()
	r.connect(t, "ada", 4, nil).ends(codes.Aborted)
	same := r.connect(t, "ada", 5, nil)
	same.settle()
	first.ends(codes.Aborted)
	later := r.connect(t, "ada", 6, nil)
	later.settle()
	same.ends(codes.Aborted)
	r.activate(t, "p", "one")
	if got := later.next().GetRevision(); got.GetGeneration() != 1 {
		t.Errorf("got %v, want the stream that stayed to go on", got)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	r := serve(t, newWorld(t), nil)
	r.register(ada("p"))
	gone := ada("p")
	gone.Name, gone.Revoked = "gone", true
	r.register(gone)
	good := "Bearer " + secretOf("ada")
	client := r.dial(t)
	for _, tt := range []struct {
		name   string
		values []string
	}{
		{"none", nil},
		{"two", []string{good, good}},
		{"empty", []string{""}},
		{"no scheme", []string{secretOf("ada")}},
		{"another scheme", []string{"Basic " + secretOf("ada")}},
		{"no secret", []string{"Bearer "}},
		{"two spaces", []string{"Bearer  " + secretOf("ada")}},
		{"unknown", []string{"Bearer ghs_unknown"}},
		{"revoked", []string{"Bearer " + secretOf("gone")}},
		{"too long", []string{"Bearer " + strings.Repeat("a", maxCredential)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for _, v := range tt.values {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", v)
			}
			stream, err := client.Sync(ctx)
			if err != nil {
				t.Fatal(err)
			}
			(&peer{t, stream}).ends(codes.Unauthenticated)
			if _, err := client.TakeRate(ctx, oneAsk("org1")); status.Code(err) != codes.Unauthenticated {
				t.Errorf("TakeRate: %v, want Unauthenticated", err)
			}
		})
	}
}

func TestUnknownWhoCalls(t *testing.T) {
	t.Parallel()
	r := serve(t, newWorld(t), nil)
	r.register(ada("p"))
	r.do(func() { r.away["Authenticate"] = true })
	r.open(t, secretOf("ada")).ends(codes.Unavailable)
	if _, err := r.dial(t).TakeRate(as(t.Context(), secretOf("ada")), oneAsk("org1")); status.Code(err) != codes.Unavailable {
		t.Errorf("TakeRate: %v, want Unavailable", err)
	}
}

func TestStreamsOutOfOrder(t *testing.T) {
	t.Parallel()
	r := serve(t, newWorld(t), nil)
	r.register(ada("p"))
	p := r.open(t, secretOf("ada"))
	p.say(&pb.Status{})
	p.ends(codes.InvalidArgument)
	p = r.connect(t, "ada", 1, nil)
	p.send(helloOf(nil))
	p.ends(codes.InvalidArgument)
	p = r.connect(t, "ada", 1, nil)
	p.send(&pb.Up{Message: &pb.Up_Records{Records: &pb.Records{Records: [][]byte{make([]byte, maxMessage)}}}})
	p.ends(codes.ResourceExhausted)
	p = r.connect(t, "ada", 1, nil)
	if err := p.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	p.settleUntil(t, io.EOF)
	eventually(t, "nobody is connected", func() bool { return len(r.server.Status().Connected) == 0 })
}

// settleUntil wants the stream to end with exactly this.
func (p *peer) settleUntil(t *testing.T, want error) {
	t.Helper()
	for {
		if _, err := p.stream.Recv(); err != nil {
			if !errors.Is(err, want) {
				t.Errorf("ended with %v, want %v", err, want)
			}
			return
		}
	}
}

func TestRecordsAreStored(t *testing.T) {
	t.Parallel()
	r := serve(t, newWorld(t), nil)
	r.register(ada("p"))
	r.refused = 1
	p := r.connect(t, "ada", 1, nil)
	p.settle()
	for batch := range int64(3) {
		p.send(&pb.Up{Message: &pb.Up_Records{Records: &pb.Records{Batch: batch, Records: [][]byte{{'a' + byte(batch)}}}}})
		if got := p.next().GetStored(); got == nil || got.GetBatch() != batch {
			t.Fatalf("got %v, want batch %d stored", got, batch)
		}
	}
	if d := cmp.Diff([]string{"a", "b", "c"}, r.stored["id-ada"]); d != "" {
		t.Errorf("stored (-want +got):\n%s", d)
	}
}

func TestOneBatchAtATime(t *testing.T) {
	t.Parallel()
	r := serve(t, newWorld(t), nil)
	r.register(ada("p"))
	p := r.connect(t, "ada", 1, nil)
	p.settle()
	r.do(func() { r.hold = make(chan struct{}) })
	batch := &pb.Up{Message: &pb.Up_Records{Records: &pb.Records{Batch: 1}}}
	p.send(batch)
	p.say(&pb.Status{LiveEpoch: 44})
	eventually(t, "a status is taken meanwhile", func() bool { return r.reported("id-ada").LiveEpoch == 44 })
	p.send(batch)
	p.ends(codes.ResourceExhausted)
}

func TestOnlyTLS13(t *testing.T) {
	t.Parallel()
	r := serve(t, newWorld(t), nil)
	r.register(ada("p"))
	for name, creds := range map[string]credentials.TransportCredentials{
		"no TLS":  insecure.NewCredentials(),
		"TLS 1.2": credentials.NewTLS(&tls.Config{RootCAs: r.roots, MaxVersion: tls.VersionTLS12}),
	} {
		conn, err := grpc.NewClient(r.server.Addr(), grpc.WithTransportCredentials(creds))
		if err != nil {
			t.Fatal(err)
		}
		_, err = pb.NewSidecarsClient(conn).TakeRate(as(t.Context(), secretOf("ada")), oneAsk("org1"))
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v, want Unavailable", name, err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAPanicEndsOneCall(t *testing.T) {
	t.Parallel()
	r := serve(t, newWorld(t), func(o *Options) { o.Rates = panicking{} })
	r.register(ada("p"))
	if _, err := r.dial(t).TakeRate(as(t.Context(), secretOf("ada")), oneAsk("")); status.Code(err) != codes.Internal {
		t.Errorf("got %v, want Internal", err)
	}
	r.connect(t, "ada", 1, nil).settle()
}

type panicking struct{}

func (panicking) Take(context.Context, string, []ratelimit.Ask) (ratelimit.Result, int, error) {
	panic("a fault of the program")
}

func TestStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := serve(t, w, nil)
	r.register(ada("p"))
	p := r.connect(t, "ada", 1, nil)
	p.settle()
	p.say(&pb.Status{LiveEpoch: 3})
	silent := r.open(t, secretOf("ada"))
	done := make(chan error, 2)
	for range 2 {
		go func() { done <- r.server.Stop(context.Background()) }()
	}
	p.ends(codes.Unavailable)
	silent.ends(codes.Unavailable)
	for range 2 {
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	<-r.server.Done()
	if got := w.reported("id-ada"); got.At.IsZero() {
		t.Error("what was reported last is lost")
	}
	if err := r.server.Start(t.Context()); err == nil {
		t.Error("started again")
	}
}

// TestStopCuts: a call that doesn't end is cut when the time is over.
func TestStopCuts(t *testing.T) {
	t.Parallel()
	r := serve(t, newWorld(t), nil)
	r.register(ada("p"))
	p := r.connect(t, "ada", 1, nil)
	p.settle()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.server.Stop(ctx); err != nil {
		t.Error(err)
	}
	p.ends(codes.Unavailable)
}

func TestStart(t *testing.T) {
	t.Parallel()
	cert, key := certtest.New(t).Files(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for name, change := range map[string]func(*Options){
		"no such certificate": func(o *Options) { o.CertFile += "x" },
		"address in use":      func(o *Options) { o.Address = taken.Addr().String() },
	} {
		o := newWorld(t).options()
		o.Address, o.CertFile, o.KeyFile = "127.0.0.1:0", cert, key
		change(&o)
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context()); err == nil {
			t.Errorf("%s: it started", name)
		}
		if s.Addr() != "" {
			t.Errorf("%s: address %s", name, s.Addr())
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Errorf("%s: stop: %v", name, err)
		}
		if err := s.Start(t.Context()); err == nil {
			t.Errorf("%s: it started after Stop", name)
		}
	}
}

func TestNewSaysAllThatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := New(Options{})
	if err == nil {
		t.Fatal("no error")
	}
	if got := strings.Count(err.Error(), "is needed"); got != 6 {
		t.Errorf("%d faults, want 6:\n%v", got, err)
	}
}

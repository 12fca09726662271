package sync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/budget"
	"gatehouse/internal/mesh"
)

func TestReserveOverTheStream(t *testing.T) {
	t.Parallel()
	resets := time.UnixMilli(1_800_000_000_123)
	b := &book{answer: budget.Answer{Verdict: budget.Refused, Replayed: true, Request: budget.Request{Denial: &budget.Denial{
		Reason: budget.ReasonExhausted, LimitID: "l", Window: budget.Day, Limit: 3, Available: 2, Requested: 10, ResetsAt: &resets,
	}}}}
	_, stream := lending(t, b, nil)
	r := reserveOf(5, "a")
	r.Unlimited, r.Model, r.Subject, r.DecisionId, r.Purpose = true, "m", "s", "d", "x"
	r.TaskId, r.BodyHash = "00000000-0000-4000-8000-000000000001", []byte(strings.Repeat("h", 32))
	say(t, stream, upReserve(r))
	want := &pb.LedgerDown{Message: &pb.LedgerDown_Reserved{Reserved: &pb.Reserved{
		Seq: 5, Verdict: "refused", Replayed: true,
		Denial: &pb.Denial{Reason: "exhausted", LimitId: "l", Window: "day", Limit: 3, Available: 2, Requested: 10, ResetsUnixMs: 1_800_000_000_123},
	}}}
	if diff := cmp.Diff(want, hear(t, stream), protocmp.Transform()); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	h := budget.Hold{
		Key: budget.Key{Origin: budget.Inline, ID: "a", Attempt: 1}, Project: "p1", Tokens: 10, Unlimited: true, TTL: time.Minute, BodyHash: [32]byte(r.BodyHash),
		Sidecar: adaID, Incarnation: 7, Model: "m", Task: r.TaskId, Purpose: "x", Subject: "s", Decision: "d",
	}
	b.change(func(b *book) {
		if diff := cmp.Diff([]budget.Hold{h}, b.holds); diff != "" {
			t.Errorf("asked for (-want +got):\n%s", diff)
		}
		b.answer = budget.Answer{Verdict: budget.Held, Request: budget.Request{Reserved: 10}}
	})
	say(t, stream, upReserve(reserveOf(6, "b")))
	if got := hear(t, stream).GetReserved(); got.GetSeq() != 6 || got.GetVerdict() != "held" || got.GetTokens() != 10 || got.GetDenial() != nil {
		t.Errorf("got %v", got)
	}
}

// TestFaultsOfOneItem: each is answered by itself, and the stream goes on.
func TestFaultsOfOneItem(t *testing.T) {
	t.Parallel()
	b := &book{answer: budget.Answer{Verdict: budget.Held}, result: budget.Result{Outcome: budget.Done}}
	_, stream := lending(t, b, nil)
	change := func(f func(*pb.Reserve)) *pb.LedgerUp {
		r := reserveOf(1, "a")
		f(r)
		return upReserve(r)
	}
	settle := func(f func(*pb.Settle)) *pb.LedgerUp {
		s := settleOf(1, "a", "commit", 1)
		f(s)
		return upSettle(s)
	}
	for _, tt := range []struct {
		name string
		up   *pb.LedgerUp
		want string
	}{
		{"another tenant", change(func(r *pb.Reserve) { r.Tenant = "org2" }), "forbidden"},
		{"all tenants", change(func(r *pb.Reserve) { r.Tenant = "*" }), "forbidden"},
		{"no tenant", change(func(r *pb.Reserve) { r.Tenant = "" }), "forbidden"},
		{"no id", change(func(r *pb.Reserve) { r.RequestId = "" }), "invalid"},
		{"a long id", change(func(r *pb.Reserve) { r.RequestId = strings.Repeat("x", 1<<20) }), "invalid"},
		{"no attempt", change(func(r *pb.Reserve) { r.Attempt = 0 }), "invalid"},
		{"no tokens", change(func(r *pb.Reserve) { r.Tokens = 0 }), "invalid"},
		{"no hash", change(func(r *pb.Reserve) { r.BodyHash = nil }), "invalid"},
		{"a long hash", change(func(r *pb.Reserve) { r.BodyHash = make([]byte, 33) }), "invalid"},
		{"no time", change(func(r *pb.Reserve) { r.TtlMs = 0 }), "invalid"},
		{"endless", change(func(r *pb.Reserve) { r.TtlMs = math.MaxInt64 }), "invalid"},
		{"endless, turned over", change(func(r *pb.Reserve) { r.TtlMs = 18_446_744_073_711 }), "invalid"}, // 2^64 ns and 1.4 ms
		{"no task", change(func(r *pb.Reserve) { r.TaskId = "x" }), "invalid"},
		{"no action", settle(func(s *pb.Settle) { s.Action = "take" }), "invalid final"},
		{"negative", settle(func(s *pb.Settle) { s.Tokens = -1 }), "invalid final"},
		{"tokens of a release", settle(func(s *pb.Settle) { s.Action = "release" }), "invalid final"},
		{"a foreign settlement", settle(func(s *pb.Settle) { s.Tenant = "org2" }), "forbidden final"},
		{"a foreign top-up", settle(func(s *pb.Settle) { s.Tenant, s.Action = "org2", "top_up" }), "forbidden final"},
		{"of a later build", &pb.LedgerUp{}, ""},
		{"nothing wrong", upReserve(reserveOf(1, "a")), "held"},
		{"nothing wrong", upSettle(settleOf(1, "a", "commit", 1)), "done final"},
	} {
		say(t, stream, tt.up)
		if tt.want == "" {
			continue
		}
		if got := text(hear(t, stream)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	b.change(func(b *book) {
		if diff := cmp.Diff([]string{"org1: forbidden org2/a"}, b.buried); diff != "" {
			t.Errorf("buried (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"reserve org1/a", "commit of " + adaID + " org1/a"}, b.asked); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
	})
}

// text is an answer in a word or two.
func text(m *pb.LedgerDown) string {
	if s := m.GetSettled(); s != nil && s.GetFinal() {
		return s.GetOutcome() + " final"
	} else if s != nil {
		return s.GetOutcome()
	}
	if c := m.GetClosed(); c != nil {
		return fmt.Sprint("closed ", c.GetDone())
	}
	return m.GetReserved().GetVerdict()
}

func TestErrorsOfTheLedger(t *testing.T) {
	t.Parallel()
	b := &book{unburied: budget.ErrUnavailable}
	_, stream := lending(t, b, nil)
	for _, tt := range []struct {
		err              error
		reserve, settled string
	}{
		{fmt.Errorf("x: %w", budget.ErrBusy), "busy", "busy"},
		{fmt.Errorf("%w: %w", budget.ErrNotSent, context.DeadlineExceeded), "busy", "busy"},
		{budget.ErrOutcomeUnknown, "unavailable", "unavailable"},
		{budget.ErrUnavailable, "unavailable", "unavailable"},
		{errors.New("a defect"), "unavailable", "unavailable"},
		{budget.ErrInvalid, "invalid", "invalid final"},
		{budget.ErrUnknown, "unknown", "unavailable"}, // it is to be buried, which fails
	} {
		b.change(func(b *book) { b.err = tt.err })
		say(t, stream, upReserve(reserveOf(1, "a")))
		if got := text(hear(t, stream)); got != tt.reserve {
			t.Errorf("%v: a hold is %s, want %s", tt.err, got, tt.reserve)
		}
		say(t, stream, upSettle(settleOf(2, "b", "release", 0)))
		if got := text(hear(t, stream)); got != tt.settled {
			t.Errorf("%v: a settlement is %s, want %s", tt.err, got, tt.settled)
		}
	}
	b.change(func(b *book) { b.err, b.panics = nil, true })
	say(t, stream, upReserve(reserveOf(3, "a")))
	if got := text(hear(t, stream)); got != "unavailable" {
		t.Errorf("after a panic: %s", got)
	}
	say(t, stream, upSettle(settleOf(4, "a", "release", 0)))
	if got := text(hear(t, stream)); got != "unavailable" {
		t.Errorf("after a panic: %s", got)
	}
}

// TestUnknownTenantIsBuried: a shared sidecar may name any, and what it says of
// one that is not there is kept with its own, before it is answered for good.
func TestUnknownTenantIsBuried(t *testing.T) {
	t.Parallel()
	b := &book{err: budget.ErrUnknown, unburied: budget.ErrUnavailable}
	_, stream := lending(t, b, func(s *mesh.Sidecar) { s.Shared = true })
	s := settleOf(1, "a", "commit", 1)
	s.Tenant = "org9"
	for _, want := range []string{"unavailable", "unknown final"} {
		say(t, stream, upSettle(s))
		if got := text(hear(t, stream)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		b.change(func(b *book) { b.unburied = nil })
	}
	b.change(func(b *book) {
		if diff := cmp.Diff([]string{"org1: unknown org9/a", "org1: unknown org9/a"}, b.buried); diff != "" {
			t.Errorf("buried (-want +got):\n%s", diff)
		}
	})
}

// TestOneRequestTakesTurns: what comes later of a request waits; what is of
// another request, or another tenant, does not.
func TestOneRequestTakesTurns(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	b := &book{answer: budget.Answer{Verdict: budget.Held}, result: budget.Result{Outcome: budget.Done}, wait: map[string]chan struct{}{"slow": gate}}
	_, stream := lending(t, b, func(s *mesh.Sidecar) { s.Shared = true })
	slow, after := reserveOf(1, "a"), settleOf(2, "a", "release", 0)
	slow.Tenant, after.Tenant = "slow", "slow"
	say(t, stream, upReserve(slow))
	say(t, stream, upSettle(after))
	say(t, stream, upReserve(reserveOf(3, "a")))
	if got := hear(t, stream).GetReserved(); got.GetSeq() != 3 {
		t.Errorf("first is %v, want that of the other tenant", got)
	}
	close(gate)
	if got := hear(t, stream); got.GetReserved().GetSeq() != 1 {
		t.Errorf("then %v, want the hold", got)
	}
	if got := hear(t, stream); got.GetSettled().GetSeq() != 2 {
		t.Errorf("then %v, want its release", got)
	}
}

// TestTooManyItems are busy, each by itself, and those under way go on.
func TestTooManyItems(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	b := &book{answer: budget.Answer{Verdict: budget.Held}, wait: map[string]chan struct{}{"org1": gate}}
	r, stream := lending(t, b, nil)
	for i := range uint64(maxItems) {
		say(t, stream, upReserve(reserveOf(i, fmt.Sprint(i))))
	}
	say(t, stream, upReserve(reserveOf(maxItems, "more")))
	if got := hear(t, stream).GetReserved(); got.GetSeq() != maxItems || got.GetVerdict() != "busy" {
		t.Fatalf("one too many: %v", got)
	}
	say(t, stream, upSettle(settleOf(maxItems+1, "more", "release", 0)))
	if got := text(hear(t, stream)); got != "busy" {
		t.Fatalf("one too many: %s", got)
	}
	if n := len(r.server.ledgerItems); n != maxItems {
		t.Errorf("%d have a place in the process", n)
	}
	close(gate)
	for range maxItems {
		if got := text(hear(t, stream)); got != "held" {
			t.Fatalf("one under way: %s", got)
		}
	}
	say(t, stream, upReserve(reserveOf(1, "more")))
	if got := text(hear(t, stream)); got != "held" {
		t.Errorf("later: %s", got)
	}
}

// TestNoRoomInTheProcess: what all streams have under way is bounded as well.
func TestNoRoomInTheProcess(t *testing.T) {
	t.Parallel()
	b := &book{answer: budget.Answer{Verdict: budget.Held}}
	r, stream := lending(t, b, nil)
	for range maxLedgerItems {
		r.server.ledgerItems <- struct{}{}
	}
	say(t, stream, upReserve(reserveOf(1, "a")))
	if got := text(hear(t, stream)); got != "busy" {
		t.Errorf("without room: %s", got)
	}
	<-r.server.ledgerItems
	for range 2 {
		say(t, stream, upReserve(reserveOf(2, "a")))
		if got := text(hear(t, stream)); got != "held" {
			t.Errorf("with room: %s", got)
		}
	}
}

func TestReplayedIsTheStreamsIncarnation(t *testing.T) {
	t.Parallel()
	b := &book{err: budget.ErrUnavailable}
	_, stream := lending(t, b, nil)
	up := &pb.LedgerUp{Message: &pb.LedgerUp_Replayed{Replayed: &pb.Replayed{}}}
	for _, want := range []string{"closed false", "closed true", "closed true"} {
		say(t, stream, up)
		if got := text(hear(t, stream)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		b.change(func(b *book) { b.err = nil })
	}
	b.change(func(b *book) {
		if diff := cmp.Diff([]int64{7, 7, 7}, b.replayed); diff != "" {
			t.Errorf("replayed (-want +got):\n%s", diff)
		}
	})
}

func TestLedgerStreamsBegin(t *testing.T) {
	t.Parallel()
	r := serve(t, newWorld(t), func(o *Options) { o.Ledger = &book{} })
	lender(r.world, nil)
	for name, first := range map[string][]*pb.LedgerUp{
		"with an item":           {upReserve(reserveOf(1, "a"))},
		"with a later message":   {{}},
		"without an incarnation": {ledgerHello(0)},
		"twice":                  {ledgerHello(7), ledgerHello(7)},
	} {
		stream := r.ledger(t, secretOf("ada"))
		for _, m := range first {
			_ = stream.Send(m) // the stream may have ended
		}
		ledgerEnds(t, name, stream, codes.InvalidArgument)
	}
	ledgerEnds(t, "of nobody", r.ledger(t, "ghs_nobody"), codes.Unauthenticated)
	stream := r.ledger(t, secretOf("ada"))
	greet(t, stream)
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("ended by the sidecar: %v", err)
	}
	without := serve(t, r.world, nil)
	ledgerEnds(t, "without a ledger", without.ledger(t, secretOf("ada")), codes.Unavailable)
}

func ledgerEnds(t *testing.T, name string, stream pb.Sidecars_LedgerClient, want codes.Code) {
	t.Helper()
	for {
		if _, err := stream.Recv(); err != nil {
			if status.Code(err) != want {
				t.Errorf("%s: ended with %v, want %v", name, err, want)
			}
			return
		}
	}
}

// TestManyLedgerStreams: of one credential the latest stay.
func TestManyLedgerStreams(t *testing.T) {
	t.Parallel()
	r := serve(t, newWorld(t), func(o *Options) { o.Ledger = &book{answer: budget.Answer{Verdict: budget.Held}} })
	lender(r.world, nil)
	streams := make([]pb.Sidecars_LedgerClient, maxLedgers+1)
	for i := range streams {
		streams[i] = r.ledger(t, secretOf("ada"))
		greet(t, streams[i])
	}
	ledgerEnds(t, "the oldest", streams[0], codes.Aborted)
	for _, stream := range streams[1:] {
		say(t, stream, upReserve(reserveOf(1, "a")))
		if got := text(hear(t, stream)); got != "held" {
			t.Errorf("a later one: %s", got)
		}
	}
}

// TestStopEndsLedgerStreams: with all that they have under way.
func TestStopEndsLedgerStreams(t *testing.T) {
	t.Parallel()
	b := &book{wait: map[string]chan struct{}{"org1": make(chan struct{})}}
	r, stream := lending(t, b, nil)
	say(t, stream, upReserve(reserveOf(1, "a")))
	say(t, stream, upSettle(settleOf(2, "a", "release", 0)))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.server.Stop(ctx); err != nil {
		t.Error(err)
	}
	ledgerEnds(t, "stopping", stream, codes.Unavailable)
}

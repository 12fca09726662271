package sync

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/mesh"
)

func TestHelloInTime(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s := b.register(ada("p"))
		silent := b.open(s)
		b.after(helloWithin - 1)
		b.wantOpen(silent)
		b.after(1)
		b.wantEnd(silent, codes.InvalidArgument)
	})
}

func TestBeatsComeWithinFiveSeconds(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		w := b.greet(b.register(ada("p")))
		b.after(time.Minute)
		last := time.Duration(0)
		beats := 0
		for _, s := range w.all() {
			if !isBeat(s.down) {
				continue
			}
			if gap := s.at - last; gap > beatWithin {
				t.Errorf("no beat for %v", gap)
			}
			last = s.at
			beats++
		}
		if beats < 12 || beats > 15 {
			t.Errorf("%d beats in a minute", beats)
		}
	})
}

// TestNoBeatWithoutTheDatabase: any question that can't be answered ends the
// beats, and none of what was sent.
func TestNoBeatWithoutTheDatabase(t *testing.T) {
	for _, what := range []string{"Epoch", "Generations", "KeySet", "Versions", "Connected", "Live"} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				w := b.greet(b.register(ada("p")))
				b.after(6 * time.Second)
				if n := len(w.times(isBeat)); n < 2 {
					t.Fatalf("%d beats in 6 s", n)
				}
				b.change("live_epoch", func() {
					b.away[what] = true
					b.live.Epoch++ // Live is asked for
				})
				b.after(2 * beatWithin) // by then what was fresh is stale, and a review was due
				before := len(w.times(isBeat))
				b.after(time.Minute)
				if n := len(w.times(isBeat)); n != before {
					t.Errorf("%d beats while %s can't be asked", n-before, what)
				}
				b.wantOpen(w)
				if b.server.Status().Fresh {
					t.Error("the status says that all is fresh")
				}
				b.do(func() { clear(b.away) })
				b.after(beatWithin)
				if n := len(w.times(isBeat)); n == before {
					t.Error("no beat after it could be asked again")
				}
				if !b.server.Status().Fresh {
					t.Error("the status says that nothing is fresh")
				}
			})
		})
	}
}

func TestOnePolicySetIsAway(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.activate(t, "p", "one")
		b.activate(t, "q", "one")
		other := ada("q")
		other.Name = "bob"
		b.do(func() { b.away["Active p"] = true })
		p, q := b.greet(b.register(ada("p"))), b.greet(b.register(other))
		b.after(30 * time.Second)
		if p.times(isBeat) != nil || p.times(isRevision) != nil {
			t.Error("the set that is away is confirmed")
		}
		if q.times(isBeat) == nil || len(q.times(isRevision)) == 0 {
			t.Error("the other set waits for it")
		}
		b.do(func() { clear(b.away) })
		b.after(2 * time.Second)
		if p.times(isRevision) == nil {
			t.Error("it is not sent when it is back")
		}
	})
}

func TestUnacknowledgedIsSentAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		a := b.activate(t, "p", "one")
		w := b.greet(b.register(ada("p")))
		b.after(35 * time.Second)
		if d := cmp.Diff([]int{0, 10, 20, 30}, w.times(isRevision)); d != "" {
			t.Errorf("sent at seconds (-want +got):\n%s", d)
		}
		w.up <- statusOf(&pb.Status{Generation: 1, Revision: a.Revision})
		b.after(time.Minute)
		if got := w.times(isRevision); len(got) != 4 {
			t.Errorf("sent at seconds %v, want none after it was acknowledged", got)
		}
		b.activate(t, "p", "two")
		b.after(time.Second)
		if got := w.times(isRevision); len(got) != 5 {
			t.Errorf("sent at seconds %v, want the next one within a second", got)
		}
	})
}

// TestPollingFinds what nobody told of.
func TestPollingFinds(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.do(func() { b.away["Listen"] = true })
		w := b.greet(b.register(ada("p")))
		b.after(5 * time.Second)
		b.activate(t, "p", "one")
		b.after(pollEvery)
		if w.times(isRevision) == nil {
			t.Error("not found within a second")
		}
		b.do(func() { delete(b.sidecars, secretOf("ada")) })
		b.after(reviewEvery + pollEvery)
		b.wantEnd(w, codes.Unauthenticated)
	})
}

// soon is far below what polling takes.
const soon = 2 * debounce

// TestNothingWaitsForPolling that is told, or that a stream needs.
func TestNothingWaitsForPolling(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.after(time.Second + pollEvery/2)
		b.activate(t, "p", "one")
		s := b.register(ada("p"))
		b.after(soon)
		w := b.greet(s)
		b.after(soon)
		if len(w.times(isRevision)) != 1 {
			t.Error("the first sidecar of a set waits")
		}
		b.activate(t, "q", "one")
		b.after(soon)
		s.PolicySet, s.Version = "q", 2
		b.change(ChangedSidecars, func() { b.sidecars[secretOf("ada")] = s })
		b.after(2 * soon) // a round that finds it, and one for its set
		if len(w.times(isRevision)) != 2 {
			t.Error("a changed registration waits")
		}
		b.change(ChangedSidecars, func() { delete(b.sidecars, secretOf("ada")) })
		b.after(soon)
		b.wantEnd(w, codes.Unauthenticated)
	})
}

func TestListenComesBack(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.after(time.Second)
		b.cut()
		b.after(10 * time.Millisecond)
		if n := b.called("Listen"); n != 1 {
			t.Errorf("%d lines at once after a loss, want a pause", n)
		}
		b.after(listenRetry)
		if n := b.called("Listen"); n != 2 {
			t.Errorf("%d lines, want a second one", n)
		}
	})
}

// TestManyChangesAreFewQuestions: the database is not asked for each.
func TestManyChangesAreFewQuestions(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.after(time.Second)
		before := b.called("Epoch")
		for range 1000 {
			b.change("live_epoch", func() {})
			b.after(time.Millisecond)
		}
		if n := b.called("Epoch") - before; n > 60 {
			t.Errorf("asked %d times in a second of changes", n)
		}
		if n := b.called("Versions") + b.called("Connected"); n > 3 {
			t.Errorf("asked for registrations %d times, none of which changed", n)
		}
	})
}

func TestSlowReceiver(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		w := b.open(b.register(ada("p")))
		w.slow = 3 * time.Second
		w.up <- helloOf(nil)
		b.after(4 * time.Second) // Welcome is there, Live on its way
		for range 50 {
			b.activate(t, "p", time.Now().String())
			b.after(10 * time.Millisecond)
		}
		b.after(time.Minute)
		if got := w.all()[2].down.GetRevision().GetGeneration(); got != 50 {
			t.Errorf("generation %d is sent first, want the newest alone", got)
		}
		b.wantOpen(w)
	})
}

func TestStuckReceiver(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		w := b.open(b.register(ada("p")))
		w.stuck = true
		w.up <- helloOf(nil)
		b.after(sendWithin - 1)
		b.wantOpen(w)
		b.after(1)
		b.wantEnd(w, codes.DeadlineExceeded)
	})
}

func TestTheStreamsEndIsTheSidecars(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		w := b.greet(b.register(ada("p")))
		b.after(time.Second)
		close(w.up)
		b.wantEnd(w, codes.OK)
		if len(b.server.Status().Connected) != 0 {
			t.Error("it counts as connected")
		}
	})
}

func TestRecordsWaitForTheStore(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.do(func() { b.away["Store"] = true })
		w := b.greet(b.register(ada("p")))
		w.up <- &pb.Up{Message: &pb.Up_Records{Records: &pb.Records{Batch: 8, Records: [][]byte{[]byte("a")}}}}
		b.after(time.Minute)
		if got := w.times(isStored); got != nil {
			t.Fatalf("stored at %v while the store is away", got)
		}
		if n := b.called("Store"); n != 12 && n != 13 {
			t.Errorf("asked %d times in a minute, want each 5 s", n)
		}
		b.do(func() { clear(b.away) })
		b.after(storeRetry)
		if got := w.times(isStored); len(got) != 1 {
			t.Errorf("stored at %v, want once", got)
		}
		if d := cmp.Diff([]string{"a"}, b.stored["id-ada"]); d != "" {
			t.Errorf("stored (-want +got):\n%s", d)
		}
	})
}

func TestRecordsAreLetGoWithTheStream(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.do(func() { b.away["Store"] = true })
		w := b.greet(b.register(ada("p")))
		w.up <- &pb.Up{Message: &pb.Up_Records{Records: &pb.Records{Records: [][]byte{[]byte("a")}}}}
		b.after(time.Second)
		close(w.up)
		b.after(time.Minute)
		if n := b.called("Store"); n != 1 {
			t.Errorf("asked %d times, want none after the stream's end", n)
		}
		if n := b.server.recorder.held.Load(); n != 0 {
			t.Errorf("%d bytes are held", n)
		}
	})
}

func TestRecordsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.do(func() { b.hold = make(chan struct{}) })
		batch := &pb.Records{Records: [][]byte{make([]byte, mesh.MaxRecordBytes)}}
		kept := make(chan bool, 20)
		for range 20 {
			go func() { kept <- b.server.recorder.keep(t.Context(), mesh.Sidecar{ID: "x"}, batch) }()
		}
		synctest.Wait()
		b.do(func() {
			if b.busy != maxStoring {
				t.Errorf("%d are stored at once, want %d", b.busy, maxStoring)
			}
		})
		b.server.recorder.held.Add(maxHeldBytes - 20*mesh.MaxRecordBytes)
		if b.server.recorder.keep(t.Context(), mesh.Sidecar{}, batch) {
			t.Error("one beyond the bound is kept")
		}
		close(b.hold)
		for range 20 {
			if !<-kept {
				t.Error("a batch within the bound is let go")
			}
		}
		if n := b.server.recorder.held.Load(); n != maxHeldBytes-20*mesh.MaxRecordBytes {
			t.Errorf("%d bytes are held", n)
		}
	})
}

func TestReportsAreFlushedTogether(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		w := b.greet(b.register(ada("p")))
		for epoch := range int64(100) {
			w.up <- statusOf(&pb.Status{LiveEpoch: epoch})
		}
		b.after(flushEvery)
		if n := b.called("Report"); n != 1 || b.reported("id-ada").LiveEpoch != 99 {
			t.Errorf("%d calls, the newest of epoch %d; want one call, the newest report", n, b.reported("id-ada").LiveEpoch)
		}
		b.do(func() { b.away["Report"] = true })
		w.up <- statusOf(&pb.Status{LiveEpoch: 100})
		b.after(3 * flushEvery)
		b.do(func() { clear(b.away) })
		b.after(flushEvery)
		if got := b.reported("id-ada").LiveEpoch; got != 100 {
			t.Errorf("epoch %d after a failure, want what failed", got)
		}
	})
}

func TestAFloodDoesNotReachTheRegistry(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.do(func() { b.hold = make(chan struct{}) })
		errs := make(chan error, maxWaiting+1)
		for range maxWaiting {
			go func() {
				_, err := b.server.door.knock(context.Background(), credential{secret: "ghs_x"})
				errs <- err
			}()
		}
		synctest.Wait()
		b.do(func() {
			if b.busy != maxAsking {
				t.Errorf("%d are asked at once, want %d", b.busy, maxAsking)
			}
		})
		if _, err := b.server.door.knock(context.Background(), credential{}); err != errUnasked {
			t.Errorf("one more: %v, want to be refused at once", err)
		}
		b.after(knockTimeout)
		for range maxWaiting {
			if err := <-errs; err != errUnasked {
				t.Fatalf("got %v, want that nobody knows", err)
			}
		}
	})
}

func TestRatesAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.do(func() { b.hold = make(chan struct{}) })
		ctx := withCaller(t.Context(), caller{sidecar: ada("p")})
		errs := make(chan error, maxTakes)
		for range maxTakes {
			go func() {
				_, err := b.server.takeRate(ctx, oneAsk(""))
				errs <- err
			}()
		}
		synctest.Wait()
		if _, err := b.server.takeRate(ctx, oneAsk("")); err != errBusy {
			t.Errorf("one more: %v, want to be refused at once", err)
		}
		began := time.Now()
		for range maxTakes {
			if err := <-errs; err == nil {
				t.Fatal("decided while nobody answers")
			}
		}
		if took := time.Since(began); took != takeTimeout {
			t.Errorf("they waited %v, want %v", took, takeTimeout)
		}
	})
}

func TestRatesAskWhoCallsOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s := b.register(ada("p"))
		c := credential{secret: secretOf("ada"), hash: hash{'a'}}
		ask := func() {
			t.Helper()
			if got, err := b.server.identify(t.Context(), c); err != nil || got.sidecar.ID != s.ID {
				t.Fatalf("got %v, %v", got.sidecar, err)
			}
		}
		for range 3 {
			ask()
		}
		b.after(recentFor + 1)
		ask()
		if n := b.called("Authenticate"); n != 2 {
			t.Errorf("without a stream: asked %d times, want again after 5 s", n)
		}
		w := b.greet(s)
		b.after(time.Hour)
		for range 3 {
			ask()
		}
		if n := b.called("Authenticate"); n != 2 {
			t.Errorf("with a stream: asked %d times, want never", n-2)
		}
		b.do(func() { b.away["Versions"], b.away["Authenticate"] = true, true })
		b.after(registrationFor + reviewEvery)
		if _, err := b.server.identify(t.Context(), c); err != errUnasked {
			t.Errorf("with a registration that nobody confirms: %v", err)
		}
		b.wantOpen(w)
		b.do(func() { clear(b.away); delete(b.sidecars, secretOf("ada")) })
		b.after(reviewEvery)
		b.wantEnd(w, codes.Unauthenticated)
		if _, err := b.server.identify(t.Context(), c); err != errUnknown {
			t.Errorf("revoked: %v", err)
		}
	})
}

func TestTooManySidecars(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		for range maxSidecars {
			b.server.places <- struct{}{}
		}
		w := b.open(b.register(ada("p")))
		b.wantEnd(w, codes.ResourceExhausted)
		<-b.server.places
		again := b.greet(b.register(ada("p")))
		b.after(time.Second)
		b.wantOpen(again)
	})
}

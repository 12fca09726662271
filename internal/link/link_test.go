package link

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/link/linktest"
)

// Nothing but Hello goes up before control has welcomed the sidecar.
func TestLineGreetsFirst(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bed) {
		b.line.Record([]byte("{}"))
		b.line.Changed()
		st := b.server.Next()
		want := &sidecarpb.Hello{Incarnation: 7, Build: "v1", Status: &sidecarpb.Status{Generation: 1}}
		if diff := cmp.Diff(want, st.Hello, protocmp.Transform()); diff != "" {
			b.t.Errorf("hello (-want +got):\n%s", diff)
		}
		st.Follow(nil)
		synctest.Wait()
		if st.Heard() != 0 || b.line.Up() {
			b.t.Fatalf("before Welcome: %d messages, up %v", st.Heard(), b.line.Up())
		}
		st.Say(&sidecarpb.Welcome{})
		synctest.Wait()
		if st.Heard() != 2 || !b.line.Up() {
			b.t.Errorf("after Welcome: %d messages, want the record and the status; up %v", st.Heard(), b.line.Up())
		}
		st.End(nil)
		synctest.Wait()
		if b.line.Up() {
			b.t.Error("up without a stream")
		}
	})
}

// What control says is handed on in its order; what this build does not know is
// passed over.
func TestHandlerHearsInOrder(t *testing.T) {
	t.Parallel()
	b := onLoopback(t)
	st := b.server.Next()
	later := &sidecarpb.Down{}
	later.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 99, protowire.BytesType), []byte("new")))
	for _, m := range []any{
		&sidecarpb.Welcome{Name: "s"}, &sidecarpb.Live{Epoch: 2}, later, &sidecarpb.Revision{Generation: 3}, &sidecarpb.Beat{Epoch: 4}, &sidecarpb.Welcome{Name: "other"},
	} {
		st.Say(m)
	}
	for _, want := range []proto.Message{
		&sidecarpb.Welcome{Name: "s"}, &sidecarpb.Live{Epoch: 2}, &sidecarpb.Revision{Generation: 3}, &sidecarpb.Beat{Epoch: 4}, &sidecarpb.Welcome{Name: "other"},
	} {
		if got := <-b.heard; !proto.Equal(want, got.(proto.Message)) {
			t.Errorf("heard %v, want %v", got, want)
		}
	}
}

func TestStatusGoesUp(t *testing.T) {
	t.Parallel()
	b := onLoopback(t)
	st := b.welcomed()
	for i := range int64(3) {
		b.tell(&sidecarpb.Status{Generation: 10 + i})
		if got := st.Hear().GetStatus().GetGeneration(); got != 10+i {
			t.Errorf("change %d: generation %d went up", i, got)
		}
		st.Say(&sidecarpb.Beat{})
		if got := st.Hear().GetStatus().GetGeneration(); got != 10+i {
			t.Errorf("beat %d: generation %d went up", i, got)
		}
	}
}

// A stream that takes nothing holds up no more than what is under way: of the
// statuses that were, the last is the one that counts.
func TestNewestStatusWins(t *testing.T) {
	t.Parallel()
	const many = 500
	inBubble(t, func(b *bed) {
		st := b.welcomed()
		reason := strings.Repeat("x", 20<<10)
		for i := range int64(many) {
			b.tell(&sidecarpb.Status{Generation: i, Refused: &sidecarpb.Refused{Reason: reason}})
			synctest.Wait()
		}
		if n := b.statusAsked(); n > many/10 {
			b.t.Errorf("%d statuses wait in a stream that nobody reads", n)
		}
		st.Follow(nil)
		synctest.Wait()
		if got := st.Status().GetGeneration(); got != many-1 {
			b.t.Errorf("generation %d came last, want %d", got, many-1)
		}
	})
}

// A control that takes nothing up is given up.
func TestDeafControlIsGivenUp(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bed) {
		st, start := b.welcomed(), time.Now()
		reason := strings.Repeat("x", 200<<10)
		for range 3 { // the first ones are taken by gRPC's own buffers
			b.tell(&sidecarpb.Status{Refused: &sidecarpb.Refused{Reason: reason}})
			synctest.Wait()
		}
		<-st.Done()
		if took := time.Since(start); took < sendTimeout || took > sendTimeout+time.Second {
			b.t.Errorf("given up after %s", took)
		}
		synctest.Wait()
		if b.line.Up() || b.log.lines(errSilent.Error()) != 1 {
			b.t.Errorf("up %v, the log says:\n%s", b.line.Up(), b.log)
		}
		b.welcomed()
	})
}

// A control whose machine has gone is noticed although nobody says so.
func TestVanishedControlIsNoticed(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bed) {
		b.welcomed()
		start := time.Now()
		b.cut.Store(true)
		for b.line.Up() {
			time.Sleep(time.Second) // in the bubble
		}
		if took := time.Since(start); took < pingEvery || took > pingEvery+pingTimeout+2*time.Second {
			b.t.Errorf("noticed after %s", took)
		}
		b.cut.Store(false)
		b.welcomed()
	})
}

// However long control was away, and at whichever moment it comes back, the
// line is there soon after.
func TestBackSoonAfterALongSilence(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bed) {
		b.welcomed()
		for away := time.Minute; away < 2*time.Minute; away += 2300 * time.Millisecond {
			b.cut.Store(true)
			time.Sleep(away) // in the bubble
			b.cut.Store(false)
			back := time.Now()
			b.welcomed()
			if took, most := time.Since(back), dialTimeout+longestPause*3/2+time.Second; took > most {
				b.t.Errorf("away for %s: back after %s, want at most %s", away, took, most)
			}
		}
	})
}

// A control that greets back too late, or never, is left.
func TestSilentControlIsLeft(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bed) {
		st, start := b.server.Next(), time.Now()
		<-st.Done()
		if took := time.Since(start); took < greetTimeout || took > greetTimeout+time.Second {
			b.t.Errorf("left after %s", took)
		}
		b.welcomed()
		if b.log.lines(errSilent.Error()) != 1 {
			b.t.Errorf("the log says:\n%s", b.log)
		}
	})
}

// The pauses between tries grow to a bound, and begin anew after a welcome.
func TestPausesGrow(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bed) {
		st := b.welcomed()
		b.server.Refuse(linktest.Unavailable())
		ended := time.Now()
		st.End(linktest.Unavailable())
		time.Sleep(5 * time.Minute) // in the bubble
		tries := b.server.Tries()[1:]
		want := firstPause
		for i, try := range tries {
			if pause := try.At.Sub(ended); pause < want || pause > want+want/2 {
				b.t.Errorf("pause %d is %s, want %s and up to a half more", i, pause, want)
			}
			ended, want = try.At, min(2*want, longestPause)
		}
		if len(tries) < 20 {
			b.t.Errorf("%d tries", len(tries))
		}
		b.server.Refuse(nil)
		st = b.welcomed()
		ended = time.Now()
		st.End(nil)
		b.welcomed()
		if pause := time.Since(ended); pause > 2*firstPause {
			b.t.Errorf("after a welcome the pause is %s", pause)
		}
	})
}

// Control that does not know the credential: one line says what to do, and
// what stands in the file then is tried without a restart.
func TestUnknownCredential(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bed) {
		b.welcomed().End(linktest.Unavailable())
		b.server.SetSecret("gs_rotated")
		time.Sleep(time.Hour) // in the bubble; hundreds of tries, each told as the one before
		if n := b.log.lines("rotate its credential, and replace the credential file"); n != 1 {
			b.t.Errorf("said %d times; the log says:\n%s", n, b.log)
		}
		before := len(b.server.Tries())
		b.holds("gs_rotated", nil)
		b.welcomed()
		if tries := b.server.Tries(); len(tries) != before+1 || tries[before].Secret != "Bearer gs_rotated" {
			b.t.Errorf("%d tries, the last with %q", len(tries)-before, tries[len(tries)-1].Secret)
		}
		if strings.Contains(b.log.String(), "gs_") {
			b.t.Error("the credential is in the log")
		}
	})
}

// A credential that can't be read is no credential that control does not know.
func TestUnreadableCredential(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bed) {
		st := b.welcomed()
		b.holds("", errUnreadable)
		st.End(nil)
		time.Sleep(time.Minute) // in the bubble
		if len(b.server.Tries()) != 1 || b.log.lines(errUnreadable.Error()) != 1 || b.log.lines("does not know") != 0 {
			b.t.Errorf("%d tries; the log says:\n%s", len(b.server.Tries()), b.log)
		}
		b.holds(secret, nil)
		b.welcomed()
	})
}

// Whoever is not control learns nothing.
func TestCredentialIsForControlAlone(t *testing.T) {
	t.Parallel()
	control, impostor := linktest.New(t, secret), linktest.New(t, secret)
	b := prepare(t, impostor)
	o := b.options()
	o.TLS = trusting(control.CA)
	line, err := New(o)
	check(t, err)
	defer line.Close()
	if welcomed, err := line.session(t.Context()); welcomed || err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("welcomed %v: %v", welcomed, err)
	}
	if tries := impostor.Tries(); len(tries) != 0 {
		t.Errorf("the impostor got %v", tries)
	}
}

// A server in clear is sent a TLS hello and nothing else.
func TestNothingGoesInClear(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	got := make(chan []byte, 100)
	go func() {
		defer close(got)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 16<<10)
			n, _ := conn.Read(buf)
			got <- buf[:n]
			_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = conn.Close()
		}
	}()
	b := prepare(t, linktest.New(t, secret))
	o := b.options()
	o.Address = l.Addr().String()
	line, err := New(o)
	check(t, err)
	if _, err := line.session(t.Context()); err == nil {
		t.Error("a stream in clear")
	}
	line.Close()
	check(t, l.Close())
	for first := range got {
		if len(first) == 0 || first[0] != 0x16 || strings.Contains(string(first), secret) { // RFC 8446, 5.1: handshake
			t.Errorf("sent %q", first)
		}
	}
	if _, err := grpc.NewClient("x", grpc.WithPerRPCCredentials(bearer(o.Secret))); err == nil || !bearer(o.Secret).RequireTransportSecurity() {
		t.Error("the credential does not demand TLS")
	}
}

// Records go up in bounded batches, one at a time, in order; the one under way
// goes again on the next stream, under its number.
func TestRecordsGoUp(t *testing.T) {
	t.Parallel()
	const all = 1200
	inBubble(t, func(b *bed) {
		st := b.welcomed()
		for i := range all {
			b.line.Record(fmt.Appendf(nil, `{"n":%d}`, i))
		}
		first := recordsOf(st)
		st.Say(&sidecarpb.Stored{Batch: first.GetBatch() + 5}) // no batch of ours
		st.Follow(nil)
		synctest.Wait()
		if st.Heard() != 0 {
			b.t.Fatal("a second batch is under way")
		}
		st.End(linktest.Unavailable())
		st = b.welcomed()
		again := recordsOf(st)
		if diff := cmp.Diff(first, again, protocmp.Transform()); diff != "" {
			b.t.Fatalf("sent again (-want +got):\n%s", diff)
		}
		var got [][]byte
		for r := again; ; r = recordsOf(st) {
			if len(r.GetRecords()) > 512 || len(r.GetRecords()) == 0 {
				b.t.Fatalf("a batch of %d", len(r.GetRecords()))
			}
			got = append(got, r.GetRecords()...)
			st.Say(&sidecarpb.Stored{Batch: r.GetBatch()})
			if len(got) == all {
				break
			}
		}
		for i, r := range got {
			if want := fmt.Sprintf(`{"n":%d}`, i); string(r) != want {
				b.t.Fatalf("record %d is %s", i, r)
			}
		}
		st.Follow(nil)
		synctest.Wait()
		if st.Heard() != 0 || b.dropped != 0 {
			b.t.Errorf("%d messages more, %d dropped", st.Heard(), b.dropped)
		}
	})
}

// Without a line records wait, as many as there is room for.
func TestRecordsWithoutALineAreBounded(t *testing.T) {
	t.Parallel()
	b := prepare(t, linktest.New(t, secret))
	line, err := New(b.options())
	check(t, err)
	defer line.Close()
	for range queueLength + 10 {
		line.Record([]byte("{}"))
	}
	if b.dropped != 10 {
		t.Errorf("%d dropped, want 10", b.dropped)
	}
}

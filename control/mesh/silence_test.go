package mesh

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/apierr"
	"gatehouse/internal/pgtest"
)

// hole passes on what goes to a server and comes from it, until it is closed:
// then it takes all and passes nothing on, as a lost network does.
type hole struct {
	net.Conn
	closed atomic.Bool
}

func (h *hole) Write(b []byte) (int, error) {
	if h.closed.Load() {
		return len(b), nil
	}
	return h.Conn.Write(b)
}

// through connects to an empty database through a hole.
func through(t *testing.T) (*pgx.Conn, *hole) {
	t.Helper()
	config, err := pgx.ParseConfig(pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	h := &hole{}
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		h.Conn = c
		return h, err
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leave(context.Background(), conn) })
	return conn, h
}

func TestSilenceIsAnsweredFor(t *testing.T) {
	t.Parallel()
	conn, _ := through(t)
	if _, err := conn.Exec(t.Context(), listen); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if told, err := next(t.Context(), conn, time.Millisecond); told != "" || err != nil {
			t.Fatalf("got %q and %v of a quiet server", told, err)
		}
	}
	if _, err := conn.Exec(t.Context(), `SELECT pg_notify('gatehouse_mesh', 'sidecars')`); err != nil {
		t.Fatal(err)
	}
	if told, err := next(t.Context(), conn, time.Minute); told != "sidecars" || err != nil {
		t.Errorf("got %q and %v after the silence", told, err)
	}
}

func TestLostNetworkIsNoticed(t *testing.T) {
	t.Parallel()
	conn, h := through(t)
	h.closed.Store(true)
	begin := time.Now()
	err := follow(t.Context(), conn, time.Millisecond, func(table string) { t.Errorf("told of %q", table) })
	if err == nil || apierr.From(answer(err)).HTTP() != statusAway {
		t.Errorf("got %v, want the database to be away", err)
	}
	if took := time.Since(begin); took > 10*pingTimeout {
		t.Errorf("it took %v", took)
	}
}

func TestServerThatEndsIsNoticed(t *testing.T) {
	t.Parallel()
	conn, h := through(t)
	if err := h.Conn.Close(); err != nil {
		t.Fatal(err)
	}
	if told, err := next(t.Context(), conn, time.Minute); err == nil || apierr.From(answer(err)).HTTP() != statusAway {
		t.Errorf("got %q and %v, want the database to be away", told, err)
	}
}

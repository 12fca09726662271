package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatehouse/budget"
	"gatehouse/internal/certtest"
	"gatehouse/internal/deadletter"
	"gatehouse/internal/ledger"
	"gatehouse/internal/link"
	"gatehouse/internal/pgserver"
	"gatehouse/internal/pgtest"
	"gatehouse/internal/seal"
)

// lender is a replica with a sidecar of org1, and that sidecar's side of the ledger.
type lender struct {
	*replica
	admin, secret string
	roots         *x509.CertPool
}

func newLender(t *testing.T, database string) *lender {
	t.Helper()
	certFile, keyFile := certtest.New(t).Files(t)
	text, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	l := &lender{roots: x509.NewCertPool()}
	l.roots.AppendCertsFromPEM(text)
	l.replica = start(t, database, "MESH_CERT_FILE", certFile, "MESH_KEY_FILE", keyFile, "MESH_PORT", "0")
	l.admin = l.token("admin", "admin123")
	if _, err := l.app.pool.Exec(t.Context(), `INSERT INTO policy_sets (name) VALUES ('main')`); err != nil {
		t.Fatal(err)
	}
	status, body, _ := l.call("POST", "/api/v1/mesh/sidecars", l.admin, map[string]string{"name": "one", "tenant_id": "org1", "policy_set": "main"})
	if status != 201 {
		t.Fatalf("register: %d %v", status, body)
	}
	l.secret, _ = body["credential"].(map[string]any)["credential"].(string)
	status, body, _ = l.call("POST", "/api/v1/budget/limits", l.admin, map[string]any{"tenant_id": "org1", "window": "total", "tokens": 1000})
	if status != 201 {
		t.Fatalf("limit: %d %v", status, body)
	}
	return l
}

// silent is a sidecar without a Sync stream.
type silent struct{ link.Handler }

// client is a sidecar's process; stop ends it in order.
func (l *lender) client(dir string, incarnation int64) (c *ledger.Client, stop func()) {
	l.t.Helper()
	line, err := link.New(link.Options{
		Address: l.app.MeshAddr(), TLS: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: l.roots}, Handler: silent{},
		Secret: func() (string, error) { return l.secret, nil }, Build: "test", Incarnation: incarnation, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		l.t.Fatal(err)
	}
	if c, err = ledger.Open(ledger.Options{Dir: dir, Incarnation: incarnation, Line: line}); err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	stop = sync.OnceFunc(func() { cancel(); wg.Wait(); c.Close(); line.Close() })
	l.t.Cleanup(stop)
	l.until("there is a line", func() bool { return c.Status().Connected })
	return c, stop
}

// until waits until something is so.
func (l *lender) until(what string, is func() bool) {
	l.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(time.Minute); !is(); {
		select {
		case <-tick.C:
		case <-late:
			l.t.Fatalf("never: %s", what)
		}
	}
}

func inline(id string) budget.Key { return budget.Key{Origin: budget.Inline, ID: id, Attempt: 1} }

func (l *lender) hold(c *ledger.Client, id string) (budget.Answer, error) {
	return c.Reserve(l.t.Context(), "org1", budget.Hold{Key: inline(id), Tokens: 10, TTL: time.Hour})
}

// figures are what org1 has used and holds.
func (l *lender) figures() (used, reserved int64) {
	l.t.Helper()
	if err := l.app.pool.QueryRow(l.t.Context(), `SELECT used, reserved FROM budget_limits`).Scan(&used, &reserved); err != nil {
		l.t.Fatal(err)
	}
	return used, reserved
}

func (l *lender) wantFigures(what string, used, reserved int64) {
	l.t.Helper()
	if u, r := l.figures(); u != used || r != reserved {
		l.t.Errorf("%s: %d used and %d held, want %d and %d", what, u, r, used, reserved)
	}
}

// TestLedger is what sidecars hold, over the whole of a replica: held, settled once,
// refused into one dead letter, and charged when a later process has replayed.
func TestLedger(t *testing.T) {
	t.Parallel()
	l := newLender(t, pgtest.Empty(t))
	dir := t.TempDir()
	c, stop := l.client(dir, 1)
	for _, id := range []string{"used", "given back", "open"} {
		if a, err := l.hold(c, id); err != nil || a.Verdict != budget.Held {
			t.Fatalf("%s: %+v, %v", id, a, err)
		}
	}
	l.wantFigures("held", 0, 30)
	commit := budget.Settlement{Key: inline("used"), Action: budget.Commit, Tokens: 4}
	c.Settle("org1", commit)
	c.Settle("org1", commit)
	c.Settle("org1", budget.Settlement{Key: inline("given back"), Action: budget.Release})
	for range 2 {
		c.Settle("org1", budget.Settlement{Key: inline("never held"), Action: budget.Commit, Tokens: 77})
	}
	l.until("all is answered", func() bool { return c.Status().Waiting == 0 })
	l.wantFigures("settled", 4, 10)
	stop()

	second, _ := l.client(dir, 2)
	l.until("what was left is closed", func() bool { return second.Status().HandedOver })
	l.wantFigures("closed", 14, 0)
	l.wantLetter("not_found", `"tokens":77`)
}

// wantLetter wants one dead letter, of a kind, whose payload holds a text.
func (l *lender) wantLetter(kind, holds string) {
	l.t.Helper()
	var n int
	var tenant, source, id, got string
	var sealed []byte
	row := l.app.pool.QueryRow(l.t.Context(), `SELECT count(*) OVER (), tenant_id, source, message_id, kind, payload FROM dlq_messages`)
	if err := row.Scan(&n, &tenant, &source, &id, &got, &sealed); err != nil {
		l.t.Fatal(err)
	}
	box, err := seal.New([]byte(strings.Repeat("s", 32)), nil) // that of environment
	if err != nil {
		l.t.Fatal(err)
	}
	payload, err := deadletter.Open(box, source, id, sealed)
	if err != nil || n != 1 || tenant != "org1" || source != "settlement" || got != kind || !strings.Contains(string(payload), holds) {
		l.t.Errorf("%d letters, one of %s: %s %s %s, %v", n, tenant, source, got, payload, err)
	}
}

// TestDatabaseKilledUnderHolds: no new ones, within their time; what is settled
// meanwhile counts once when the database is back.
func TestDatabaseKilledUnderHolds(t *testing.T) {
	t.Parallel()
	server, o := ownServer(t)
	l := newLender(t, server.URL())
	c, _ := l.client(t.TempDir(), 1)
	if a, err := l.hold(c, "a"); err != nil || a.Verdict != budget.Held {
		t.Fatal(a, err)
	}
	if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-server.Done()
	early := 0
	l.until("the server's processes have noticed", func() bool { // one may do what it was asked before
		early++
		id := fmt.Sprint("early", early)
		a, err := l.hold(c, id)
		if err == nil && a.Verdict == budget.Held {
			c.Settle("org1", budget.Settlement{Key: inline(id), Action: budget.Release})
		}
		return errors.Is(err, budget.ErrUnavailable)
	})
	for _, id := range []string{"b", "c"} {
		began := time.Now()
		a, err := l.hold(c, id)
		if !errors.Is(err, budget.ErrUnavailable) {
			t.Errorf("%s: %+v, %v", id, a, err)
		}
		if took := time.Since(began); took > 10*time.Second { // 1.5 s, on a machine that has the time
			t.Errorf("it took %s", took)
		}
	}
	c.Settle("org1", budget.Settlement{Key: inline("a"), Action: budget.Commit, Tokens: 3})
	server.Stop() // lets go of the folder
	o.Port = server.Port()
	again, err := pgserver.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Stop)
	l.ready()
	l.until("all is settled", func() bool {
		used, reserved := l.figures()
		return used == 3 && reserved == 0
	})
	l.until("all is answered", func() bool { st := c.Status(); return st.Waiting == 0 && st.SpoolBytes <= 8 })
	if a, err := l.hold(c, "d"); err != nil || a.Verdict != budget.Held {
		t.Errorf("later: %+v, %v", a, err)
	}
	if st := c.Status(); st.Lost != 0 || st.Refused != 0 {
		t.Errorf("%+v", st)
	}
}

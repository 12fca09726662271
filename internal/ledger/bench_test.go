package ledger

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/budget"
	"gatehouse/budget/postgres"
	"gatehouse/internal/deadletter"
	"gatehouse/internal/pgserver"
	"gatehouse/internal/pgtest"
	ours "gatehouse/internal/postgres"
	"gatehouse/internal/request"
	"gatehouse/migrations"
)

// BenchmarkReserve is holds of one tenant over the real line, TLS and gRPC included,
// each of which is committed too; with a ledger in memory, and in a Postgres whose
// commits reach the disk.
func BenchmarkReserve(b *testing.B) {
	for _, callers := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprint("memory/", callers), func(b *testing.B) { measure(b, newControl(b), callers) })
	}
	for _, callers := range []int{8, 64, 256, 512} {
		b.Run(fmt.Sprint("postgres/", callers), func(b *testing.B) {
			c := &control{t: b, letters: letters{all: map[string]deadletter.Letter{}}}
			c.serve(durable(b))
			measure(b, c, callers)
		})
	}
}

// durable is a ledger on a server of its own.
func durable(b *testing.B) *postgres.Store {
	b.Helper()
	dir, err := os.MkdirTemp("", "gatehouse-bench-")
	check(b, err)
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	check(b, os.Chmod(dir, 0o711)) // the server's user passes
	server, err := pgserver.Start(b.Context(), pgserver.Options{Dir: dir, Bin: pgtest.Bin(b), Durable: true})
	check(b, err)
	b.Cleanup(server.Stop)
	_, err = migrations.Up(b.Context(), server.URL(), slog.New(slog.DiscardHandler))
	check(b, err)
	pool, err := ours.Open(b.Context(), server.URL())
	check(b, err)
	b.Cleanup(pool.Close)
	for _, sql := range []string{
		`INSERT INTO tenants (id) VALUES ('org1')`, `INSERT INTO projects (tenant_id, id) VALUES ('org1', 'p1')`, `INSERT INTO policy_sets (name) VALUES ('p')`,
		`INSERT INTO sidecars (id, tenant_id, name, policy_set, credential_hash) VALUES ('` + ada + `', 'org1', 'ada', 'p', sha256('a'))`,
	} {
		_, err := pool.Exec(b.Context(), sql)
		check(b, err)
	}
	s, err := postgres.New(postgres.Options{Pool: pool})
	check(b, err)
	for _, project := range []string{"", "p1"} {
		_, err := s.CreateLimit(b.Context(), request.Principal{}, budget.Limit{Tenant: "org1", Project: project, Window: budget.Total, Zone: "UTC", Tokens: budget.MaxLimit})
		check(b, err)
	}
	return s
}

func measure(b *testing.B, c *control, callers int) {
	s := c.sidecar(ada, b.TempDir(), 1)
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				id, begin := fmt.Sprint(n), time.Now()
				if a, err := s.Reserve(b.Context(), "org1", hold(id)); err != nil || a.Verdict != budget.Held {
					b.Error(a, err)
					return
				}
				took[n-1] = time.Since(begin)
				s.Settle("org1", commit(id, 5))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "holds/s")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

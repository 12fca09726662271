package postgres_test

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
	"gatehouse/internal/pgserver"
	"gatehouse/internal/pgtest"
	ours "gatehouse/internal/postgres"
	"gatehouse/migrations"
)

// durable is a fixture on a server whose commits reach the disk: figures of one
// that skips it would be of no use.
func durable(b *testing.B) *fixture {
	b.Helper()
	dir, err := os.MkdirTemp("", "gatehouse-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil { // the server's user passes
		b.Fatal(err)
	}
	server, err := pgserver.Start(b.Context(), pgserver.Options{Dir: dir, Bin: pgtest.Bin(b), Durable: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Stop)
	if _, err := migrations.Up(b.Context(), server.URL(), slog.New(slog.DiscardHandler)); err != nil {
		b.Fatal(err)
	}
	pool, err := ours.Open(b.Context(), server.URL())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	return fixtureOn(b, pool)
}

// BenchmarkCoalesced is holds of one hot tenant through a Batcher, and their
// settlements, with a limit of the tenant and one of the project. It reports
// operations per second and how long callers wait.
func BenchmarkCoalesced(b *testing.B) {
	for _, callers := range []int{8, 64, 256, 512} {
		b.Run(fmt.Sprint("reserve/", callers), func(b *testing.B) { coalesced(b, callers, false) })
	}
	b.Run("settle/256", func(b *testing.B) { coalesced(b, 256, true) })
}

func coalesced(b *testing.B, callers int, settle bool) {
	f := durable(b)
	org := f.tenant(b)
	f.limit(b, org, budget.MaxLimit)
	reserve := budget.NewBatcher(f.Reserve)
	defer reserve.Stop()
	commit := budget.NewBatcher(f.Settle)
	defer commit.Stop()
	b.ReportAllocs()
	measure(b, callers, settle, func(n int64, settling bool) error {
		h := hold(fmt.Sprintf("%d/%d", callers, n), 100)
		if settling {
			r, err := commit.Do(b.Context(), org, budget.Settlement{Key: h.Key, Action: budget.Commit, Tokens: 50})
			if err == nil && r.Outcome != budget.Done {
				return fmt.Errorf("settled: %s", r.Outcome)
			}
			return err
		}
		a, err := reserve.Do(b.Context(), org, h)
		if err == nil && a.Verdict != budget.Held {
			return fmt.Errorf("asked: %s", a.Verdict)
		}
		return err
	})
}

// measure runs b.N operations from callers; with settle each is asked for before
// the clock runs.
func measure(b *testing.B, callers int, settle bool, do func(n int64, settling bool) error) {
	run := func(settling bool) []time.Duration {
		var next atomic.Int64
		took := make([]time.Duration, b.N)
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
					begin := time.Now()
					if err := do(n, settling); err != nil {
						b.Error(err)
						return
					}
					took[n-1] = time.Since(begin)
				}
			})
		}
		wg.Wait()
		return took
	}
	if settle {
		run(false)
	}
	b.ResetTimer()
	took := run(settle)
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
}

// BenchmarkReserve is one hold in one call, without anybody to share it with.
func BenchmarkReserve(b *testing.B) {
	f := durable(b)
	org := f.tenant(b)
	f.limit(b, org, budget.MaxLimit)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		a, err := f.Reserve(b.Context(), org, []budget.Hold{hold(fmt.Sprint(n), 100)})
		if err != nil || a[0].Verdict != budget.Held {
			b.Fatal(a, err)
		}
	}
}

package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"gatehouse/budget"
	"gatehouse/budget/postgres"
	"gatehouse/internal/request"
)

const (
	workers   = 6
	perWorker = 60
)

// TestConcurrentHistories lets workers, sweeps and changes of the limits loose on
// two tenants through several stores, and looks at every snapshot it can get:
// each must be in balance. Afterwards the journal, read in its order, must be a
// history that the rules allow.
func TestConcurrentHistories(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	orgs := []string{f.tenant(t), f.tenant(t)}
	for _, org := range orgs {
		f.limit(t, org, 400)
		whole := limitOf(org, 600)
		whole.Project = ""
		if _, err := f.CreateLimit(t.Context(), request.Principal{}, whole); err != nil {
			t.Fatal(err)
		}
		f.begin(t, org)
	}
	done := make(chan struct{})
	var watch, work sync.WaitGroup
	snapshots := 0
	watch.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				var faults string
				if err := f.pool.QueryRow(t.Context(), unbalanced).Scan(&faults); err != nil || faults != "" {
					t.Errorf("snapshot %d: %v\n%s", snapshots, err, faults)
				}
				snapshots++
			}
		}
	})
	for w := range workers {
		work.Go(func() { f.work(t, orgs[w%len(orgs)], rand.New(rand.NewPCG(7, uint64(w)))) })
	}
	work.Wait()
	close(done)
	watch.Wait()
	if snapshots < 10 {
		t.Errorf("only %d snapshots were seen", snapshots)
	}
	f.balanced(t)
	for _, org := range orgs {
		f.replay(t, org)
	}
}

// begin settles two holds, so that the history has each way whatever the workers
// come to do.
func (f *fixture) begin(t *testing.T, org string) {
	t.Helper()
	a, b := hold("commit first", 10), hold("release first", 10)
	if _, err := f.Reserve(t.Context(), org, []budget.Hold{a, b}); err != nil {
		t.Fatal(err)
	}
	all := []budget.Settlement{{Key: a.Key, Action: budget.Commit, Tokens: 5}, {Key: b.Key, Action: budget.Release}}
	for i := range all {
		all[i].Project = "p1"
	}
	results, err := f.Settle(t.Context(), org, all)
	if err != nil || results[0].Outcome != budget.Done || results[1].Outcome != budget.Done {
		t.Fatalf("%+v, %v", results, err)
	}
}

// work is one worker's calls. Keys are shared by all, so that calls of one key
// meet.
func (f *fixture) work(t *testing.T, org string, r *rand.Rand) {
	s, err := postgres.New(postgres.Options{Pool: f.pool, Now: f.clock.Now})
	if err != nil {
		t.Error(err)
		return
	}
	for range perWorker {
		if err := f.act(t.Context(), s, org, r); err != nil {
			t.Error(err)
		}
	}
}

func (f *fixture) act(ctx context.Context, s *postgres.Store, org string, r *rand.Rand) error {
	one := func() budget.Hold {
		h := hold(fmt.Sprint(r.IntN(60)), 1+r.Int64N(80))
		if r.IntN(2) == 0 {
			h.Origin, h.Sidecar = budget.Inline, f.sidecars[0]
		}
		h.TTL = time.Duration(1+r.IntN(5)) * time.Minute
		return h
	}
	switch n := r.IntN(20); {
	case n < 8:
		_, err := s.Reserve(ctx, org, []budget.Hold{one(), one(), one()})
		return err
	case n < 16:
		var all []budget.Settlement
		for range 3 {
			h := one()
			a := []budget.Action{budget.Commit, budget.Commit, budget.Release, budget.TopUp}[r.IntN(4)]
			t := budget.Settlement{Key: h.Key, Action: a, Tokens: 1 + r.Int64N(90), Sidecar: h.Sidecar}
			if a == budget.Release {
				t.Tokens = 0
			}
			all = append(all, t)
		}
		_, err := s.Settle(ctx, org, all)
		return err
	case n < 18:
		f.clock.Advance(30 * time.Second)
		_, err := s.Expire(ctx)
		return err
	case n < 19:
		_, err := s.CloseSidecar(ctx, f.sidecars[0], 1)
		return err
	default:
		p, err := s.Limits(ctx, org, "", 10)
		if err != nil {
			return err
		}
		_, err = s.SetLimit(ctx, request.Principal{}, org, p.Items[r.IntN(len(p.Items))].ID, 0, 100+r.Int64N(2000))
		return err
	}
}

// replay reads a tenant's journal in its order: nothing was held without room,
// nothing was overrun while there was room.
func (f *fixture) replay(t *testing.T, org string) {
	t.Helper()
	var lines []budget.Line
	for q := (budget.Query{Limit: budget.MaxPage}); ; {
		p, err := f.Journal(t.Context(), org, q)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, p.Items...)
		if q.Before = p.Next; q.Before == "" {
			break
		}
	}
	rows, kinds := map[string]*budget.Row{}, map[budget.Kind]int{}
	for i := len(lines) - 1; i >= 0; i-- {
		l := lines[i]
		kinds[l.Kind]++
		if rows[l.Row] == nil {
			rows[l.Row] = new(budget.NewRow(l.Limit))
		}
		row := rows[l.Row]
		if l.Kind == budget.KindLimit {
			row.SetLimit(l.Limit)
		}
		if l.Delta.Reserved > row.Available() {
			t.Errorf("line %d holds %d, and %d was available", l.ID, l.Delta.Reserved, row.Available())
		}
		row.Used, row.Reserved, row.Overrun = row.Used+l.Used, row.Reserved+l.Delta.Reserved, row.Overrun+l.Overrun
		if l.Overrun > 0 && row.Available() > 0 {
			t.Errorf("line %d overruns, and %d was available", l.ID, row.Available())
		}
		row.SetLimit(row.Limit)
	}
	for _, k := range []budget.Kind{budget.KindReserve, budget.KindCommit, budget.KindRelease, budget.KindExpire, budget.KindLimit} {
		if kinds[k] == 0 {
			t.Errorf("no %s happened: %v", k, kinds)
		}
	}
}

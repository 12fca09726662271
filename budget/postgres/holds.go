package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"gatehouse/budget"
)

const (
	reserve      = `SELECT * FROM budget_reserve($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)`
	settle       = `SELECT * FROM budget_settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`
	expire       = `SELECT budget_sweep($1, NULL, 0, $2)`
	closeSidecar = `SELECT budget_sweep($1, $2, $3, $4)`
)

// Reserve implements budget.Holds.
func (s *Store) Reserve(ctx context.Context, tenant string, holds []budget.Hold) ([]budget.Answer, error) {
	if err := check(holds); err != nil {
		return nil, err
	}
	answers := make([]budget.Answer, len(holds))
	for _, round := range rounds(holds, func(h budget.Hold) budget.Key { return h.Key }) {
		if err := s.reserve(ctx, tenant, holds, round, answers); err != nil {
			return nil, fault("reserve", err)
		}
	}
	return answers, nil
}

// rounds splits items so that no two of a round have the same key, and each is
// behind those of its key that came before it. Nearly always it is one round.
func rounds[I any](items []I, key func(I) budget.Key) (all [][]int) {
	seen := make(map[budget.Key]int, len(items))
	for i, item := range items {
		round := seen[key(item)]
		seen[key(item)]++
		if round == len(all) {
			all = append(all, make([]int, 0, len(items)))
		}
		all[round] = append(all[round], i)
	}
	return all
}

// reserve makes one round of answers.
func (s *Store) reserve(ctx context.Context, tenant string, holds []budget.Hold, round []int, answers []budget.Answer) error {
	c := newHoldColumns(len(round))
	for _, i := range round {
		c.add(holds[i])
	}
	return s.ask(ctx, reserve, c.args(tenant, s.at()), func(n int, outcome string, r budget.Request) error {
		if n < 0 || n >= len(round) {
			return fmt.Errorf("answer %d of %d", n, len(round))
		}
		h := holds[round[n]]
		a, err := answer(h, outcome, r)
		answers[round[n]] = a
		return err
	})
}

// answer reads an outcome of budget_reserve.
func answer(h budget.Hold, outcome string, r budget.Request) (budget.Answer, error) {
	r.Key = h.Key
	switch outcome {
	case "new":
		if r.State == budget.Denied {
			return budget.Answer{Verdict: budget.Refused, Request: r}, nil
		}
		return budget.Answer{Verdict: budget.Held, Request: r}, nil
	case "same", "other":
		return budget.Found(r, outcome == "same"), nil
	case "unknown_project", "unknown_sidecar":
		d := &budget.Denial{Reason: budget.Reason(outcome), Requested: h.Tokens}
		return budget.Answer{Verdict: budget.Refused, Request: budget.Request{Key: h.Key, Project: h.Project, Denial: d}}, nil
	}
	return budget.Answer{}, fmt.Errorf("unknown outcome %q", outcome)
}

// ask calls a function that returns rows of budget_answer, in any order. n
// counts from 0. INVARIANT: one statement outside a transaction is one: all of
// it is done, or nothing.
func (s *Store) ask(ctx context.Context, sql string, args []any, each func(n int, outcome string, r budget.Request) error) error {
	rows, err := s.o.Pool.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	var (
		n       int
		outcome string
		r       requestColumns
		count   int
	)
	_, err = pgx.ForEachRow(rows, append([]any{&n, &outcome}, r.dest()...), func() error {
		count++
		request, err := r.request()
		if err != nil {
			return err
		}
		return each(n-1, outcome, request)
	})
	if err == nil && count == 0 {
		return fmt.Errorf("no answers")
	}
	return err
}

// Settle implements budget.Holds.
func (s *Store) Settle(ctx context.Context, tenant string, settlements []budget.Settlement) ([]budget.Result, error) {
	if err := check(settlements); err != nil {
		return nil, err
	}
	results := make([]budget.Result, len(settlements))
	for _, round := range rounds(settlements, func(t budget.Settlement) budget.Key { return t.Key }) {
		if err := s.settle(ctx, tenant, settlements, round, results); err != nil {
			return nil, fault("settle", err)
		}
	}
	return results, nil
}

// settle makes one round of results.
func (s *Store) settle(ctx context.Context, tenant string, settlements []budget.Settlement, round []int, results []budget.Result) error {
	c := newSettleColumns(len(round))
	for _, i := range round {
		c.add(settlements[i])
	}
	return s.ask(ctx, settle, c.args(tenant, s.at()), func(n int, outcome string, r budget.Request) error {
		if n < 0 || n >= len(round) {
			return fmt.Errorf("result %d of %d", n, len(round))
		}
		t, o := settlements[round[n]], budget.Outcome(outcome)
		if !slices.Contains(outcomes(), o) {
			return fmt.Errorf("unknown outcome %q", outcome)
		}
		if o != budget.NotFound {
			r.Key = t.Key
		}
		results[round[n]] = budget.Result{Outcome: o, Replayed: budget.Repeats(t, o, r), Request: r}
		return nil
	})
}

func outcomes() []budget.Outcome {
	return []budget.Outcome{budget.Done, budget.NoRoom, budget.AlreadyCommitted, budget.AlreadyReleased, budget.AlreadyExpired, budget.NeverHeld, budget.NotFound}
}

// Expire implements budget.Holds.
func (s *Store) Expire(ctx context.Context) (n int, err error) {
	err = s.o.Pool.QueryRow(ctx, expire, s.at(), budget.MaxSweep).Scan(&n)
	return n, fault("expire", err)
}

// CloseSidecar implements budget.Holds.
func (s *Store) CloseSidecar(ctx context.Context, sidecar string, below int64) (n int, err error) {
	if !budget.IsID(sidecar) {
		return 0, nil // nobody's
	}
	err = s.o.Pool.QueryRow(ctx, closeSidecar, s.at(), sidecar, below, budget.MaxSweep).Scan(&n)
	return n, fault("closing a sidecar's holds", err)
}

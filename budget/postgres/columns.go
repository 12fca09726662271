package postgres

import (
	"encoding/json"
	"fmt"
	"time"

	"gatehouse/budget"
)

// requestColumns are the columns of budget_answer behind n and outcome; NULL is
// the zero value.
type requestColumns struct {
	project, state            *string
	reserved, actual, overrun *int64
	late, flagged             *bool
	denial                    []byte
	created, expires, settled *time.Time
}

const requestFields = `project_id, state, reserved_tokens, actual_tokens, overrun_tokens, late, flagged, denial, created_at, expires_at, settled_at`

func (c *requestColumns) dest() []any {
	return []any{&c.project, &c.state, &c.reserved, &c.actual, &c.overrun, &c.late, &c.flagged, &c.denial, &c.created, &c.expires, &c.settled}
}

// request is the request without its key.
func (c *requestColumns) request() (budget.Request, error) {
	r := budget.Request{
		Project: or(c.project), State: budget.State(or(c.state)), Reserved: or(c.reserved), Actual: or(c.actual), Overrun: or(c.overrun),
		Late: or(c.late), Flagged: or(c.flagged), Created: utc(c.created), Expires: utc(c.expires), Settled: utc(c.settled),
	}
	if len(c.denial) == 0 {
		return r, nil
	}
	r.Denial = &budget.Denial{}
	if err := json.Unmarshal(c.denial, r.Denial); err != nil {
		return r, fmt.Errorf("a denial: %w", err)
	}
	if d := r.Denial; d.ResetsAt != nil {
		d.ResetsAt = new(d.ResetsAt.UTC())
	}
	return r, nil
}

// or is what p points to, or the zero value.
func or[T any](p *T) T {
	if p == nil {
		var none T
		return none
	}
	return *p
}

func utc(p *time.Time) time.Time { return or(p).UTC() }

// holdColumns are the holds of a call, a column each.
type holdColumns struct {
	projects []string // the different ones, "" first
	place    map[string]int32
	scope    []int32 // each hold's place in projects, from 1

	origin, request                                   []string
	attempt                                           []int32
	tokens, ttlMS, incarnation                        []int64
	unlimited                                         []bool
	hash                                              [][]byte
	sidecar, model, task, purpose, subject, decisions []string
}

func newHoldColumns(n int) *holdColumns {
	c := &holdColumns{projects: []string{""}, place: map[string]int32{"": 1}}
	c.scope, c.attempt = make([]int32, 0, n), make([]int32, 0, n)
	for _, column := range []*[]string{&c.origin, &c.request, &c.sidecar, &c.model, &c.task, &c.purpose, &c.subject, &c.decisions} {
		*column = make([]string, 0, n)
	}
	for _, column := range []*[]int64{&c.tokens, &c.ttlMS, &c.incarnation} {
		*column = make([]int64, 0, n)
	}
	c.unlimited, c.hash = make([]bool, 0, n), make([][]byte, 0, n)
	return c
}

func (c *holdColumns) add(h budget.Hold) {
	if c.place[h.Project] == 0 {
		c.projects = append(c.projects, h.Project)
		c.place[h.Project] = int32(len(c.projects)) // at most MaxBatch + 1
	}
	c.scope = append(c.scope, c.place[h.Project])
	c.origin, c.request, c.attempt = append(c.origin, string(h.Origin)), append(c.request, h.ID), append(c.attempt, h.Attempt)
	c.tokens, c.ttlMS = append(c.tokens, h.Tokens), append(c.ttlMS, h.TTL.Milliseconds())
	c.unlimited, c.hash = append(c.unlimited, h.Unlimited), append(c.hash, h.BodyHash[:])
	c.sidecar, c.incarnation = append(c.sidecar, h.Sidecar), append(c.incarnation, h.Incarnation)
	c.model, c.task, c.purpose = append(c.model, h.Model), append(c.task, h.Task), append(c.purpose, h.Purpose)
	c.subject, c.decisions = append(c.subject, h.Subject), append(c.decisions, h.Decision)
}

func (c *holdColumns) args(tenant string, at *time.Time) []any {
	return []any{
		tenant, at, c.projects, c.scope, c.origin, c.request, c.attempt, c.tokens, c.unlimited, c.ttlMS, c.hash,
		c.sidecar, c.incarnation, c.model, c.task, c.purpose, c.subject, c.decisions,
	}
}

// settleColumns are the settlements of a call, a column each.
type settleColumns struct {
	origin, request, action, project, sidecar []string
	attempt                                   []int32
	tokens                                    []int64
	flagged                                   []bool
}

func newSettleColumns(n int) *settleColumns {
	c := &settleColumns{attempt: make([]int32, 0, n), tokens: make([]int64, 0, n), flagged: make([]bool, 0, n)}
	for _, column := range []*[]string{&c.origin, &c.request, &c.action, &c.project, &c.sidecar} {
		*column = make([]string, 0, n)
	}
	return c
}

func (c *settleColumns) add(t budget.Settlement) {
	c.origin, c.request, c.attempt = append(c.origin, string(t.Origin)), append(c.request, t.ID), append(c.attempt, t.Attempt)
	c.action, c.tokens, c.flagged = append(c.action, string(t.Action)), append(c.tokens, t.Tokens), append(c.flagged, t.Flagged)
	c.project, c.sidecar = append(c.project, t.Project), append(c.sidecar, t.Sidecar)
}

func (c *settleColumns) args(tenant string, at *time.Time) []any {
	return []any{tenant, at, c.origin, c.request, c.attempt, c.action, c.tokens, c.flagged, c.project, c.sidecar}
}

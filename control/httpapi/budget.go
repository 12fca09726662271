package httpapi

import (
	"context"
	"net/url"
	"time"

	apiv1 "gatehouse/api/v1"
	"gatehouse/budget"
)

// The document gives budgets the tenancy tenant; the ledger knows one tenant at
// a time, so that callers of all say whose.
const (
	budgetPath       = "/api/v1/budget"
	transactionsPath = budgetPath + "/transactions"
)

// defaultTTL is the document's, of a hold.
const defaultTTL = 300 * time.Second

// RequestBudget holds tokens. What was answered before is answered again.
func (a *api) RequestBudget(ctx context.Context, r apiv1.RequestBudgetRequestObject) (apiv1.RequestBudgetResponseObject, error) {
	c := callOf(ctx)
	tenant, err := c.named(&r.Body.TenantId)
	if err != nil {
		return nil, err
	}
	project, err := c.project(&r.Body.ProjectId)
	if err != nil {
		return nil, err
	}
	h := holdOf(*r.Body)
	h.Project, h.Subject = project, c.principal.Subject
	held, err := a.opts.Budgets.HoldTokens(ctx, tenant, h)
	again := c.replays(held.Replayed)
	if err != nil {
		return nil, err
	}
	return apiv1.RequestBudget201JSONResponse{
		Body: apiv1.BudgetHold{
			RequestId: held.ID, TenantId: tenant, ProjectId: held.Project, State: holdState(held.State),
			ReservedTokens: held.Reserved, ExpiresAt: held.Expires.UTC(),
		},
		Headers: apiv1.RequestBudget201ResponseHeaders{IdempotentReplayed: again},
	}, nil
}

func holdOf(b apiv1.BudgetRequest) budget.Hold {
	h := budget.Hold{Key: budget.Key{ID: b.RequestId}, Tokens: b.EstimatedTokens, TTL: defaultTTL}
	set(&h.Model, b.Model)
	set(&h.Task, b.TaskId)
	set(&h.Purpose, b.Purpose)
	if b.TtlSeconds != nil {
		h.TTL = time.Duration(*b.TtlSeconds) * time.Second
	}
	return h
}

// replays marks an answer that was given before, an error too.
func (c *call) replays(replayed bool) *bool {
	if !replayed {
		return nil
	}
	c.out.Header().Set("Idempotent-Replayed", "true")
	return &replayed
}

func holdState(s budget.State) apiv1.BudgetHoldState {
	if s == budget.Reserved {
		return "held"
	}
	return apiv1.BudgetHoldState(s)
}

// CommitBudget says what was used of a hold.
func (a *api) CommitBudget(ctx context.Context, r apiv1.CommitBudgetRequestObject) (apiv1.CommitBudgetResponseObject, error) {
	b := r.Body
	body, again, err := a.settle(ctx, b.TenantId, b.ProjectId, budget.Settlement{
		Key: budget.Key{ID: b.RequestId}, Action: budget.Commit, Tokens: b.ActualTokens,
	})
	if err != nil {
		return nil, err
	}
	return apiv1.CommitBudget200JSONResponse{Body: body, Headers: apiv1.CommitBudget200ResponseHeaders{IdempotentReplayed: again}}, nil
}

// ReleaseBudget gives all of a hold back.
func (a *api) ReleaseBudget(ctx context.Context, r apiv1.ReleaseBudgetRequestObject) (apiv1.ReleaseBudgetResponseObject, error) {
	b := r.Body
	body, again, err := a.settle(ctx, b.TenantId, b.ProjectId, budget.Settlement{
		Key: budget.Key{ID: b.RequestId}, Action: budget.Release,
	})
	if err != nil {
		return nil, err
	}
	return apiv1.ReleaseBudget200JSONResponse{Body: body, Headers: apiv1.ReleaseBudget200ResponseHeaders{IdempotentReplayed: again}}, nil
}

// settle settles what is the caller's: its project is a part of the question, so
// that what is another's is as unknown as what is not there.
func (a *api) settle(ctx context.Context, asked, project *string, s budget.Settlement) (apiv1.BudgetSettlement, *bool, error) {
	c := callOf(ctx)
	tenant, err := c.named(asked)
	if err != nil {
		return apiv1.BudgetSettlement{}, nil, err
	}
	if s.Project, err = c.project(project); err != nil {
		return apiv1.BudgetSettlement{}, nil, err
	}
	done, err := a.opts.Budgets.SettleTokens(ctx, tenant, s)
	if err != nil {
		return apiv1.BudgetSettlement{}, nil, err
	}
	return showSettlement(tenant, done.Request), c.replays(done.Replayed), nil
}

// showSettlement shows a request that is over. One that had expired had given
// its hold back then.
func showSettlement(tenant string, r budget.Request) apiv1.BudgetSettlement {
	out := apiv1.BudgetSettlement{
		RequestId: r.ID, TenantId: tenant, ProjectId: r.Project, State: apiv1.BudgetSettlementState(r.State),
		ChargedTokens: r.Actual, OverrunTokens: r.Overrun, Late: r.Late, SettledAt: r.Settled.UTC(),
	}
	if !r.Late {
		out.ReturnedTokens = max(0, r.Reserved-r.Actual)
	}
	return out
}

// GetBudgetState tells where the limits stand that apply.
func (a *api) GetBudgetState(ctx context.Context, r apiv1.GetBudgetStateRequestObject) (apiv1.GetBudgetStateResponseObject, error) {
	c := callOf(ctx)
	tenant, err := c.one(r.Params.TenantId)
	if err != nil {
		return nil, err
	}
	project, err := c.project(r.Params.ProjectId)
	if err != nil {
		return nil, err
	}
	all, err := a.opts.Budgets.BudgetUsage(ctx, tenant, project)
	if err != nil {
		return nil, err
	}
	out := apiv1.GetBudgetState200JSONResponse{TenantId: tenant, ProjectId: project}
	out.Items, err = shown(c, all, func(u budget.Usage) string { return u.Tenant }, showUsage)
	return out, err
}

func showUsage(u budget.Usage) apiv1.BudgetUsage {
	out := apiv1.BudgetUsage{
		LimitId: u.ID, Scope: "tenant", Window: apiv1.BudgetWindow(u.Window), TimeZone: u.Zone,
		Limit: u.Tokens, Ceiling: u.Ceiling, Used: u.Used, Reserved: u.Reserved, Available: u.Available, Overrun: u.Overrun,
		PeriodStart: u.Start.UTC(), ResetsAt: known(u.End),
	}
	if u.Project != "" {
		out.Scope = "project"
	}
	return out
}

// ListBudgetTransactions lists what happened to limits.
func (a *api) ListBudgetTransactions(ctx context.Context, r apiv1.ListBudgetTransactionsRequestObject) (apiv1.ListBudgetTransactionsResponseObject, error) {
	c, p := callOf(ctx), r.Params
	tenant, err := c.one(p.TenantId)
	if err != nil {
		return nil, err
	}
	project, err := c.project(p.ProjectId)
	if err != nil {
		return nil, err
	}
	filter := url.Values{}
	add(filter, "tenant_id", p.TenantId)
	add(filter, "project_id", p.ProjectId)
	add(filter, "request_id", p.RequestId)
	l, err := a.filtered(transactionsPath, tenant, filter, p.Limit, p.Cursor)
	if err != nil {
		return nil, err
	}
	q := budget.Query{Project: project, Before: l.after, Limit: l.limit}
	set(&q.Request, p.RequestId)
	page, err := a.opts.Budgets.BudgetLines(ctx, tenant, q)
	if err != nil {
		return nil, err
	}
	out := apiv1.ListBudgetTransactions200JSONResponse{Body: apiv1.BudgetTransactionList{Items: each(page.Items, showLine)}}
	out.Body.Next, out.Headers.Link, err = a.next(l, page.Next)
	return out, err
}

// showLine shows a line of the journal. What was done to a limit has no request.
func showLine(l budget.Line) apiv1.BudgetTransaction {
	out := apiv1.BudgetTransaction{
		Id: l.ID, Kind: apiv1.BudgetTransactionKind(l.Kind), ProjectId: l.Project, LimitId: l.LimitID,
		Origin: apiv1.BudgetTransactionOrigin(l.Origin), Used: l.Used, Reserved: l.Reserved, Overrun: l.Overrun,
		Late: l.Late, At: l.At.UTC(),
	}
	if l.Origin != budget.Admin {
		out.RequestId, out.Attempt = &l.Key.ID, new(int64(l.Attempt))
	}
	if l.Kind == budget.KindLimit {
		out.Limit = &l.Limit
	}
	return out
}

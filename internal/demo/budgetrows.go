package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"gatehouse/api/v1/client"
	"gatehouse/internal/devstack"
	"gatehouse/internal/operator"
)

// budgetRows are about limits of tokens, of a limit of the demo's own.
func budgetRows() []row {
	return []row{
		{what: "call a model, budget used up", want: refused(429, "budget.insufficient"),
			why: "not sent; the SDK shows it and does not retry", prepare: spend, send: ownLimit(modelSays(spending)),
			check: finalQuota},
		{what: "another call, limit just lowered", want: refused(429, "budget.insufficient"),
			why: "a cut works at once", prepare: lowerInFlight, send: modelSays(prompt{base: openai, model: "words-5", most: 10})},
		{what: "GET /budget/state meanwhile", want: want{status: http.StatusOK},
			why: "used + reserved + available = limit", send: budgetState},
		{what: "the call that was under way", want: want{status: http.StatusOK},
			why: "ends by itself, and is settled", send: ownLimit(landed)},
	}
}

// finalQuota demands what keeps an SDK of OpenAI's from trying again.
func finalQuota(a answer) error {
	err := names("insufficient_quota", "tokens are needed")(a)
	if got := a.header.Get("x-should-retry"); got != "false" {
		err = errors.Join(err, fmt.Errorf("x-should-retry is %q, expected false", got))
	}
	return err
}

// Limits of the demo's own, and calls that they are made for: of the first one
// call's hold fits in, and after it no second one; the last is less than the call
// in flight holds.
const (
	smallLimit   = 600
	roomyLimit   = 5000
	loweredLimit = 300
)

var (
	spending = prompt{base: openai, model: "words-100", most: 400}
	flying   = prompt{base: openai, model: "slow-200-20", most: 400, stream: true}
)

// makeLimit gives the project a limit besides the tenant's.
func (p *probe) makeLimit(ctx context.Context, tokens int64) error {
	c, err := p.admin(ctx)
	if err != nil {
		return err
	}
	r, err := c.API().CreateBudgetLimitWithResponse(ctx, client.BudgetLimitCreate{
		TenantId: devstack.Tenant, ProjectId: new(devstack.Project), Tokens: tokens, Window: client.Total,
	})
	made, err := operator.Answer(r, err, func(r *client.CreateBudgetLimitResponse) *client.BudgetLimit { return r.JSON201 })
	if err != nil {
		return wrap("making a limit", err)
	}
	p.limit = made.Id
	return nil
}

// dropLimit takes the demo's own limit away, if there is one.
func (p *probe) dropLimit(ctx context.Context) error {
	if p.limit == "" {
		return nil
	}
	c, err := p.admin(ctx)
	if err != nil {
		return err
	}
	r, err := c.API().DeleteBudgetLimitWithResponse(ctx, p.limit, &client.DeleteBudgetLimitParams{TenantId: new(devstack.Tenant)})
	p.limit = ""
	return wrap("deleting a limit", operator.Done(r, err))
}

// ownLimit sends with the demo's own limit, which is gone afterwards.
func ownLimit(send sender) sender {
	return func(ctx context.Context, p *probe) (answer, error) {
		a, err := send(ctx, p)
		return a, errors.Join(err, p.dropLimit(ctx))
	}
}

// spend uses up a small limit, but for what is too little for another call.
func spend(ctx context.Context, p *probe) (string, error) {
	if err := p.makeLimit(ctx, smallLimit); err != nil {
		return "", err
	}
	a, err := paid(spending)(ctx, p)
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("the first call was answered %s", a)
	}
	if err != nil {
		return "", errors.Join(err, p.dropLimit(ctx))
	}
	return fmt.Sprintf("of %d; one before: %s", smallLimit, a.note), nil
}

// lowerInFlight lowers a limit below what a call holds that is under way.
func lowerInFlight(ctx context.Context, p *probe) (string, error) {
	note, err := p.lower(ctx)
	if err != nil {
		err = errors.Join(err, p.dropLimit(ctx))
	}
	return note, err
}

func (p *probe) lower(ctx context.Context) (string, error) {
	err := p.makeLimit(ctx, roomyLimit)
	if err != nil {
		return "", err
	}
	if p.flight, err = p.takeOff(ctx, flying); err != nil {
		return "", err
	}
	c, err := p.admin(ctx)
	if err != nil {
		return "", err
	}
	r, err := c.API().UpdateBudgetLimitWithResponse(ctx, p.limit, &client.UpdateBudgetLimitParams{TenantId: new(devstack.Tenant), IfMatch: new("*")}, client.BudgetLimitUpdate{Tokens: loweredLimit})
	if err := operator.Done(r, err); err != nil {
		return "", wrap("lowering the limit", err)
	}
	_, u, err := p.usages(ctx)
	if own := u[p.limit]; err == nil && (own.Limit != loweredLimit || own.Reserved <= loweredLimit || own.Ceiling != own.Reserved+own.Used) {
		err = fmt.Errorf("the state is %s, expected limit %d below ceiling = used + reserved", figures(own), loweredLimit)
	}
	return figures(u[p.limit]), err
}

func figures(u client.BudgetUsage) string {
	return fmt.Sprintf("limit %d, ceiling %d, used %d, reserved %d, available %d", u.Limit, u.Ceiling, u.Used, u.Reserved, u.Available)
}

// usages asks, as the developer, for the state of all limits that apply.
func (p *probe) usages(ctx context.Context) (answer, map[string]client.BudgetUsage, error) {
	token, err := p.tokenOf(ctx, "developer")
	if err != nil {
		return answer{}, nil, err
	}
	c, err := operator.New(operator.Options{URL: p.ready.API, Token: token})
	if err != nil {
		return answer{}, nil, err
	}
	r, err := c.API().GetBudgetStateWithResponse(ctx, &client.GetBudgetStateParams{ProjectId: new(devstack.Project)})
	if err != nil {
		return answer{}, nil, err
	}
	a := answer{status: r.StatusCode(), text: string(r.GetBody())}
	var s client.BudgetState
	all := map[string]client.BudgetUsage{}
	err = wrap("the state", json.Unmarshal(r.GetBody(), &s))
	for _, u := range s.Items {
		all[u.LimitId] = u
	}
	return a, all, err
}

// budgetState must add up at every limit that was not lowered, while something is
// held.
func budgetState(ctx context.Context, p *probe) (answer, error) {
	a, all, err := p.usages(ctx)
	if err != nil {
		return a, err
	}
	delete(all, p.limit)
	for _, u := range all {
		a.note = figures(u)
		if u.Reserved == 0 || u.Used+u.Reserved+u.Available != u.Limit {
			err = errors.Join(err, fmt.Errorf("the state is %s: expected something reserved, and all together to be the limit", a.note))
		}
	}
	if len(all) == 0 {
		err = errors.New("the tenant has no limit")
	}
	return a, err
}

// landed reads the call in flight to its end. Nothing of it is held any more, and
// the ceiling is the limit again.
func landed(ctx context.Context, p *probe) (answer, error) {
	if p.flight == nil {
		return answer{}, errors.New("no call is under way")
	}
	a, err := readModel(p.flight)
	p.flight = nil
	if err != nil || a.status != http.StatusOK {
		return a, err
	}
	b, err := p.settled(ctx, a)
	if err != nil {
		return a, err
	}
	a.note = b.String()
	_, all, err := p.usages(ctx)
	if u := all[p.limit]; err == nil && (u.Reserved != 0 || u.Used != b.charged || u.Ceiling != u.Limit) {
		err = fmt.Errorf("the state is %s, expected nothing reserved, and ceiling = limit", figures(u))
	}
	if !strings.HasSuffix(a.text, " word200") {
		err = errors.Join(err, fmt.Errorf("the answer ends with %q, expected word200", a.text[max(0, len(a.text)-20):]))
	}
	return a, err
}

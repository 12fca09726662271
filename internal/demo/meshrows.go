package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"gatehouse/api/v1/client"
	"gatehouse/internal/devstack"
	"gatehouse/internal/operator"
)

// sharedBurst is the burst of the route /shared, for all sidecars together.
const sharedBurst = 6

// promise is how long a revocation or block may take to be in force.
const promise = 5 * time.Second

// meshRows are about what all sidecars do together, and what control tells them.
func meshRows() []row {
	tasks := try{path: "/tasks"}
	tool := anonymously(try{outbound: true, path: "/tools/search"})
	return []row{
		{what: "7th of six a minute, two sidecars", want: refused(429, "rate_limit.exceeded"),
			why: "they count together: three passed at each", prepare: useUpTogether, send: as("developer", try{path: "/shared"}), check: answers("retry-after")},
		{what: "log out; use the token again", want: refused(401, "auth.invalid_token"),
			why: "revoked at every sidecar", prepare: logOut, send: sendLoggedOut(tasks)},
		{what: "block the workload's agent", want: refused(403, "auth.forbidden"),
			why: "whatever it calls", prepare: setBlocked(true), send: tool},
		{what: "unblock it", want: allowed(),
			why: "and it goes on", prepare: setBlocked(false), send: tool},
		{what: "explain a denial by its id", want: want{status: http.StatusOK},
			why: "control keeps what the sidecar decided", prepare: deny, send: explain, check: names("role_lacks_permission", "role observer lacks task.create", "observer-1")},
	}
}

// admin is control's API for the admin of the stack.
func (p *probe) admin(ctx context.Context) (*operator.Client, error) {
	token, err := p.tokenOf(ctx, "admin")
	if err != nil {
		return nil, err
	}
	return operator.New(operator.Options{URL: p.ready.API, Token: token})
}

// useUpTogether takes the shared limit, by turns at each sidecar.
func useUpTogether(ctx context.Context, p *probe) (string, error) {
	doors := []string{p.ready.Inbound}
	for _, peer := range p.ready.Peers {
		doors = append(doors, peer.Inbound)
	}
	for i := range sharedBurst {
		a, err := as("developer", try{base: doors[i%len(doors)], path: "/shared"})(ctx, p)
		if err == nil && a.status != http.StatusOK {
			err = fmt.Errorf("request %d of %d was answered %s", i+1, sharedBurst, a)
		}
		if err != nil {
			return "", err
		}
	}
	return "", nil
}

// logOut logs an operator in, sees the token accepted, logs out with it and
// waits until it is refused.
func logOut(ctx context.Context, p *probe) (string, error) {
	c, err := operator.New(operator.Options{URL: p.ready.API})
	if err != nil {
		return "", err
	}
	session, err := c.Login(ctx, "operator", devPassword("operator"))
	if err != nil {
		return "", err
	}
	if session.RefreshToken == nil {
		return "", errors.New("the login gave no refresh_token")
	}
	p.tokens["logged out"] = session.AccessToken
	if a, err := sendLoggedOut(try{path: "/tasks"})(ctx, p); err != nil || a.status != http.StatusOK {
		return "", errors.Join(err, fmt.Errorf("before the logout the token was answered %s", a))
	}
	if c, err = c.With(session.AccessToken); err != nil {
		return "", err
	}
	r, err := c.API().LogoutWithResponse(ctx, client.LogoutJSONRequestBody{RefreshToken: *session.RefreshToken})
	if err := operator.Done(r, err); err != nil {
		return "", err
	}
	return p.within(ctx, "the token is still accepted", func(ctx context.Context) (bool, error) {
		a, err := sendLoggedOut(try{path: "/tasks"})(ctx, p)
		return a.status == http.StatusUnauthorized, err
	})
}

func sendLoggedOut(t try) sender {
	return func(ctx context.Context, p *probe) (answer, error) {
		t.header = map[string]string{"authorization": "Bearer " + p.tokens["logged out"]}
		return p.do(ctx, t)
	}
}

// within waits for what must be so within the promised time.
func (p *probe) within(ctx context.Context, otherwise string, done func(context.Context) (bool, error)) (string, error) {
	begin := time.Now()
	err := p.until(ctx, otherwise, done)
	took := time.Since(begin)
	if err == nil && took > promise {
		err = fmt.Errorf("it took %s, more than %s", took, promise)
	}
	return fmt.Sprintf("in force after %d ms", took.Milliseconds()), err
}

// setBlocked blocks or unblocks the agent of the stack's workloads, and waits
// until the sidecar has heard of it.
func setBlocked(blocked bool) func(context.Context, *probe) (string, error) {
	return func(ctx context.Context, p *probe) (string, error) {
		c, err := p.admin(ctx)
		if err != nil {
			return "", err
		}
		id, err := c.AgentID(ctx, devstack.Tenant, devstack.Agent)
		if err != nil {
			return "", err
		}
		if blocked {
			r, err2 := c.API().BlockAgentWithResponse(ctx, id, nil, client.AgentBlock{Reason: "the demo blocks it"})
			err = operator.Done(r, err2)
		} else {
			r, err2 := c.API().UnblockAgentWithResponse(ctx, id, nil)
			err = operator.Done(r, err2)
		}
		if err != nil {
			return "", err
		}
		return p.within(ctx, "it is not in force", func(ctx context.Context) (bool, error) {
			a, err := p.do(ctx, try{outbound: true, path: "/tools/search"})
			return (a.status == http.StatusForbidden) == blocked, err
		})
	}
}

// deny has an observer refused, and keeps the decision's id.
func deny(ctx context.Context, p *probe) (string, error) {
	a, err := as("observer", try{method: http.MethodPost, path: "/tasks"})(ctx, p)
	if err != nil {
		return "", err
	}
	var body struct {
		Details struct {
			ID string `json:"decision_id"`
		} `json:"details"`
	}
	if err := json.Unmarshal([]byte(a.text), &body); err != nil || body.Details.ID == "" {
		return "", fmt.Errorf("the denial names no decision: %.300s", a.text)
	}
	p.denied = body.Details.ID
	return "gatehouse explain " + p.denied, nil
}

// explain asks control for the decision, which the sidecar sends up in a moment.
func explain(ctx context.Context, p *probe) (answer, error) {
	c, err := p.admin(ctx)
	if err != nil {
		return answer{}, err
	}
	var a answer
	err = p.until(ctx, "control does not know the decision", func(ctx context.Context) (bool, error) {
		r, err := c.API().GetDecisionWithResponse(ctx, p.denied)
		if err != nil {
			return false, err
		}
		a = answer{status: r.StatusCode(), text: strings.TrimSpace(string(r.GetBody()))}
		return a.status != http.StatusNotFound, nil
	})
	return a, err
}

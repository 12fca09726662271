package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"time"
)

// Paths of control's API.
const (
	loginPath = "/api/v1/auth/login"
	usersPath = "/api/v1/users"
)

// The user that is locked out, so that those of the stack stay usable, and how
// many failures that takes: control's rule.
const (
	lockedUser     = "carol"
	lockedPassword = "correct horse battery"
	wrongPassword  = "incorrect horse battery"
	lockAfter      = 5
)

// noConnection is the code of an answer that there was none of.
const noConnection = "connection refused"

// Bounds of the wait for a killed control to be gone.
const (
	killTimeout = 5 * time.Second
	killPoll    = 5 * time.Millisecond
)

// controlRows are about whom control lets in, and what its tokens are good for.
func controlRows() []row {
	create := try{method: http.MethodPost, path: "/tasks"}
	return []row{
		{what: "developer logs in at control", want: want{status: http.StatusOK},
			why: "the password is right: a token for ten minutes", send: logIn("developer", devPassword("developer"))},
		{what: "wrong password", want: refused(401, "auth.invalid_credentials"),
			why: "a name that nobody has is answered the same", send: logIn("developer", wrongPassword)},
		{what: "developer's token from control", want: allowed(),
			why: "decided inline, by the keys that control publishes", send: loggedIn("developer", create),
			check: sees(map[string]string{"x-gatehouse-role": "developer", "x-gatehouse-tenant": "org1", "authorization": ""})},
		{what: "observer's token from control", want: refused(403, "auth.forbidden"),
			why: "observer lacks task.create", send: loggedIn("observer", create)},
		{what: "right password after five wrong", want: refused(429, "rate_limit.exceeded"),
			why: "five failures lock the account", prepare: lockOut, send: logIn(lockedUser, lockedPassword), check: answers("retry-after")},
	}
}

// killRows leave the stack without control.
func killRows() []row {
	return []row{
		{what: "control killed: developer writes", want: allowed(),
			why: "inline enforcement goes on", prepare: killControl, send: loggedIn("developer", try{method: http.MethodPost, path: "/tasks"})},
		{what: "control killed: observer writes", want: refused(403, "auth.forbidden"),
			why: "and does not open", send: loggedIn("observer", try{method: http.MethodPost, path: "/tasks"})},
		{what: "control killed: call a model", want: refused(503, "budget.unavailable"),
			why: "nobody can be asked for a hold", send: modelSays(prompt{base: openai, model: "words-5", most: 10})},
		{what: "control killed: log in", want: refused(0, noConnection),
			why: "new tokens need control", send: logIn("developer", devPassword("developer"))},
	}
}

// devPassword is that of one of the users that every stack has.
func devPassword(user string) string { return user + "123" }

func logIn(user, password string) sender {
	return func(ctx context.Context, p *probe) (answer, error) {
		a, _, err := p.login(ctx, user, password)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return answer{code: noConnection}, nil
		}
		return a, err
	}
}

// loggedIn sends a request with the token of a user of the stack, who logs in
// once in a demo.
func loggedIn(user string, t try) sender {
	return func(ctx context.Context, p *probe) (answer, error) {
		token, err := p.tokenOf(ctx, user)
		if err != nil {
			return answer{}, err
		}
		sent := t
		sent.header = map[string]string{"authorization": "Bearer " + token}
		return p.do(ctx, sent)
	}
}

func (p *probe) tokenOf(ctx context.Context, user string) (string, error) {
	if token := p.tokens[user]; token != "" {
		return token, nil
	}
	a, token, err := p.login(ctx, user, devPassword(user))
	if err == nil && token == "" {
		err = fmt.Errorf("%s's login was answered %s", user, a)
	}
	if err == nil {
		p.tokens[user] = token
	}
	return token, err
}

// login returns the answer, and the token where it has one.
func (p *probe) login(ctx context.Context, user, password string) (answer, string, error) {
	a, body, err := p.post(ctx, loginPath, "", map[string]string{"username": user, "password": password})
	if err == nil && a.status == http.StatusOK && body.Token == "" {
		err = errors.New("control's answer has no access_token")
	}
	return a, body.Token, err
}

// reply is what the demo reads of control's answers.
type reply struct {
	Token string `json:"access_token"`
	Code  string `json:"error_code"`
}

// post calls control, with a token unless that is "".
func (p *probe) post(ctx context.Context, path, token string, body any) (answer, reply, error) {
	var r reply
	text, err := json.Marshal(body)
	if err != nil {
		return answer{}, r, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.ready.API+path, bytes.NewReader(text))
	if err != nil {
		return answer{}, r, err
	}
	req.Header.Set("content-type", "application/json")
	if token != "" {
		req.Header.Set("authorization", "Bearer "+token)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return answer{}, r, err
	}
	defer resp.Body.Close()
	err = wrap("control's answer", json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&r))
	return answer{status: resp.StatusCode, code: r.Code, header: resp.Header}, r, err
}

// lockOut makes a user who can log in, and who then fails as often as it takes.
func lockOut(ctx context.Context, p *probe) (string, error) {
	if err := p.makeUser(ctx, lockedUser, lockedPassword); err != nil {
		return "", err
	}
	if err := p.expectLogin(ctx, lockedPassword, answer{status: http.StatusOK}); err != nil {
		return "", err
	}
	for range lockAfter {
		if err := p.expectLogin(ctx, wrongPassword, answer{status: 401, code: "auth.invalid_credentials"}); err != nil {
			return "", err
		}
	}
	return "a user made by the admin over the API", nil
}

func (p *probe) makeUser(ctx context.Context, name, password string) error {
	admin, err := p.tokenOf(ctx, "admin")
	if err != nil {
		return err
	}
	a, _, err := p.post(ctx, usersPath, admin, map[string]string{
		"username": name, "password": password, "role": "developer", "tenant_id": "org1", "project_id": "proj1",
	})
	if err == nil && a.status != http.StatusCreated {
		err = fmt.Errorf("making user %s was answered %s", name, a)
	}
	return err
}

func (p *probe) expectLogin(ctx context.Context, password string, want answer) error {
	got, _, err := p.login(ctx, lockedUser, password)
	if err == nil && (got.status != want.status || got.code != want.code) {
		err = fmt.Errorf("%s's login was answered %s, expected %s", lockedUser, got, want)
	}
	return err
}

// killControl ends control as a crash would, and waits until nothing listens.
// The tokens that are needed then are had before.
func killControl(ctx context.Context, p *probe) (string, error) {
	for _, user := range []string{"developer", "observer"} {
		if _, err := p.tokenOf(ctx, user); err != nil {
			return "", err
		}
	}
	pid := p.ready.PIDs.Control
	if pid <= 0 { // kill(2) would take it for a group
		return "", errors.New("the stack has no control")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return "", fmt.Errorf("killing control: %w", err)
	}
	return "", p.awaitSilence(ctx)
}

// awaitSilence waits until control's port takes no connection.
func (p *probe) awaitSilence(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, killTimeout, fmt.Errorf("control still answers %s after it was killed", killTimeout))
	defer cancel()
	tick := time.NewTicker(killPoll)
	defer tick.Stop()
	for {
		var health struct{}
		if err := p.getJSON(ctx, p.ready.API+"/health", &health); errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

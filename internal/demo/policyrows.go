package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Bounds of the wait for the sidecar to see an edit.
const (
	policyTimeout = 15 * time.Second
	policyPoll    = 10 * time.Millisecond
)

// Edits of the shipped Rego: one line more, and one that is not Rego.
const (
	observerLine   = "\t\"observer\": {\n"
	observerGained = observerLine + "\t\t\"task.create\",\n"
	brokenLine     = "\nallow if if\n"
)

// policyFile is the Rego that the demo edits.
type policyFile struct {
	path     string
	shipped  string
	generous string // observers may create
}

func openPolicy(p *probe) (*policyFile, error) {
	f := &policyFile{path: filepath.Join(p.ready.Policies, "authz.rego")}
	text, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	f.shipped = string(text)
	if strings.Count(f.shipped, observerLine) != 1 {
		return nil, fmt.Errorf("%s: the line that begins the observer's permissions is not there once", f.path)
	}
	f.generous = strings.Replace(f.shipped, observerLine, observerGained, 1)
	return f, nil
}

// write replaces the file in one step, as editors do.
func (f *policyFile) write(text string) error {
	fresh := filepath.Join(filepath.Dir(f.path), ".authz.rego.new")
	if err := os.WriteFile(fresh, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, f.path)
}

func policyRows() []row {
	create := as("observer", try{method: http.MethodPost, path: "/tasks"})
	return []row{
		{what: "edit the Rego: observer may create", want: allowed(),
			why: "the edit decides", prepare: edit((*policyFile).generousText), send: create},
		{what: "break the Rego", want: allowed(),
			why: "refused; the policy before stays in force", prepare: breakPolicy, send: create},
		{what: "repair the Rego", want: refused(403, "auth.forbidden"),
			why: "as it was", prepare: edit((*policyFile).shippedText), send: create},
	}
}

func (f *policyFile) generousText() string { return f.generous }
func (f *policyFile) shippedText() string  { return f.shipped }

// status is what the demo reads of the sidecar's /status.
type status struct {
	Revision string `json:"revision"`
	Loaded   struct {
		Error string `json:"error"`
	} `json:"loaded"`
}

func (p *probe) status(ctx context.Context) (status, error) {
	var s status
	err := p.getJSON(ctx, p.ready.Debug()+"/status", &s)
	return s, err
}

// edit writes the policy and waits until another revision is in force.
func edit(text func(*policyFile) string) func(context.Context, *probe) (string, error) {
	return func(ctx context.Context, p *probe) (string, error) {
		before, err := p.status(ctx)
		if err != nil {
			return "", err
		}
		took, err := p.await(ctx, text(p.policy), func(s status) bool {
			return s.Revision != before.Revision && s.Loaded.Error == ""
		})
		return fmt.Sprintf("in force after %d ms", took.Milliseconds()), err
	}
}

// breakPolicy writes Rego that does not compile and waits until the sidecar
// says so, with the revision before still in force.
func breakPolicy(ctx context.Context, p *probe) (string, error) {
	before, err := p.status(ctx)
	if err != nil {
		return "", err
	}
	var said status
	_, err = p.await(ctx, p.policy.generous+brokenLine, func(s status) bool {
		said = s
		return s.Loaded.Error != ""
	})
	if err == nil && said.Revision != before.Revision {
		err = errors.New("a policy that does not compile came into force")
	}
	first, _, _ := strings.Cut(said.Loaded.Error, "\n")
	return "/status: " + first, err
}

// await writes the policy and polls the sidecar until it has taken it up.
func (p *probe) await(ctx context.Context, text string, done func(status) bool) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, policyTimeout, fmt.Errorf("the sidecar did not take the edit up within %s", policyTimeout))
	defer cancel()
	begin := time.Now()
	if err := p.policy.write(text); err != nil {
		return 0, err
	}
	tick := time.NewTicker(policyPoll)
	defer tick.Stop()
	for {
		s, err := p.status(ctx)
		if err == nil && done(s) {
			return time.Since(begin), nil
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

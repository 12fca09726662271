package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"
	"time"

	"gatehouse/internal/devstack"
	"gatehouse/internal/operator"
	"gatehouse/internal/revision"
	"gatehouse/internal/snapshot"
)

// Bounds of the wait for the sidecars to take up what control says.
const (
	takeTimeout = 15 * time.Second
	takePoll    = 10 * time.Millisecond
)

// Files of the shipped policy, and the edits of them: observers may create, and
// the tests know it.
const (
	regoFile = "authz.rego"
	testFile = "authz_test.rego"
)

// edit is one replacement in a file.
type edit struct{ file, old, new string }

var (
	generous = []edit{{regoFile, "\t\"observer\": {\n", "\t\"observer\": {\n\t\t\"task.create\",\n"}}
	tested   = []edit{
		{testFile, `"task.create": {"admin", "operator", "developer"}`, `"task.create": {"admin", "operator", "developer", "observer"}`},
		{testFile, `"observer": 4,`, `"observer": 5,`},
		{testFile, "decision(\"observer\", \"task.create\") == {\n\t\t\"allowed\": false,", "decision(\"observer\", \"task.delete\") == {\n\t\t\"allowed\": false,"},
		{testFile, `"reason": "role observer lacks task.create"`, `"reason": "role observer lacks task.delete"`},
	}
)

// edited is a copy of files with edits.
func edited(files revision.Files, edits []edit) (revision.Files, error) {
	files = maps.Clone(files)
	for _, e := range edits {
		text := string(files[e.file])
		if strings.Count(text, e.old) != 1 {
			return nil, fmt.Errorf("%s: %q is not there once", e.file, e.old)
		}
		files[e.file] = []byte(strings.Replace(text, e.old, e.new, 1))
	}
	return files, nil
}

func policyRows() []row {
	create := as("observer", try{method: http.MethodPost, path: "/tasks"})
	return []row{
		{what: "push Rego: observer may create", want: refused(422, "validation.invalid"),
			why: "its own tests fail, and it is not taken", send: pushBad, check: names(testFile, "test_every_cell")},
		{what: "push it with its tests", want: allowed(),
			why: "every sidecar enforces it", prepare: pushGood, send: create},
		{what: "roll it back", want: refused(403, "auth.forbidden"),
			why: "as it was, under a new generation", prepare: rollBack, send: create},
	}
}

// names demands that an answer's body names things.
func names(words ...string) func(answer) error {
	return func(a answer) error {
		var errs []error
		for _, w := range words {
			if !strings.Contains(a.text, w) {
				errs = append(errs, fmt.Errorf("the answer does not name %s: %.300s", w, a.text))
			}
		}
		return errors.Join(errs...)
	}
}

func (p *probe) policySet(edits ...edit) (revision.Files, error) {
	files, err := snapshot.Read(p.ready.Policies, os.Geteuid())
	if err != nil {
		return nil, err
	}
	return edited(files, edits)
}

func pushBad(ctx context.Context, p *probe) (answer, error) {
	files, err := p.policySet(generous...)
	if err != nil {
		return answer{}, err
	}
	c, err := p.admin(ctx)
	if err != nil {
		return answer{}, err
	}
	_, _, err = c.Push(ctx, devstack.PolicySet, files, "")
	if e, ok := errors.AsType[*operator.Error](err); ok {
		return answer{status: e.Status, code: e.Code, text: e.Error()}, nil
	}
	return answer{status: http.StatusOK}, err
}

func pushGood(ctx context.Context, p *probe) (string, error) {
	files, err := p.policySet(append(generous, tested...)...)
	if err != nil {
		return "", err
	}
	c, err := p.admin(ctx)
	if err != nil {
		return "", err
	}
	rev, _, err := c.Push(ctx, devstack.PolicySet, files, "observers may create")
	if err != nil {
		return "", err
	}
	begin := time.Now()
	active, err := c.Activate(ctx, devstack.PolicySet, rev.Id)
	if err != nil {
		return "", err
	}
	return p.awaitGeneration(ctx, begin, active.Active.Generation)
}

func rollBack(ctx context.Context, p *probe) (string, error) {
	c, err := p.admin(ctx)
	if err != nil {
		return "", err
	}
	begin := time.Now()
	active, err := c.Rollback(ctx, devstack.PolicySet, "")
	if err != nil {
		return "", err
	}
	return p.awaitGeneration(ctx, begin, active.Active.Generation)
}

// status is what the demo reads of a sidecar's /status.
type status struct {
	Control struct {
		Generation int64 `json:"generation"`
		LiveEpoch  int64 `json:"live_epoch"`
	} `json:"control"`
}

// awaitGeneration waits until all sidecars enforce an activation.
func (p *probe) awaitGeneration(ctx context.Context, begin time.Time, generation int64) (string, error) {
	for _, debug := range p.debugs() {
		err := p.until(ctx, fmt.Sprintf("the sidecar at %s does not enforce generation %d", debug, generation), func(ctx context.Context) (bool, error) {
			var s status
			err := p.getJSON(ctx, debug+"/status", &s)
			return s.Control.Generation == generation, err
		})
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("in force at %d sidecars after %d ms", len(p.debugs()), time.Since(begin).Milliseconds()), nil
}

func (p *probe) debugs() []string {
	all := []string{p.ready.Debug()}
	for _, peer := range p.ready.Peers {
		all = append(all, strings.TrimSuffix(peer.Metrics, "/metrics"))
	}
	return all
}

// until looks until done, or until it takes too long.
func (p *probe) until(ctx context.Context, otherwise string, done func(context.Context) (bool, error)) error {
	return p.untilAt(ctx, takePoll, otherwise, done)
}

// untilAt is until at a pace.
func (p *probe) untilAt(ctx context.Context, pace time.Duration, otherwise string, done func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, takeTimeout, fmt.Errorf("%s after %s", otherwise, takeTimeout))
	defer cancel()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		if ok, err := done(ctx); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/api/v1/client"
	"gatehouse/internal/operator"
	"gatehouse/internal/snapshot"
)

// Bounds of waiting for sidecars.
const (
	defaultWait = 15 * time.Second
	longestWait = 10 * time.Minute
)

func newPolicy(r *remote) *cobra.Command {
	return newGroup("policy", "Test policy sets, put them in force, and go back",
		newPolicyPush(r), newPolicyList(r), newPolicyActivate(r), newPolicyRollback(r), newPolicyTest(), newPolicyFmt())
}

func newPolicyPush(r *remote) *cobra.Command {
	p := push{remote: r}
	cmd := r.command(&cobra.Command{
		Use:   "push DIR --set NAME",
		Short: "Push a policy set and put it in force",
		Long: "push sends the policy set in DIR to the API, which checks it, keeps it as a\n" +
			"revision and signs it; then it puts it in force, and waits until the sidecars of\n" +
			"the set report it. Faults are said as FILE:LINE:COLUMN: FAULT. A sidecar that\n" +
			"refused it, or does not have it in time, is a finding.\n",
		Example: "  gatehouse policy push policies/shipped --set main --note 'allow the new tool'",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE:    p.run,
	})
	f := cmd.Flags()
	f.StringVar(&p.set, "set", "", "policy set to push to (needed); made where there is none")
	f.StringVar(&p.note, "note", "", "what changed, for the list of revisions")
	f.BoolVar(&p.inactive, "no-activate", false, "only push; nothing comes into force")
	waitFlag(cmd, &p.wait)
	return cmd
}

func waitFlag(cmd *cobra.Command, wait *time.Duration) {
	cmd.Flags().DurationVar(wait, "wait", defaultWait, "how long to wait for the sidecars, at most 10m; 0 looks once")
}

func checkWait(wait time.Duration) error {
	if wait < 0 || wait > longestWait {
		return usageError{fmt.Errorf("--wait must be between 0 and %s", longestWait)}
	}
	return nil
}

type push struct {
	*remote
	set, note string
	inactive  bool
	wait      time.Duration
}

func (p *push) run(cmd *cobra.Command, args []string) error {
	if err := errors.Join(required("set", p.set), checkWait(p.wait)); err != nil {
		return usageError{err}
	}
	dir, ctx := args[0], cmd.Context()
	files, err := snapshot.Read(dir, os.Geteuid())
	if err != nil {
		return fmt.Errorf("%w\nSee all faults with: gatehouse check-config %s", err, dir)
	}
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	rev, created, err := c.Push(ctx, p.set, files, p.note)
	if err != nil {
		return refusedPush(dir, err)
	}
	said := rollout{Revision: rev, pushed: "pushed"}
	if !created {
		said.pushed = "pushed before"
	}
	if p.inactive {
		return p.print(cmd, said, said.text)
	}
	if said.PolicySet, err = c.Activate(ctx, p.set, rev.Id); err != nil {
		return fmt.Errorf("revision %s is pushed, but not in force: %w\nPut it in force with: gatehouse policy activate %s %s", rev.Id, err, p.set, short(rev.Id))
	}
	return p.await(cmd, c, said, p.wait)
}

// refusedPush says what is wrong with a set as compilers do, with the folder
// that it was read from.
func refusedPush(dir string, err error) error {
	e, ok := errors.AsType[*operator.Error](err)
	if !ok || e.Code != "validation.invalid" || len(e.Details.Errors) == 0 {
		return err
	}
	lines := make([]string, len(e.Details.Errors))
	for i, f := range e.Details.Errors {
		lines[i] = plain(faultOf(dir, f))
	}
	return fmt.Errorf("%s was refused:\n%s\nNothing has changed. Check it here with: gatehouse policy test %s", dir, strings.Join(lines, "\n"), dir)
}

// faultOf is a fault with its place. A fault of a file has a pointer below
// /files, and a message that begins with the file's path in the set.
func faultOf(dir string, f operator.Field) string {
	file, ok := strings.CutPrefix(f.Pointer, "/files/")
	if !ok {
		return strings.TrimPrefix(f.Pointer, "/") + ": " + f.Message
	}
	file = strings.NewReplacer("~1", "/", "~0", "~").Replace(file)
	if rest, ok := strings.CutPrefix(f.Message, file+":"); ok {
		return filepath.Join(dir, file) + ":" + rest
	}
	return filepath.Join(dir, file) + ": " + f.Message
}

// rollout is what became of a revision.
type rollout struct {
	Revision  *client.Revision  `json:"revision,omitempty"`
	PolicySet *client.PolicySet `json:"policy_set,omitempty"`
	Sidecars  []client.Sidecar  `json:"sidecars,omitzero"`

	pushed string
}

// await waits for the sidecars and says where they stand.
func (r *remote) await(cmd *cobra.Command, c *operator.Client, said rollout, wait time.Duration) error {
	active := said.PolicySet.Active
	if active == nil {
		return errors.New("the API did not say what is in force; see: gatehouse policy list")
	}
	var err error
	if said.Sidecars, err = c.AwaitInForce(cmd.Context(), said.PolicySet.Name, *active, wait); err != nil {
		return fmt.Errorf("generation %d is active, but the sidecars were not seen: %w\nSee: gatehouse proxy status", active.Generation, err)
	}
	if err := r.print(cmd, said, said.text); err != nil {
		return err
	}
	return lagging(said.Sidecars, func(client.Sidecar) *client.PolicyActivation { return active })
}

func (s rollout) text(w io.Writer) error {
	if s.Revision != nil {
		if err := line("revision    %s (%s)", s.Revision.Id, s.pushed)(w); err != nil {
			return err
		}
	}
	if s.PolicySet == nil {
		return line("not in force; put it in force with: gatehouse policy activate %s %s", s.Revision.PolicySet, short(s.Revision.Id))(w)
	}
	a := s.PolicySet.Active
	if s.Revision == nil {
		if err := line("revision    %s", a.Revision)(w); err != nil {
			return err
		}
	}
	in := 0
	for _, sc := range s.Sidecars {
		if operator.StandingOf(sc, a) == operator.InForce {
			in++
		}
	}
	return errors.Join(line("generation  %d (%s)", a.Generation, a.Kind)(w), line("in force at %d of %d sidecars", in, len(s.Sidecars))(w))
}

// lagging is an error that names the sidecars without what is active for them,
// or nil.
func lagging(fleet []client.Sidecar, activeFor func(client.Sidecar) *client.PolicyActivation) error {
	var lines []string
	for _, s := range fleet {
		if text := lag(s, activeFor(s)); text != "" {
			lines = append(lines, plain(fmt.Sprintf("%s (tenant %s) %s", s.Name, s.TenantId, text)))
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return fmt.Errorf("not in force at %d sidecars:\n%s", len(lines), strings.Join(lines, "\n"))
}

func lag(s client.Sidecar, active *client.PolicyActivation) string {
	switch operator.StandingOf(s, active) {
	case operator.Refused:
		return "refused it: " + s.Refused.Reason
	case operator.Stale:
		return fmt.Sprintf("is connected, but still at generation %d", value(s.Generation))
	case operator.Away:
		return "is not connected; last seen: " + stamp(value(s.LastSeenAt))
	case operator.NoSet:
		return fmt.Sprintf("has no policy: nothing was ever in force for %s; see: gatehouse policy push", s.PolicySet)
	}
	return ""
}

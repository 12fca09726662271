package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/api/v1/client"
	"gatehouse/internal/operator"
)

func newPolicyList(r *remote) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list [SET]",
		Short: "List the policy sets, or the revisions of one",
		Long: "list shows each policy set, what is in force, and at how many of its sidecars; or\n" +
			"with SET all revisions that were pushed to it, newest first.\n",
		Args: usageArgs(cobra.MaximumNArgs(1)),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := r.connect(cmd.Context())
		if err != nil {
			return err
		}
		if len(args) == 1 {
			return r.listRevisions(cmd, c, args[0])
		}
		sets, err := c.PolicySets(cmd.Context())
		if err != nil {
			return err
		}
		heads := []string{"SET", "REVISION", "GENERATION", "BY", "AT", "IN FORCE"}
		return r.print(cmd, items[client.PolicySet]{sets}, rows(sets, heads, setCells))
	}
	return r.command(cmd)
}

func setCells(s client.PolicySet) []string {
	force := fmt.Sprintf("at %d of %d sidecars", s.InForce, s.Sidecars)
	if s.Active == nil {
		return []string{s.Name, "-", "-", "-", "-", force}
	}
	return []string{s.Name, short(s.Active.Revision), number(s.Active.Generation), string(s.Active.Kind), stamp(s.Active.ActivatedAt), force}
}

func (r *remote) listRevisions(cmd *cobra.Command, c *operator.Client, set string) error {
	revisions, err := c.Revisions(cmd.Context(), set)
	if err != nil {
		return notFound(err, "policy set "+set, "gatehouse policy list")
	}
	heads := []string{"REVISION", "ACTIVE", "PUSHED AT", "PUSHED BY", "NOTE"}
	return r.print(cmd, items[client.Revision]{revisions}, rows(revisions, heads, func(v client.Revision) []string {
		return []string{short(v.Id), yes(v.Active), stamp(v.PushedAt), v.PushedBy, orDash(v.Note)}
	}))
}

func newPolicyActivate(r *remote) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "activate SET REVISION",
		Short: "Put a pushed revision in force",
		Long: "activate puts a revision in force, named by its id or the first 8 or more\n" +
			"characters of it, and waits for the sidecars as push does.\n",
		Args: usageArgs(cobra.ExactArgs(2)),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return r.move(cmd, args, wait, func(c *operator.Client) (*client.PolicySet, error) {
			return c.Activate(cmd.Context(), args[0], args[1])
		})
	}
	waitFlag(cmd, &wait)
	return r.command(cmd)
}

func newPolicyRollback(r *remote) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "rollback SET [REVISION]",
		Short: "Put the revision in force that was before, or another",
		Long: "rollback puts a revision in force again: the one before the present one, or one\n" +
			"that is named as with activate. It waits for the sidecars as push does.\n",
		Args: usageArgs(cobra.RangeArgs(1, 2)),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return r.move(cmd, args, wait, func(c *operator.Client) (*client.PolicySet, error) {
			return c.Rollback(cmd.Context(), args[0], append(args, "")[1])
		})
	}
	waitFlag(cmd, &wait)
	return r.command(cmd)
}

// move puts another revision of the set args[0] in force.
func (r *remote) move(cmd *cobra.Command, args []string, wait time.Duration, to func(*operator.Client) (*client.PolicySet, error)) error {
	if err := checkWait(wait); err != nil {
		return err
	}
	c, err := r.connect(cmd.Context())
	if err != nil {
		return err
	}
	set, err := to(c)
	if err != nil {
		return moveError(args[0], err)
	}
	return r.await(cmd, c, rollout{PolicySet: set}, wait)
}

func moveError(set string, err error) error {
	see := "gatehouse policy list " + set
	if operator.IsCode(err, "state.conflict") {
		return fmt.Errorf("%w\nSee what was in force, and what was pushed, with: %s", err, see)
	}
	return notFound(err, "such policy set or revision", see)
}

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"gatehouse/api/v1/client"
	"gatehouse/internal/operator"
)

func newProxy(r *remote) *cobra.Command {
	return newGroup("proxy", "See where the sidecars stand", newProxyStatus(r))
}

func newProxyStatus(r *remote) *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use:   "status [NAME]",
		Short: "Show what is in force at each sidecar",
		Long: "status shows each sidecar, or those of a name: the revision and generation in\n" +
			"force there, the epoch of the revocations and blocks that it knows, when it last\n" +
			"reported and how far its clock is ahead. One that has not what is active for its\n" +
			"policy set is marked, and a finding.\n",
		Args: usageArgs(cobra.MaximumNArgs(1)),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := r.connect(cmd.Context())
		if err != nil {
			return err
		}
		f, err := readFleet(cmd, c, tenant, append(args, "")[0])
		if err != nil {
			return err
		}
		heads := []string{"", "NAME", "TENANT", "SET", "REVISION", "GENERATION", "STATE", "EPOCH", "LAST SEEN", "SKEW", "REFUSED"}
		if err := r.print(cmd, items[client.Sidecar]{f.sidecars}, rows(f.sidecars, heads, f.cells)); err != nil {
			return err
		}
		return lagging(f.sidecars, f.activeFor)
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "only sidecars of this tenant")
	return r.command(cmd)
}

// fleet are sidecars and what is active for their policy sets.
type fleet struct {
	sidecars []client.Sidecar
	active   map[string]*client.PolicyActivation
}

// readFleet reads the policy sets before the sidecars, so that one which takes
// a new generation meanwhile shows as behind and not as ahead at worst.
func readFleet(cmd *cobra.Command, c *operator.Client, tenant, name string) (fleet, error) {
	f := fleet{sidecars: []client.Sidecar{}, active: map[string]*client.PolicyActivation{}}
	sets, err := c.PolicySets(cmd.Context())
	if err != nil {
		return f, err
	}
	for _, s := range sets {
		f.active[s.Name] = s.Active
	}
	all, err := c.Sidecars(cmd.Context(), tenant)
	if err != nil {
		return f, err
	}
	for _, s := range all {
		if name == "" || s.Name == name {
			f.sidecars = append(f.sidecars, s)
		}
	}
	if name != "" && len(f.sidecars) == 0 {
		return f, fmt.Errorf("there is no sidecar %s; see: gatehouse proxy status", name)
	}
	return f, nil
}

func (f fleet) activeFor(s client.Sidecar) *client.PolicyActivation { return f.active[s.PolicySet] }

func (f fleet) cells(s client.Sidecar) []string {
	mark, at := "!", operator.StandingOf(s, f.activeFor(s))
	if at == operator.InForce || at == operator.Revoked {
		mark = ""
	}
	refused, skew := "-", "-"
	if s.Refused != nil {
		refused = fmt.Sprintf("generation %d: %s", s.Refused.Generation, s.Refused.Reason)
	}
	if s.SkewMs != nil {
		skew = fmt.Sprintf("%dms", *s.SkewMs)
	}
	return []string{
		mark, s.Name, s.TenantId, s.PolicySet, short(value(s.Revision)), number(value(s.Generation)), string(at),
		number(value(s.LiveEpoch)), stamp(value(s.LastSeenAt)), skew, refused,
	}
}

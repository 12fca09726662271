package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"gatehouse/api/v1/client"
	"gatehouse/internal/operator"
)

func newAgents(r *remote) *cobra.Command {
	return newGroup("agents", "Manage the agents that act for tenants",
		newAgentsList(r), newAgentsCreate(r), newAgentsBlock(r), newAgentsUnblock(r))
}

func newAgentsList(r *remote) *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use: "list", Short: "List agents", Long: "list shows the agents of your tenant, or of --tenant.\n", Args: usageArgs(cobra.NoArgs),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := r.connect(cmd.Context())
		if err != nil {
			return err
		}
		list, err := c.Agents(cmd.Context(), tenant)
		if err != nil {
			return err
		}
		heads := []string{"NAME", "TENANT", "PROJECT", "ROLE", "STATUS", "REASON", "CREATED AT", "ID"}
		return r.print(cmd, items[client.Agent]{list}, rows(list, heads, func(a client.Agent) []string {
			return []string{a.Name, a.TenantId, orDash(a.ProjectId), a.Role, string(a.Status), orDash(value(a.BlockedReason)), stamp(a.CreatedAt), a.Id}
		}))
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "tenant whose agents to list")
	return r.command(cmd)
}

func newAgentsCreate(r *remote) *cobra.Command {
	var a client.AgentCreate
	var project string
	cmd := &cobra.Command{
		Use: "create NAME --tenant T --role R", Short: "Create an agent",
		Long: "create makes an agent. Its role is what it does (such as tester), and not a role of\n" +
			"callers.\n",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := errors.Join(required("tenant", a.TenantId), required("role", a.Role)); err != nil {
			return usageError{err}
		}
		c, err := r.connect(cmd.Context())
		if err != nil {
			return err
		}
		a.Name, a.ProjectId = args[0], optional(project)
		resp, err := c.API().CreateAgentWithResponse(cmd.Context(), a)
		made, err := operator.Answer(resp, err, func(r *client.CreateAgentResponse) *client.Agent { return r.JSON201 })
		if err != nil {
			return err
		}
		return r.print(cmd, made, line("created agent %s of tenant %s: id %s", made.Name, made.TenantId, made.Id))
	}
	f := cmd.Flags()
	f.StringVar(&a.TenantId, "tenant", "", "tenant of the agent (needed)")
	f.StringVar(&a.Role, "role", "", "what it does (needed)")
	f.StringVar(&project, "project", "", "project that it is kept to")
	return r.command(cmd)
}

// theAgent finds an agent by name or id.
func theAgent(ctx context.Context, c *operator.Client, tenant, name string) (client.Agent, error) {
	list, err := c.Agents(ctx, tenant)
	if err != nil {
		return client.Agent{}, err
	}
	return only(list, "agent "+name, "gatehouse agents list", func(a client.Agent) bool { return a.Name == name || a.Id == name })
}

func newAgentsBlock(r *remote) *cobra.Command {
	var reason string
	cmd := r.agentSwitch("block", "Refuse all that an agent does", func(ctx context.Context, c *operator.Client, id string) (*client.Agent, error) {
		resp, err := c.API().BlockAgentWithResponse(ctx, id, nil, client.AgentBlock{Reason: reason})
		return operator.Answer(resp, err, func(r *client.BlockAgentResponse) *client.Agent { return r.JSON200 })
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for people (needed)")
	cmd.PreRunE = func(*cobra.Command, []string) error { return required("reason", reason) }
	return cmd
}

func newAgentsUnblock(r *remote) *cobra.Command {
	return r.agentSwitch("unblock", "Let an agent act again", func(ctx context.Context, c *operator.Client, id string) (*client.Agent, error) {
		resp, err := c.API().UnblockAgentWithResponse(ctx, id, nil)
		return operator.Answer(resp, err, func(r *client.UnblockAgentResponse) *client.Agent { return r.JSON200 })
	})
}

func (r *remote) agentSwitch(verb, short string, do func(context.Context, *operator.Client, string) (*client.Agent, error)) *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use: verb + " NAME", Short: short,
		Long: short + ", named by name or id; connected sidecars follow within 5 s.\nDoing it again changes nothing.\n",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := r.connect(cmd.Context())
		if err != nil {
			return err
		}
		a, err := theAgent(cmd.Context(), c, tenant, args[0])
		if err != nil {
			return err
		}
		now, err := do(cmd.Context(), c, a.Id)
		if err != nil {
			return err
		}
		return r.print(cmd, now, line("agent %s of tenant %s is %s", now.Name, now.TenantId, now.Status))
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "tenant of the agent")
	return r.command(cmd)
}

package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"gatehouse/api/v1/client"
	"gatehouse/internal/operator"
)

func newTenants(r *remote) *cobra.Command {
	return newGroup("tenants", "See tenants, refuse all of one, and accept it again",
		newTenantsList(r), newTenantsSuspend(r), newTenantsResume(r))
}

func newTenantsList(r *remote) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List tenants", Long: "list shows all tenants.\n", Args: usageArgs(cobra.NoArgs)}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := r.connect(cmd.Context())
		if err != nil {
			return err
		}
		list, err := c.Tenants(cmd.Context())
		if err != nil {
			return err
		}
		heads := []string{"TENANT", "NAME", "SUSPENDED", "CREATED AT"}
		return r.print(cmd, items[client.Tenant]{list}, rows(list, heads, func(t client.Tenant) []string {
			return []string{t.Id, t.Name, yes(t.Suspended), stamp(t.CreatedAt)}
		}))
	}
	return r.command(cmd)
}

func newTenantsSuspend(r *remote) *cobra.Command {
	return r.tenantSwitch("suspend", "Refuse all tokens of a tenant", "connected sidecars follow within 5 s",
		func(ctx context.Context, c *operator.Client, id string) (*client.Tenant, error) {
			resp, err := c.API().SuspendTenantWithResponse(ctx, id, nil)
			return operator.Answer(resp, err, func(r *client.SuspendTenantResponse) *client.Tenant { return r.JSON200 })
		})
}

func newTenantsResume(r *remote) *cobra.Command {
	return r.tenantSwitch("resume", "Accept the tokens of a tenant again", "connected sidecars follow within 5 s",
		func(ctx context.Context, c *operator.Client, id string) (*client.Tenant, error) {
			resp, err := c.API().ResumeTenantWithResponse(ctx, id, nil)
			return operator.Answer(resp, err, func(r *client.ResumeTenantResponse) *client.Tenant { return r.JSON200 })
		})
}

func (r *remote) tenantSwitch(verb, short, more string, do func(context.Context, *operator.Client, string) (*client.Tenant, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use: verb + " TENANT", Short: short, Long: short + "; " + more + ".\nDoing it again changes nothing.\n",
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := r.connect(cmd.Context())
		if err != nil {
			return err
		}
		t, err := do(cmd.Context(), c, args[0])
		if err != nil {
			return notFound(err, "tenant "+args[0], "gatehouse tenants list")
		}
		state := map[bool]string{true: "suspended", false: "accepted"}[t.Suspended]
		return r.print(cmd, t, line("tenant %s is %s", t.Id, state))
	}
	return r.command(cmd)
}

func newRevoke(r *remote) *cobra.Command {
	var subject, token, tenant, reason string
	cmd := &cobra.Command{
		Use:   "revoke --subject S | --token-id ID",
		Short: "Refuse tokens before they expire",
		Long: "revoke refuses one token, by its id (the claim jti), or all tokens that a subject\n" +
			"has up to now. Control and the sidecars that are connected follow within 5 s.\n",
		Args: usageArgs(cobra.NoArgs),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if (subject == "") == (token == "") {
			return usageError{errors.New("give one of --subject and --token-id")}
		}
		ctx := cmd.Context()
		c, err := r.connect(ctx)
		if err != nil {
			return err
		}
		resp, err := c.API().RevokeTokensWithResponse(ctx, client.RevocationCreate{
			Subject: optional(subject), TokenId: optional(token), TenantId: optional(tenant), Reason: optional(reason),
		})
		v, err := operator.Answer(resp, err, func(r *client.RevokeTokensResponse) *client.Revocation { return r.JSON200 })
		if err != nil {
			return notFound(err, "subject "+subject+" there", "gatehouse users list")
		}
		what := joined(" ", within("subject ", value(v.Subject), ""), within("token ", value(v.TokenId), ""))
		return r.print(cmd, v, line("revoked %s of tenant %s; needed until %s", what, v.TenantId, stamp(v.ExpiresAt)))
	}
	f := cmd.Flags()
	f.StringVar(&subject, "subject", "", "id of the user or client, as in its tokens")
	f.StringVar(&token, "token-id", "", "id of one token")
	f.StringVar(&tenant, "tenant", "", "tenant of the subject or token")
	f.StringVar(&reason, "reason", "", "why, for the audit")
	return r.command(cmd)
}

package operator

import (
	"context"
	"fmt"
)

// AgentID finds the id of a tenant's agent by its name.
func (c *Client) AgentID(ctx context.Context, tenant, name string) (string, error) {
	all, err := c.Agents(ctx, tenant)
	if err != nil {
		return "", err
	}
	for _, a := range all {
		if a.TenantId == tenant && a.Name == name {
			return a.Id, nil
		}
	}
	return "", fmt.Errorf("there is no agent %s in tenant %s; see: gatehouse agents list", name, tenant)
}

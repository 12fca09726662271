package operator

import (
	"context"
	"fmt"

	"gatehouse/api/v1/client"
)

// AgentID finds the id of a tenant's agent by its name.
func (c *Client) AgentID(ctx context.Context, tenant, name string) (string, error) {
	id := ""
	err := Each(func(cursor *string) (*string, error) {
		r, err := c.api.ListAgentsWithResponse(ctx, &client.ListAgentsParams{TenantId: &tenant, Cursor: cursor})
		list, err := Answer(r, err, func(r *client.ListAgentsResponse) *client.AgentList { return r.JSON200 })
		if err != nil {
			return nil, err
		}
		for _, a := range list.Items {
			if a.TenantId == tenant && a.Name == name {
				id = a.Id
				return nil, nil
			}
		}
		return list.Next, nil
	})
	if err == nil && id == "" {
		err = fmt.Errorf("there is no agent %s in tenant %s", name, tenant)
	}
	return id, err
}

package operator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gatehouse/api/v1/client"
)

// Register registers a sidecar; one that is there under the name, in the same
// tenant, gets a new credential instead, and the one before dies.
func (c *Client) Register(ctx context.Context, s client.SidecarRegister) (*client.SidecarRegistered, error) {
	made, err := c.RegisterNew(ctx, s)
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != "state.conflict" {
		return made, err
	}
	return c.Rotate(ctx, s.TenantId, s.Name)
}

// RegisterNew registers a sidecar under a name that is not taken.
func (c *Client) RegisterNew(ctx context.Context, s client.SidecarRegister) (*client.SidecarRegistered, error) {
	r, err := c.api.RegisterSidecarWithResponse(ctx, s)
	return Answer(r, err, func(r *client.RegisterSidecarResponse) *client.SidecarRegistered { return r.JSON201 })
}

// Rotate gives a sidecar a new credential; the one before dies.
func (c *Client) Rotate(ctx context.Context, tenant, name string) (*client.SidecarRegistered, error) {
	there, err := c.Sidecar(ctx, tenant, name)
	if err != nil {
		return nil, err
	}
	r, err := c.api.RotateSidecarWithResponse(ctx, there.Id, nil)
	return Answer(r, err, func(r *client.RotateSidecarResponse) *client.SidecarRegistered { return r.JSON200 })
}

// Sidecars are all sidecars of a tenant, "" for all tenants.
func (c *Client) Sidecars(ctx context.Context, tenant string) ([]client.Sidecar, error) {
	p := client.ListSidecarsParams{TenantId: optional(tenant)}
	return All(func(limit int, cursor *string) ([]client.Sidecar, *string, error) {
		p.Limit, p.Cursor = &limit, cursor
		r, err := c.api.ListSidecarsWithResponse(ctx, &p)
		list, err := Answer(r, err, func(r *client.ListSidecarsResponse) *client.SidecarList { return r.JSON200 })
		if err != nil {
			return nil, nil, err
		}
		return list.Items, list.Next, nil
	})
}

// Sidecar finds a sidecar by name, one that is not revoked.
func (c *Client) Sidecar(ctx context.Context, tenant, name string) (*client.Sidecar, error) {
	all, err := c.Sidecars(ctx, tenant)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if s.TenantId == tenant && s.Name == name && !s.Revoked {
			return &s, nil
		}
	}
	return nil, fmt.Errorf("there is no sidecar %s in tenant %s; see: gatehouse proxy status", name, tenant)
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// Standing is where a sidecar stands to what is active for its policy set.
type Standing string

// The standings.
const (
	InForce Standing = "in force" // it reports the active generation
	Refused Standing = "refused"  // it, or its Envoy, did not take it
	Stale   Standing = "stale"    // it reports another generation, and is connected
	Away    Standing = "away"     // it has not reported of late, or never
	Revoked Standing = "revoked"  // it is none any longer
	NoSet   Standing = "no set"   // nothing is active for its policy set
)

// StandingOf tells where a sidecar stands; active is nil where nothing is
// active for its policy set.
func StandingOf(s client.Sidecar, active *client.PolicyActivation) Standing {
	switch {
	case s.Revoked:
		return Revoked
	case active == nil:
		return NoSet
	case s.Refused != nil && s.Refused.Generation == active.Generation && !has(s, active):
		return Refused
	case !s.Connected:
		return Away // what it reported before may no longer be so
	case has(s, active):
		return InForce
	}
	return Stale
}

func has(s client.Sidecar, active *client.PolicyActivation) bool {
	return s.Generation != nil && *s.Generation == active.Generation && s.Revision != nil && *s.Revision == active.Revision
}

// fleetPoll is how often AwaitInForce asks. Sidecars report each change at once.
const fleetPoll = 500 * time.Millisecond

// AwaitInForce waits until every sidecar of a policy set has taken or refused
// what is active, or for is over, and returns those that are not revoked as
// they last were. 0 asks once.
func (c *Client) AwaitInForce(ctx context.Context, set string, active client.PolicyActivation, wait time.Duration) ([]client.Sidecar, error) {
	end := time.NewTimer(wait)
	defer end.Stop()
	tick := time.NewTicker(fleetPoll)
	defer tick.Stop()
	for {
		all, err := c.Sidecars(ctx, "")
		if err != nil {
			return nil, err
		}
		fleet, open := fleetOf(all, set, active)
		if open == 0 {
			return fleet, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-end.C:
			return fleet, nil
		case <-tick.C:
		}
	}
}

// fleetOf are the sidecars that follow a policy set, and how many of them have
// neither taken nor refused what is active.
func fleetOf(all []client.Sidecar, set string, active client.PolicyActivation) (fleet []client.Sidecar, open int) {
	for _, s := range all {
		if s.PolicySet != set || s.Revoked {
			continue
		}
		fleet = append(fleet, s)
		if at := StandingOf(s, &active); at != InForce && at != Refused {
			open++
		}
	}
	return fleet, open
}

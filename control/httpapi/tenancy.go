package httpapi

import (
	"slices"

	"gatehouse/internal/apierr"
	"gatehouse/internal/request"
)

// within narrows what the caller may see to the tenant that it asks for. One
// that it may not see is not found, whether it exists or not.
func (c *call) within(asked *string) (string, error) {
	if asked == nil || *asked == c.tenant {
		return c.tenant, nil
	}
	if c.tenant != request.AnyTenant {
		return "", apierr.Missing()
	}
	return *asked, nil
}

// one is within for things that a tenant's name is part of.
func (c *call) one(asked *string) (string, error) { return c.single(asked, "/query/tenant_id") }

// named is one for a body.
func (c *call) named(asked *string) (string, error) { return c.single(asked, "/tenant_id") }

func (c *call) single(asked *string, pointer string) (string, error) {
	tenant, err := c.within(asked)
	if err == nil && tenant == request.AnyTenant {
		return "", apierr.Unfit(nil, apierr.Field{Pointer: pointer, Code: "required", Message: "which tenant's?"})
	}
	return tenant, err
}

// project narrows what the caller acts on to the project that it asks for, ""
// for all: a caller that has a project acts on that one only.
func (c *call) project(asked *string) (string, error) {
	own := c.principal.Project
	switch {
	case asked == nil || *asked == own:
		return own, nil
	case own != "":
		return "", apierr.Missing()
	}
	return *asked, nil
}

// configures checks that the caller may change what a project has, or with ""
// what a tenant has.
func (c *call) configures(project string) error {
	_, err := c.project(&project)
	return err
}

// sees checks what a store has returned or is to be given: whatever a store
// does, nothing of another tenant passes.
func (c *call) sees(tenant string) error {
	if c.tenant == request.AnyTenant || (c.tenant != "" && c.tenant == tenant) {
		return nil
	}
	return apierr.Missing()
}

// grants checks that the caller may give a role in a tenant. A principal of all
// tenants is an administrator or nothing, because no other role may cross
// tenants.
func (c *call) grants(role request.Role, tenant string) error {
	if tenant == request.AnyTenant && role != request.RoleAdmin {
		return apierr.Unfit(nil, apierr.Field{Pointer: "/role", Code: "not_allowed", Message: `a principal of tenant "*" is admin`})
	}
	return c.reaches(role)
}

// reaches refuses to touch a role above the caller's own.
func (c *call) reaches(role request.Role) error {
	ranks := request.Roles() // from most to least
	if slices.Index(ranks, role) < slices.Index(ranks, c.principal.Role) {
		return forbidden("role_above_own", "role "+string(role)+" is above the caller's own")
	}
	return nil
}

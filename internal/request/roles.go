package request

// Role is one of the five roles.
type Role string

// The roles, from most to least.
const (
	RoleAdmin     Role = "admin"
	RoleOperator  Role = "operator"
	RoleDeveloper Role = "developer"
	RoleObserver  Role = "observer"
	RoleAnonymous Role = "anonymous"
)

// Roles lists the five roles.
func Roles() []Role {
	return []Role{RoleAdmin, RoleOperator, RoleDeveloper, RoleObserver, RoleAnonymous}
}

// Valid reports whether r is one of the five roles.
func (r Role) Valid() bool {
	switch r {
	case RoleAdmin, RoleOperator, RoleDeveloper, RoleObserver, RoleAnonymous:
		return true
	}
	return false
}

// Permissions lists the 17 permissions that the shipped policy knows. Which
// role has which is written in the shipped Rego and nowhere else.
func Permissions() []string {
	return []string{
		"health.view",
		"task.view", "task.create", "task.update", "task.delete",
		"agent.view", "agent.configure",
		"budget.view", "budget.configure",
		"escalation.view", "escalation.create", "escalation.resolve",
		"learning.view", "learning.approve",
		"dlq.read", "dlq.resolve",
		"system.admin",
	}
}

# Who may do what: the decision for every request that is not exempt.
#
# Nothing is allowed unless an `allow` rule says so. To allow more, add an
# `allow` rule of your own, here or in another file of this package; its key
# becomes the decision's rule_id and its value the reason. What a new rule reads
# of the input must be covered by cache_key, or the cache_key must go: the
# loader refuses a policy set where that is not so.
package gatehouse

# The one table of roles and permissions.
permissions_of := {
	"admin": {
		"health.view",
		"task.view", "task.create", "task.update", "task.delete",
		"agent.view", "agent.configure",
		"budget.view", "budget.configure",
		"escalation.view", "escalation.create", "escalation.resolve",
		"learning.view", "learning.approve",
		"dlq.read", "dlq.resolve",
		"system.admin",
	},
	"operator": {
		"health.view",
		"task.view", "task.create", "task.update",
		"agent.view",
		"budget.view",
		"escalation.view", "escalation.create", "escalation.resolve",
		"learning.view",
		"dlq.read",
	},
	"developer": {
		"health.view",
		"task.view", "task.create", "task.update", "task.delete",
		"agent.view",
		"budget.view",
	},
	"observer": {
		"health.view",
		"task.view",
		"agent.view",
		"budget.view",
	},
	"anonymous": {"health.view"},
}

known_permissions := union({held | some held in permissions_of})

# METADATA
# title: The decision
# description: Allowed by the first of the allow rules, or denied with what is missing.
# scope: document
# entrypoint: true
# custom:
#   cache_key: [principal.role, permission, route]
default authz := {
	"allowed": false,
	"rule_id": "default_deny",
	"reason": "no rule allows this request",
}

authz := {"allowed": true, "rule_id": id, "reason": allow[id]} if {
	id := min(object.keys(allow))
} else := object.union(denial, {"allowed": false})

# Routes with `principal: none` and no permission. The loader lets no other
# route do without one.
allow["no_permission_needed"] := "the route needs no permission" if {
	input.permission == ""
}

allow["role_permission"] := sprintf("role %s has %s", [input.principal.role, input.permission]) if {
	input.permission in permissions_of[input.principal.role]
}

# Denials only explain; they take nothing away from what allow gives.
denial := {
	"rule_id": "unknown_permission",
	"reason": sprintf("permission %s is unknown", [input.permission]),
} if {
	not input.permission in known_permissions
} else := {
	"rule_id": "unknown_role",
	"reason": sprintf("role %s is unknown", [input.principal.role]),
} if {
	not permissions_of[input.principal.role]
} else := {
	"rule_id": "role_lacks_permission",
	"reason": sprintf("role %s lacks %s", [input.principal.role, input.permission]),
}

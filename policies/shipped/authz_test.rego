package gatehouse_test

import data.gatehouse

# The table once more, written the other way round: who has each permission.
roles_with := {
	"health.view": {"admin", "operator", "developer", "observer", "anonymous"},
	"task.view": {"admin", "operator", "developer", "observer"},
	"task.create": {"admin", "operator", "developer"},
	"task.update": {"admin", "operator", "developer"},
	"task.delete": {"admin", "developer"},
	"agent.view": {"admin", "operator", "developer", "observer"},
	"agent.configure": {"admin"},
	"budget.view": {"admin", "operator", "developer", "observer"},
	"budget.configure": {"admin"},
	"escalation.view": {"admin", "operator"},
	"escalation.create": {"admin", "operator"},
	"escalation.resolve": {"admin", "operator"},
	"learning.view": {"admin", "operator"},
	"learning.approve": {"admin"},
	"dlq.read": {"admin", "operator"},
	"dlq.resolve": {"admin"},
	"system.admin": {"admin"},
}

roles := {"admin", "operator", "developer", "observer", "anonymous"}

decision(role, permission) := result if {
	result := gatehouse.authz with input as {
		"principal": {"role": role},
		"permission": permission,
		"route": "tasks",
	}
}

test_every_cell if {
	count(roles_with) == 17
	every permission, holders in roles_with {
		{role | some role in roles; decision(role, permission).allowed} == holders
	}
}

test_counts if {
	{role: count(held) | some role, held in gatehouse.permissions_of} == {
		"admin": 17,
		"operator": 11,
		"developer": 7,
		"observer": 4,
		"anonymous": 1,
	}
}

test_role_permission if {
	decision("observer", "task.view") == {
		"allowed": true,
		"rule_id": "role_permission",
		"reason": "role observer has task.view",
	}
}

test_no_permission_needed if {
	every role in roles | {"", "root"} {
		decision(role, "") == {
			"allowed": true,
			"rule_id": "no_permission_needed",
			"reason": "the route needs no permission",
		}
	}
}

test_role_lacks_permission if {
	decision("observer", "task.create") == {
		"allowed": false,
		"rule_id": "role_lacks_permission",
		"reason": "role observer lacks task.create",
	}
}

test_unknown_permission if {
	decision("admin", "task.explode") == {
		"allowed": false,
		"rule_id": "unknown_permission",
		"reason": "permission task.explode is unknown",
	}
}

test_unknown_role if {
	decision("root", "task.view") == {
		"allowed": false,
		"rule_id": "unknown_role",
		"reason": "role root is unknown",
	}
}

test_near_misses_are_unknown if {
	decision("Admin", "task.view").rule_id == "unknown_role"
	decision("admin ", "task.view").rule_id == "unknown_role"
	decision("admin", "Task.view").rule_id == "unknown_permission"
	decision("admin", "task.*").rule_id == "unknown_permission"
	decision("", "task.view").rule_id == "unknown_role"
}

test_values_of_other_types_are_denied if {
	every value in [null, true, 1, [], ["admin"], {"admin": true}] {
		not decision(value, "task.view").allowed
		not decision("admin", value).allowed
	}
}

test_default_deny if {
	gatehouse.authz == {
		"allowed": false,
		"rule_id": "default_deny",
		"reason": "no rule allows this request",
	} with input as {}
}

test_no_principal_is_denied if {
	not gatehouse.authz.allowed with input as {"permission": "task.view"}
}

test_a_rule_of_ones_own_allows if {
	result := gatehouse.authz with input as {"principal": {"role": "observer"}, "permission": "task.create"}
		with gatehouse.allow as {"night_shift": "observers work at night"}
	result == {"allowed": true, "rule_id": "night_shift", "reason": "observers work at night"}
}

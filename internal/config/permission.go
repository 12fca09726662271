package config

import (
	"fmt"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"gatehouse/internal/request"
)

// readPermission reads one name for all methods, or a map of method to name.
// entry is the policy's entry point, methods those of the match (empty: all).
func readPermission(o object, entry string, methods []string) Permission {
	if !o.has("permission") {
		return Permission{}
	}
	check := func(s string) error { return checkPermission(s, entry) }
	if _, byMethod := o.fields["permission"].value.ast.(*ast.MappingNode); !byMethod {
		return Permission{Name: text(o, "permission", "", keep(check))}
	}
	p := Permission{ByMethod: map[string]string{}}
	entries := o.entries("permission", maxMethods)
	for _, e := range entries {
		checkListed(o.report, e, methods)
		name, ok := textOf(o.report, e.value)
		if !ok {
			continue
		}
		if err := check(name); err != nil {
			o.report.add(e.value.at, e.value.path, "%v", err)
			continue
		}
		p.ByMethod[e.key] = name
	}
	o.notEmpty("permission")
	return p
}

// checkListed reports a key that is no method, or one that never matches.
func checkListed(r *report, e entry, methods []string) {
	if err := checkMethod(e.key); err != nil {
		r.add(e.at, e.value.path, "%v", err)
		return
	}
	if len(methods) > 0 && !slices.Contains(methods, e.key) {
		r.add(e.at, e.value.path, "match.methods does not have %s", e.key)
	}
}

// checkPermission checks a permission's name. What the shipped policy does not
// know it grants to nobody; what a user's own Rego knows is not known here.
func checkPermission(s, entry string) error {
	if !permissionPattern.MatchString(s) {
		return fmt.Errorf("%s is not a permission: letters, digits and . _ : / -, at most 128", quote(s))
	}
	if entry == ShippedEntry && !slices.Contains(request.Permissions(), s) {
		return fmt.Errorf("the shipped policy has no permission %s", quote(s))
	}
	return nil
}

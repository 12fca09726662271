package policies

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxCachePaths bounds how many input paths one cache_key names.
const maxCachePaths = 8

// field is one input member that may be part of a cache key. Only members that
// cost nothing to read are here.
type field uint8

const (
	fieldKind field = iota
	fieldIssuer
	fieldSubject
	fieldTenant
	fieldProject
	fieldAgent
	fieldRun
	fieldRole
	fieldPermission
	fieldRoute
	fieldListener
	fieldMethod
	fieldHost
	fieldScheme
)

// cacheFields maps the paths that a cache_key may name to their fields.
func cacheFields() map[string]field {
	return map[string]field{
		"principal.kind":                 fieldKind,
		"principal.issuer":               fieldIssuer,
		"principal.subject":              fieldSubject,
		"principal.tenant":               fieldTenant,
		"principal.project":              fieldProject,
		"principal.agent":                fieldAgent,
		"principal.run":                  fieldRun,
		"principal.role":                 fieldRole,
		"permission":                     fieldPermission,
		"route":                          fieldRoute,
		"listener":                       fieldListener,
		"attributes.request.http.method": fieldMethod,
		"attributes.request.http.host":   fieldHost,
		"attributes.request.http.scheme": fieldScheme,
	}
}

// of returns the field's value in in.
func (f field) of(in *Input) string {
	switch f {
	case fieldKind:
		return string(in.Principal.Kind)
	case fieldIssuer:
		return in.Principal.Issuer
	case fieldSubject:
		return in.Principal.Subject
	case fieldTenant:
		return in.Principal.Tenant
	case fieldProject:
		return in.Principal.Project
	case fieldAgent:
		return in.Principal.Agent
	case fieldRun:
		return in.Principal.Run
	case fieldRole:
		return string(in.Principal.Role)
	case fieldPermission:
		return in.Permission
	case fieldRoute:
		return in.Route
	case fieldListener:
		return in.Listener
	case fieldMethod:
		return in.Method
	case fieldHost:
		return in.Host
	case fieldScheme:
		return in.Scheme
	}
	panic(fmt.Sprintf("policies: field %d has no value; cacheFields names a field that of does not know", f))
}

// cacheKey is the list of fields that a decision depends on.
type cacheKey []field

// append adds the key of in to buf. Each value stands after its length, so no
// two lists of values have the same key.
func (k cacheKey) append(buf []byte, in *Input) []byte {
	for _, f := range k {
		v := f.of(in)
		buf = binary.AppendUvarint(buf, uint64(len(v)))
		buf = append(buf, v...)
	}
	return buf
}

// declaration is a cache_key as it stands in a METADATA block.
type declaration struct {
	value any
	loc   *ast.Location
}

// declarations finds every cache_key that applies to the entry point: on its
// rules, its document, or on its package if the entry point is a package.
func declarations(c *ast.Compiler, entry ast.Ref) []declaration {
	var found []declaration
	for _, a := range c.GetAnnotationSet().Flatten() {
		if a.Annotations == nil || !a.Path.Equal(entry) {
			continue
		}
		if v, ok := a.Annotations.Custom["cache_key"]; ok {
			found = append(found, declaration{value: v, loc: a.Annotations.Location})
		}
	}
	return found
}

// checkCacheKey returns the entry point's cache key, nil if it declares none.
// A declaration that does not cover every read is a fault: a cache that guesses
// would hand one caller's decision to another.
func checkCacheKey(decls []declaration, r *reads) (cacheKey, []Fault) {
	if len(decls) == 0 {
		return nil, nil
	}
	if len(decls) > 1 {
		return nil, []Fault{faultAt(decls[1].loc, "cache_key is declared more than once for the entry point")}
	}
	paths, faults := declaredPaths(decls[0])
	if len(faults) > 0 {
		return nil, faults
	}
	if faults := uncovered(paths, r); len(faults) > 0 {
		return nil, faults
	}
	fields := cacheFields()
	key := make(cacheKey, len(paths))
	for i, p := range paths {
		key[i] = fields[p]
	}
	return key, nil
}

// declaredPaths reads a declaration as a list of known paths.
func declaredPaths(d declaration) ([]string, []Fault) {
	list, ok := d.value.([]any)
	if !ok || len(list) == 0 || len(list) > maxCachePaths {
		return nil, []Fault{faultAt(d.loc, "cache_key must be a list of 1 to %d input paths", maxCachePaths)}
	}
	fields := cacheFields()
	var paths []string
	var faults []Fault
	for _, v := range list {
		p, _ := v.(string)
		if _, known := fields[p]; !known {
			faults = append(faults, faultAt(d.loc, "cache_key: %v is not one of the input paths that may be a key: %s",
				v, strings.Join(slices.Sorted(maps.Keys(fields)), ", ")))
			continue
		}
		paths = append(paths, p)
	}
	return paths, faults
}

// uncovered lists what the policy depends on beyond paths.
func uncovered(paths []string, r *reads) []Fault {
	var faults []Fault
	for _, in := range r.inputs {
		if !covered(paths, in.path) {
			faults = append(faults, faultAt(in.loc, "%s is read here, but cache_key does not list it",
				strings.Join(append([]string{"input"}, in.path...), ".")))
		}
	}
	for _, t := range r.unrepeatable {
		faults = append(faults, faultAt(t.Location,
			"%s gives another result each time, so decisions can't be cached: remove cache_key or the call", t))
	}
	return faults
}

// covered reports whether path is one of paths or lies below it.
func covered(paths []string, path []string) bool {
	return slices.ContainsFunc(paths, func(p string) bool {
		declared := strings.Split(p, ".")
		return len(path) >= len(declared) && slices.Equal(path[:len(declared)], declared)
	})
}

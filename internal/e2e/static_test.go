package e2e

import (
	"os"

	"sigs.k8s.io/yaml"

	"gatehouse/internal/config"
	"gatehouse/internal/envoyconf"
	"gatehouse/internal/envoytest"
)

// static is the static rendering of the stack's configuration, as a tree.
func (s *stack) static() []byte {
	s.t.Helper()
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		must(s.t, err)
		return b
	}
	sc, err := config.ParseSidecar("sidecar.yaml", read(s.path("sidecar.yaml")))
	must(s.t, err)
	set, err := config.ParseSet("gatehouse.yaml", read(s.path("policies/gatehouse.yaml")))
	must(s.t, err)
	text, err := envoyconf.Static(sc, set)
	must(s.t, err)
	return text
}

// startStatic runs an Envoy that is not served by the sidecar, with one edit
// of the route "tasks", in place of the one before.
func (s *stack) startStatic(text []byte, edit func(route map[string]any)) *envoytest.Envoy {
	s.t.Helper()
	if s.envoy != nil {
		s.envoy.Stop()
	}
	var tree map[string]any
	must(s.t, yaml.Unmarshal(text, &tree))
	found := false
	each(tree, func(m map[string]any) {
		if m["name"] == "tasks" && m["match"] != nil {
			found = true
			edit(m)
		}
	})
	if !found {
		s.t.Fatal("the rendering has no route tasks")
	}
	out, err := yaml.Marshal(tree)
	must(s.t, err)
	must(s.t, os.WriteFile(s.path("static.yaml"), out, 0o600))
	e := envoytest.Start(s.t, s.path("static.yaml"), envoytest.Options{Admin: s.path("run/admin.sock")})
	e.WaitReady()
	return e
}

// each visits every object of a tree.
func each(node any, visit func(map[string]any)) {
	switch n := node.(type) {
	case map[string]any:
		visit(n)
		for _, child := range n {
			each(child, visit)
		}
	case []any:
		for _, child := range n {
			each(child, visit)
		}
	}
}

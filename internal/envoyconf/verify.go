package envoyconf

import (
	"errors"
	"fmt"
	"maps"
	"regexp/syntax"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// maxRegexInstructions stays below RE2's program size of 100, above which
// Envoy refuses a whole route table.
const maxRegexInstructions = 80

// Verify refuses resources that Envoy 1.40 would take in silence without
// doing what they say (a missing cluster, a name that stands twice, a
// per-route configuration under a name or of a type that no filter has, …),
// and those that it would reject. It reports every fault.
func Verify(res *Resources) error {
	v := &verifier{res: res}
	for _, name := range slices.Sorted(maps.Keys(res.Clusters)) {
		v.cluster(name, res.Clusters[name])
	}
	addresses := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(res.Listeners)) {
		v.listener(name, res.Listeners[name], addresses)
	}
	for _, name := range slices.Sorted(maps.Keys(res.Routes)) {
		v.table(name, res.Routes[name])
	}
	return errors.Join(v.faults...)
}

type verifier struct {
	res    *Resources
	faults []error
}

func (v *verifier) fault(format string, args ...any) {
	v.faults = append(v.faults, fmt.Errorf(format, args...))
}

// validated is what every generated Envoy message can check of itself.
type validated interface{ ValidateAll() error }

// message checks a message and all that it contains, packed messages included:
// Envoy's own constraints do not reach into an Any.
func (v *verifier) message(where string, m proto.Message) {
	if c, ok := m.(validated); ok {
		if err := c.ValidateAll(); err != nil {
			v.fault("%s: %w", where, err)
		}
	}
	v.leaf(where, m)
	m.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		eachMessage(fd, value, func(child proto.Message) { v.child(where, child) })
		return true
	})
}

func (v *verifier) child(where string, m proto.Message) {
	packed, ok := m.(*anypb.Any)
	if !ok {
		v.message(where, m)
		return
	}
	inner, err := packed.UnmarshalNew()
	if err != nil {
		v.fault("%s: %w", where, err)
		return
	}
	v.message(where, inner)
}

func eachMessage(fd protoreflect.FieldDescriptor, value protoreflect.Value, visit func(proto.Message)) {
	switch {
	case fd.IsMap():
		if fd.MapValue().Message() != nil {
			value.Map().Range(func(_ protoreflect.MapKey, item protoreflect.Value) bool {
				visit(item.Message().Interface())
				return true
			})
		}
	case fd.Message() == nil:
	case fd.IsList():
		for i := range value.List().Len() {
			visit(value.List().Get(i).Message().Interface())
		}
	default:
		visit(value.Message().Interface())
	}
}

// leaf checks what a single message says, wherever it stands.
func (v *verifier) leaf(where string, m proto.Message) {
	switch m := m.(type) {
	case *corev3.GrpcService_EnvoyGrpc:
		if m.GetClusterName() != GateCluster {
			v.fault("%s: a filter calls the cluster %q; only %q is ours", where, m.GetClusterName(), GateCluster)
		}
	case *corev3.HeaderValue:
		v.header(where, m)
	case *corev3.SocketAddress:
		if p := m.GetPortValue(); p == 0 || p > 65535 {
			v.fault("%s: port %d is not between 1 and 65535", where, p)
		}
	case *matcherv3.RegexMatcher:
		v.regex(where, m.GetRegex())
	case *matcherv3.RegexMatchAndSubstitute:
		v.fault("%s: regular rewrites are not used: Envoy takes a substitution of a group that is not there", where)
	}
}

func (v *verifier) header(where string, h *corev3.HeaderValue) {
	if !headerName(h.GetKey()) {
		v.fault("%s: %q is no header name", where, h.GetKey())
	}
	if strings.Contains(strings.ReplaceAll(h.GetValue(), "%%", ""), "%") {
		v.fault("%s: header %s: a literal %% must be written %%%%", where, h.GetKey())
	}
}

// headerName reports whether s may name a header that we add or remove:
// lower-case token characters of RFC 9110, no pseudo-header, not Host.
func headerName(s string) bool {
	if s == "" || s == "host" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

func (v *verifier) regex(where, pattern string) {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		v.fault("%s: %w", where, err)
		return
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		v.fault("%s: %w", where, err)
		return
	}
	if n := len(program.Inst); n > maxRegexInstructions {
		v.fault("%s: the pattern has %d instructions, more than %d", where, n, maxRegexInstructions)
	}
}

func (v *verifier) cluster(name string, c *clusterv3.Cluster) {
	where := "cluster " + name
	v.message(where, c)
	if c.GetName() != name {
		v.fault("%s: is named %q: a name may stand once", where, c.GetName())
	}
	if name == GateCluster {
		v.fault("%s: this name is the sidecar's own", where)
	}
	endpoints := 0
	for _, locality := range c.GetLoadAssignment().GetEndpoints() {
		endpoints += len(locality.GetLbEndpoints())
	}
	if endpoints == 0 {
		v.fault("%s: has no endpoint", where)
	}
}

func (v *verifier) listener(name string, l *listenerv3.Listener, addresses map[string]string) {
	where := "listener " + name
	v.message(where, l)
	if l.GetName() != name {
		v.fault("%s: is named %q: a name may stand once", where, l.GetName())
	}
	a := l.GetAddress().GetSocketAddress()
	address := fmt.Sprintf("%s:%d", a.GetAddress(), a.GetPortValue())
	if other, taken := addresses[address]; taken {
		v.fault("%s: its address %s is listener %s's", where, address, other)
	}
	addresses[address] = name
	if len(l.GetFilterChains()) != 1 {
		v.fault("%s: has %d filter chains, not one", where, len(l.GetFilterChains()))
	}
	for _, chain := range l.GetFilterChains() {
		v.chain(where, chain)
	}
}

// chain holds a filter chain against the one order that is safe.
func (v *verifier) chain(where string, chain *listenerv3.FilterChain) {
	for _, f := range chain.GetFilters() {
		if f.GetName() != connectionManager {
			continue
		}
		var m hcmv3.HttpConnectionManager
		if err := f.GetTypedConfig().UnmarshalTo(&m); err != nil {
			v.fault("%s: %w", where, err)
			return
		}
		if table := m.GetRds().GetRouteConfigName(); v.res.Routes[table] == nil {
			v.fault("%s: its route table %q is missing", where, table)
		}
		var names []string
		for _, hf := range m.GetHttpFilters() {
			names = append(names, hf.GetName())
		}
		if want := chainOrder(); !slices.Equal(names, want) {
			v.fault("%s: its HTTP filters are %q, not %q", where, names, want)
		}
		return
	}
	v.fault("%s: has no %s", where, connectionManager)
}

func chainOrder() []string {
	return []string{filterBodyMax, filterBodyPlain, filterAuthz, filterProc, filterGuard, filterRouter}
}

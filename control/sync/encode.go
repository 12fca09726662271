package sync

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/mesh"
	"gatehouse/internal/rawgrpc"
)

// everyTenant stands in live data for tokens that are good in all tenants.
const everyTenant = "*"

// audience is who gets the same live data: a shared sidecar all of them, a
// bound one those of its tenant.
type audience struct {
	shared bool
	tenant string
}

func audienceOf(s *mesh.Sidecar) audience {
	if s.Shared {
		return audience{shared: true}
	}
	return audience{tenant: s.Tenant}
}

// liveKey tells one version of live data for one audience from all others that
// this process made. The zero value is that of none.
type liveKey struct {
	version  int64
	audience audience
}

// liveMessage is live data, encoded. It is immutable.
type liveMessage struct {
	key   liveKey
	epoch int64
	text  rawgrpc.Message
}

// liveSet is one version of the live data, and the messages made of it so far.
// It is not safe for concurrent use; the messages are.
type liveSet struct {
	version int64
	keySet  []byte
	data    mesh.Live
	parts   map[string]*pb.Live // by tenant
	encoded map[audience]*liveMessage
}

func newLiveSet(version int64, keySet []byte, data mesh.Live) *liveSet {
	l := &liveSet{version: version, keySet: keySet, data: data, parts: map[string]*pb.Live{}, encoded: map[audience]*liveMessage{}}
	for _, s := range data.Subjects {
		p := l.part(s.Tenant)
		p.Subjects = append(p.Subjects, &pb.RevokedSubject{Subject: s.Subject, IssuedBefore: s.IssuedBefore})
	}
	for _, t := range data.Tokens {
		p := l.part(t.Tenant)
		p.Tokens = append(p.Tokens, &pb.RevokedToken{Tenant: t.Tenant, Id: t.TokenID})
	}
	for _, tenant := range data.Suspended {
		p := l.part(tenant)
		p.SuspendedTenants = append(p.SuspendedTenants, tenant)
	}
	for _, a := range data.Blocked {
		p := l.part(a.Tenant)
		p.Agents = append(p.Agents, &pb.BlockedAgent{Tenant: a.Tenant, Id: a.ID, Name: a.Name})
	}
	return l
}

func (l *liveSet) part(tenant string) *pb.Live {
	p := l.parts[tenant]
	if p == nil {
		p = &pb.Live{}
		l.parts[tenant] = p
	}
	return p
}

// message is what an audience gets, made when it is asked for first.
func (l *liveSet) message(a audience) (*liveMessage, error) {
	if m := l.encoded[a]; m != nil {
		return m, nil
	}
	out := &pb.Live{Epoch: l.data.Epoch, KeySet: l.keySet}
	for _, tenant := range slices.Sorted(maps.Keys(l.parts)) {
		p := l.parts[tenant]
		if a.shared || tenant == a.tenant || tenant == everyTenant {
			out.Subjects = append(out.Subjects, p.Subjects...)
			out.Tokens = append(out.Tokens, p.Tokens...)
			out.SuspendedTenants = append(out.SuspendedTenants, p.SuspendedTenants...)
			out.Agents = append(out.Agents, p.Agents...)
		}
	}
	text, err := proto.Marshal(&pb.Down{Message: &pb.Down_Live{Live: out}})
	if err != nil {
		return nil, fmt.Errorf("encode the live data: %w", err)
	}
	m := &liveMessage{liveKey{l.version, a}, l.data.Epoch, text}
	l.encoded[a] = m
	return m, nil
}

// keep forgets the messages of all but these audiences.
func (l *liveSet) keep(audiences map[audience]int) {
	for a := range l.encoded {
		if audiences[a] == 0 {
			delete(l.encoded, a)
		}
	}
}

// revisionKey is which activation of which set. The zero value is that of none.
type revisionKey struct {
	set        string
	generation int64
	revision   string
}

// revisionMessage is an activation, encoded. It is immutable. Without a text
// the set has none yet.
type revisionMessage struct {
	key  revisionKey
	text rawgrpc.Message
}

var errNoActivation = errors.New("has a generation, but no activation of that set was found")

func newRevisionMessage(set string, a mesh.Activated) (*revisionMessage, error) {
	if a.PolicySet != set || a.Generation < 1 {
		return nil, errNoActivation
	}
	text, err := proto.Marshal(&pb.Down{Message: &pb.Down_Revision{Revision: &pb.Revision{
		PolicySet: a.PolicySet, Generation: a.Generation, Revision: a.Revision, Kind: string(a.Kind),
		Bundle: a.Bundle, Signature: a.Signature, KeyId: a.KeyID,
	}}})
	if err != nil {
		return nil, fmt.Errorf("encode the activation: %w", err)
	}
	return &revisionMessage{revisionKey{set, a.Generation, a.Revision}, text}, nil
}

func welcome(s *mesh.Sidecar) *pb.Down {
	return &pb.Down{Message: &pb.Down_Welcome{Welcome: &pb.Welcome{
		SidecarId: s.ID, Name: s.Name, Tenant: s.Tenant, Project: s.Project, Agent: s.Agent,
		Role: string(s.Role), Shared: s.Shared, PolicySet: s.PolicySet,
	}}}
}

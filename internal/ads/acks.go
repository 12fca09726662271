package ads

import (
	"context"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"

	"gatehouse/internal/envoyconf"
)

// response is what one message to Envoy carried.
type response struct {
	version int
	names   []string
}

// answers remembers what each response of each stream carried, so that
// Envoy's answer, which names only a nonce, can be matched.
type answers struct {
	mu   sync.Mutex
	open map[int64]map[string]response // stream → type and nonce → response
}

func (a *answers) sent(stream int64, r *discoveryv3.DeltaDiscoveryResponse) {
	version, _ := strconv.Atoi(r.GetSystemVersionInfo()) // ours, always a number
	sent := response{version: version}
	for _, res := range r.GetResources() {
		sent.names = append(sent.names, res.GetName())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[stream] == nil {
		a.open[stream] = map[string]response{}
	}
	a.open[stream][r.GetTypeUrl()+r.GetNonce()] = sent
}

// take forgets the response that is answered: each is answered once.
func (a *answers) take(stream int64, typeURL, nonce string) (response, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.open[stream][typeURL+nonce]
	delete(a.open[stream], typeURL+nonce)
	return r, ok
}

func (a *answers) closed(stream int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, stream)
}

// callbacks turn what the discovery server sees into events. They are called
// on the streams' goroutines and only enqueue.
func (s *Server) callbacks() serverv3.CallbackFuncs {
	a := &answers{open: map[int64]map[string]response{}}
	return serverv3.CallbackFuncs{
		DeltaStreamOpenFunc: func(context.Context, int64, string) error {
			s.post(func(now time.Time) Effect { s.sw.Connected(now); return Effect{} })
			return nil
		},
		DeltaStreamClosedFunc: func(id int64, _ *corev3.Node) {
			a.closed(id)
			s.post(func(time.Time) Effect { s.sw.Disconnected(); return Effect{} })
		},
		StreamDeltaResponseFunc: func(id int64, _ *discoveryv3.DeltaDiscoveryRequest, r *discoveryv3.DeltaDiscoveryResponse) {
			a.sent(id, r)
		},
		StreamDeltaRequestFunc: func(id int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			return s.request(a, id, r)
		},
	}
}

// request sorts one message of Envoy's: a first subscription, an ACK, a NACK.
func (s *Server) request(a *answers, stream int64, r *discoveryv3.DeltaDiscoveryRequest) error {
	s.mu.Lock()
	waiting := len(s.events)
	s.mu.Unlock()
	if err := tooMany(waiting); err != nil {
		return err
	}
	if r.GetResponseNonce() == "" {
		s.subscribed(r)
		return nil
	}
	sent, ok := a.take(stream, r.GetTypeUrl(), r.GetResponseNonce())
	if !ok {
		return nil
	}
	if detail := r.GetErrorDetail(); detail != nil {
		s.nacked(r.GetTypeUrl(), sent, detail.GetMessage())
		return nil
	}
	s.acked(r.GetTypeUrl(), sent)
	return nil
}

func (s *Server) acked(typeURL string, sent response) {
	s.mu.Lock()
	for _, name := range sent.names {
		delete(s.nacks, nackKey{typeURL, name})
	}
	s.mu.Unlock()
	if routes := typeURL == resource.RouteType; routes || typeURL == resource.ClusterType {
		s.post(func(now time.Time) Effect { return s.sw.Acked(now, routes, sent.version) })
	}
}

// nacked remembers what Envoy refused until it is sent anew and taken, or no
// longer wanted: a later ACK does not mean that it is there.
func (s *Server) nacked(typeURL string, sent response, why string) {
	name, reason := resourceName(typeURL), nackText(typeURL, why)
	s.mu.Lock()
	for _, n := range blamed(sent.names, why) {
		s.nacks[nackKey{typeURL, n}] = Nack{Type: name, Resource: n, Reason: reason, Time: time.Now()}
	}
	s.mu.Unlock()
	s.opts.Log.Error("Envoy refused resources", "type", name, "version", sent.version, "reason", reason)
	s.post(func(now time.Time) Effect {
		s.opts.Nacked(name, reason)
		if typeURL == resource.RouteType || typeURL == resource.ClusterType {
			return s.sw.Nacked(now, sent.version, name+": "+reason)
		}
		return Effect{}
	})
}

// blamed is the resources that Envoy's text names, or all where it names none.
func blamed(names []string, why string) []string {
	var out []string
	for _, n := range names {
		if strings.Contains(why, n) {
			out = append(out, n)
		}
	}
	if out == nil {
		return names
	}
	return out
}

// forgetNacks drops what is no longer wanted.
func (s *Server) forgetNacks(wanted map[string]map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.nacks, func(k nackKey, _ Nack) bool { return !wanted[k.typeURL][k.name] })
}

// nackText cuts Envoy's text, and never passes on that of a secret: it dumps
// the whole resource, private key included.
func nackText(typeURL, why string) string {
	if typeURL == resource.SecretType {
		return "the certificate or key was refused"
	}
	if len(why) > maxNackText {
		return why[:maxNackText] + "…"
	}
	return why
}

// subscribed handles the first message of a type on a stream. An Envoy that
// already holds the routes it is to be given gets no response, so there is no
// ACK to wait for: what it says it has is the answer.
func (s *Server) subscribed(r *discoveryv3.DeltaDiscoveryRequest) {
	has := r.GetInitialResourceVersions()
	if r.GetTypeUrl() != resource.RouteType || len(has) == 0 {
		return
	}
	snapshot, err := s.cache.GetSnapshot(envoyconf.NodeID)
	if err != nil || snapshot.ConstructVersionMap() != nil {
		return
	}
	wanted := snapshot.GetVersionMap(resource.RouteType)
	for name, version := range wanted {
		if has[name] != version {
			return
		}
	}
	version, _ := strconv.Atoi(snapshot.GetVersion(resource.RouteType)) // ours, always a number
	s.post(func(now time.Time) Effect { return s.sw.Acked(now, true, version) })
}

// resourceName is the short name of a resource type, for people.
func resourceName(typeURL string) string {
	switch typeURL {
	case resource.ClusterType:
		return "cluster"
	case resource.ListenerType:
		return "listener"
	case resource.RouteType:
		return "routes"
	case resource.SecretType:
		return "secret"
	}
	return "other"
}

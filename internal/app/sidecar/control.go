package sidecar

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/config"
	"gatehouse/internal/ledger"
	"gatehouse/internal/link"
	"gatehouse/internal/live"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
	"gatehouse/internal/revision"
	"gatehouse/internal/snapshot"
	"gatehouse/internal/telemetry"
	"gatehouse/internal/token"
	"gatehouse/internal/trusted"
)

// savePeriod is between savings of when control was heard last.
const savePeriod = time.Minute

// control is the sidecar's side of its control service: a link.Handler. Its
// methods are called by the line's one goroutine; the others may be called by any.
type control struct {
	app  *App
	line *link.Line

	ledger *ledger.Client

	feed *token.Feed
	keys revision.Keys // that may sign activations

	clock     controlClock
	connected atomic.Int64 // sidecars of the policy set
	sent      chan *sidecarpb.Revision

	second  int64 // of the record that came last; of the records' goroutine, as the next
	allowed int   // records of allowed requests in it

	mu      sync.Mutex // guards all below
	welcome *sidecarpb.Welcome
	live    *sidecarpb.Live
	saved   time.Time       // the confirmation that is saved
	order   int64           // of the activation that came last
	want    arrival         // the newest that was handed to Envoy
	have    revision.Signed // the newest that Envoy took
	known   []arrival       // of revisions that Envoy may still confirm, the newest last
	refused *sidecarpb.Refused
	late    int64 // order of the activation that was refused
}

// arrival is an activation and its place among all that came: what an
// activation that is refused says of its generation is not to be believed.
type arrival struct {
	revision.Signed
	order int64
}

// newControl reads the credential file and prepares the line.
func newControl(a *App, c *config.Control) (*control, error) {
	credential, err := readCredential(c.CredentialFile)
	if err != nil {
		return nil, err
	}
	conf, err := tlsConfig(c)
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(a.sidecar.StateDir, "ledger")
	incarnation := ledger.LaterThan(folder, a.opts.Now().UnixNano())
	m := &control{app: a, clock: controlClock{start: a.opts.Now()}, feed: token.NewFeed("control", a.log), keys: credential.Verifiers(), sent: make(chan *sidecarpb.Revision, 1)}
	m.line, err = link.New(link.Options{
		Address: c.Address, TLS: conf, Build: a.opts.Version, Incarnation: incarnation, Handler: m, Log: a.log,
		Secret: func() (string, error) {
			credential, err := readCredential(c.CredentialFile) // a rotated one counts at once
			return credential.Secret, err
		},
		Dropped: a.metrics.RecordsNotSent,
	})
	if err != nil {
		return nil, err
	}
	m.ledger, err = ledger.Open(ledger.Options{
		Dir: folder, Incarnation: incarnation, Line: m.line, Log: a.log,
	})
	return m, err
}

func readCredential(path string) (mesh.Credential, error) {
	f, err := trusted.Open(path, os.Geteuid())
	if err != nil {
		return mesh.Credential{}, fmt.Errorf("credential_file %s: %w", path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Mode().Perm()&0o004 != 0 {
		err = fmt.Errorf("can be read by everybody (mode %04o)", info.Mode().Perm())
	}
	var c mesh.Credential
	if err == nil {
		var text []byte
		if text, err = io.ReadAll(io.LimitReader(f, 1<<20)); err == nil {
			c, err = mesh.ParseCredential(text)
		}
	}
	if err != nil {
		return c, fmt.Errorf("credential_file %s: %w", path, err)
	}
	return c, nil
}

func tlsConfig(c *config.Control) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS13}
	if c.CAFile == "" {
		return conf, nil
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	conf.RootCAs = x509.NewCertPool()
	if !conf.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("ca_file %s: holds no certificate in PEM", c.CAFile)
	}
	return conf, nil
}

// start opens the line. Requests don't wait for it.
func (m *control) start(run context.Context) {
	m.app.wg.Go(func() { m.line.Run(run) })
	m.app.wg.Go(func() { m.ledger.Run(run) })
	m.app.wg.Go(func() { m.follow(run) })
}

// Welcome binds the sidecar to what is registered.
func (m *control) Welcome(w *sidecarpb.Welcome) {
	m.mu.Lock()
	m.welcome = w
	m.mu.Unlock()
	m.app.live.Bind(bindingOf(w))
	m.save()
	m.app.log.Info("control welcomes the sidecar", "registered_as", w.GetName(), "tenant", w.GetTenant(), "policy_set", w.GetPolicySet())
}

func bindingOf(w *sidecarpb.Welcome) live.Binding {
	b := live.Binding{Tenant: w.GetTenant(), Workload: &request.Principal{
		Kind: request.KindWorkload, Subject: w.GetName(), Tenant: w.GetTenant(),
		Project: w.GetProject(), Agent: w.GetAgent(), Role: request.Role(w.GetRole()),
	}}
	if w.GetShared() {
		b.Tenant = ""
	}
	if !b.Workload.Role.Valid() {
		b.Workload.Role = request.RoleAnonymous
	}
	return b
}

// Live puts another version of the live data in force.
func (m *control) Live(l *sidecarpb.Live) {
	m.mu.Lock()
	m.live = l
	m.mu.Unlock()
	m.app.live.SetState(stateOf(l))
	m.app.exchanges.Recheck()
	m.confirmKeys(m.app.now())
	m.save()
	m.line.Changed()
}

func stateOf(l *sidecarpb.Live) *live.State {
	s := &live.State{
		Epoch: l.GetEpoch(), Subjects: make(map[string]int64, len(l.GetSubjects())), Tokens: make(map[live.Token]struct{}, len(l.GetTokens())),
		Suspended: make(map[string]struct{}, len(l.GetSuspendedTenants())), Blocked: make(map[live.Agent]struct{}, 2*len(l.GetAgents())),
	}
	for _, r := range l.GetSubjects() {
		s.Subjects[r.GetSubject()] = max(s.Subjects[r.GetSubject()], r.GetIssuedBefore())
	}
	for _, t := range l.GetTokens() {
		s.Tokens[live.Token{Tenant: t.GetTenant(), ID: t.GetId()}] = struct{}{}
	}
	for _, t := range l.GetSuspendedTenants() {
		s.Suspended[t] = struct{}{}
	}
	for _, a := range l.GetAgents() {
		s.Blocked[live.Agent{Tenant: a.GetTenant(), Name: a.GetId()}] = struct{}{}
		s.Blocked[live.Agent{Tenant: a.GetTenant(), Name: a.GetName()}] = struct{}{}
	}
	return s
}

// Beat confirms the live data where it is the newest.
func (m *control) Beat(b *sidecarpb.Beat) {
	now := m.app.opts.Now()
	m.connected.Store(int64(b.GetConnected()))
	delay := m.setClock(now, time.UnixMilli(b.GetNowUnixMs()))
	if b.GetEpoch() != m.app.live.State().Epoch {
		return // the newer one is on its way
	}
	// As of when control said it: no earlier than what is known, unless that
	// lies ahead, of a clock that was set back since.
	said, known := now.Add(-delay), m.app.live.Confirmed()
	if said.After(known) || known.After(now) {
		m.app.live.Confirm(said)
	}
	m.confirmKeys(m.app.now().Add(-delay))
	m.mu.Lock()
	due := now.Sub(m.saved) >= savePeriod
	m.mu.Unlock()
	if due {
		m.save()
	}
}

// setClock follows control's clock where ours is off: by ours alone, tokens
// that have expired would be taken, or good ones refused. It returns how long
// the beat was under way.
func (m *control) setClock(now, shown time.Time) time.Duration {
	before := m.clock.ahead(now)
	delay := m.clock.beat(now, shown)
	if ahead := m.clock.ahead(now); (before == 0) != (ahead == 0) {
		m.app.log.Warn("this machine's clock and control's differ; tokens are judged by control's", "ahead_ms", ahead.Milliseconds())
	}
	return delay
}

// confirmKeys says that control's keys are good as of now, by the clock that
// judges their age (App.now): they were sent, or confirmed.
func (m *control) confirmKeys(now time.Time) {
	m.mu.Lock()
	doc := m.live.GetKeySet()
	m.mu.Unlock()
	if len(doc) == 0 {
		return
	}
	if err := m.feed.Replace(doc, now); err != nil {
		m.app.log.Error("control's keys are refused; those before stay in use", "error", err)
	}
}

// Revision takes an activation. It is compiled elsewhere, so that revocations
// don't wait for it; of several that wait, the newest counts.
func (m *control) Revision(r *sidecarpb.Revision) {
	select {
	case <-m.sent:
	default:
	}
	m.sent <- r
}

func (m *control) follow(run context.Context) {
	for {
		select {
		case <-run.Done():
			return
		case r := <-m.sent:
			m.take(run, r)
		}
	}
}

// take verifies an activation and hands its revision to Envoy. One that is
// refused is told, and what is in force stays.
func (m *control) take(ctx context.Context, r *sidecarpb.Revision) {
	signed := m.arrived(r)
	// Noted before the push: what Envoy says of the set may come at once, and
	// is not to be wiped out.
	m.app.note(func(s *loadState) { s.Time, s.Error = m.app.opts.Now(), "" })
	files, err := m.verify(signed.Signed, r.GetBundle())
	if err == nil {
		if m.again(signed) {
			return
		}
		err = m.app.push(ctx, files)
	}
	if err == nil {
		return
	}
	m.app.refuse(err)
	m.refuse(signed, err.Error())
}

func (m *control) arrived(r *sidecarpb.Revision) arrival {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.order++
	return arrival{signedOf(r), m.order}
}

func signedOf(r *sidecarpb.Revision) revision.Signed {
	return revision.Signed{
		Activation: revision.Activation{
			PolicySet: r.GetPolicySet(), Generation: r.GetGeneration(), Revision: r.GetRevision(), Kind: revision.Kind(r.GetKind()),
		},
		KeyID: r.GetKeyId(), Signature: r.GetSignature(),
	}
}

// verify says whether an activation may come into force: signed, of our policy
// set, not older than what is, and with the content that it names.
func (m *control) verify(s revision.Signed, bundle []byte) (revision.Files, error) {
	if err := s.Verify(m.keys); err != nil {
		return nil, err
	}
	m.mu.Lock()
	set, held := m.welcome.GetPolicySet(), m.want
	m.mu.Unlock()
	switch {
	case s.PolicySet != set:
		return nil, fmt.Errorf("it is of the policy set %q; this sidecar follows %q", s.PolicySet, set)
	case held.PolicySet == set && s.Generation < held.Generation:
		return nil, fmt.Errorf("generation %d is older than %d, which is held", s.Generation, held.Generation)
	case held.PolicySet == set && s.Generation == held.Generation && s.Revision != held.Revision:
		return nil, fmt.Errorf("generation %d is of another revision than before", s.Generation)
	}
	files, err := revision.Decode(bundle)
	if err != nil {
		return nil, err
	}
	if id := revision.ID(files); id != s.Revision {
		return nil, fmt.Errorf("its content is revision %.12s, not %.12s", id, s.Revision)
	}
	return files, nil
}

// again notes an activation, and reports whether its revision is in force
// already: then there is nothing to do but to say so.
func (m *control) again(s arrival) bool {
	m.mu.Lock()
	m.want = s
	m.known = append(m.known, s)[max(0, len(m.known)-maxKnown+1):]
	same := m.have.Revision == s.Revision && m.app.load.Load().Revision == s.Revision
	m.mu.Unlock()
	if same {
		m.app.taken(s.Revision)
	}
	return same
}

// maxKnown bounds the activations that Envoy may still confirm.
const maxKnown = 16

// taken says that Envoy has a revision's routes, and returns the activation
// that it was for; nil for none of control's.
func (m *control) taken(id string) *revision.Signed {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := len(m.known) - 1; i >= 0; i-- {
		if s := m.known[i]; s.Revision == id {
			m.have = s.Signed
			if m.late <= s.order {
				m.refused = nil
			}
			m.line.Changed()
			return &s.Signed
		}
	}
	return nil
}

// refuse tells control that an activation did not come into force.
func (m *control) refuse(s arrival, reason string) {
	m.mu.Lock()
	m.late = s.order
	m.refused = &sidecarpb.Refused{Generation: s.Generation, Revision: s.Revision, Reason: cut(reason, mesh.MaxReason)}
	m.mu.Unlock()
	m.line.Changed()
}

// failed tells control that Envoy refused a revision.
func (m *control) failed(id, reason string) {
	m.mu.Lock()
	want := m.want
	m.mu.Unlock()
	if want.Revision == id {
		m.refuse(want, reason)
	}
}

// cut bounds a text that others wrote, and makes it fit to be sent: a message
// with a string that is no UTF-8 would end the line, and the next, and so on.
func cut(s string, limit int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") // without a torn last character
}

// Status is what to tell control.
func (m *control) Status() *sidecarpb.Status {
	now := m.app.opts.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	return &sidecarpb.Status{
		Generation: m.have.Generation, Revision: m.have.Revision, LiveEpoch: m.app.live.State().Epoch,
		NowUnixMs: now.UnixMilli(), Refused: m.refused, Breakers: breakerReports(m.app.breakers.States(), now),
	}
}

// restored takes up the saved sets that control signed for the last process.
// What was not signed is not used.
func (m *control) restored(a snapshot.Accepted) error {
	switch {
	case a.Signed == nil:
		return errors.New("it is not signed")
	case a.Signed.Revision != revision.ID(a.Files):
		return errors.New("another revision was signed")
	}
	if err := a.Signed.Verify(m.keys); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known = append(m.known, arrival{Signed: *a.Signed})
	if a.Signed.Generation > m.want.Generation {
		m.want = arrival{Signed: *a.Signed}
	}
	return nil
}

// owing is how the settlements stand.
func (m *control) owing() telemetry.Ledger {
	st := m.ledger.Status()
	return telemetry.Ledger{Waiting: st.Waiting, SpoolBytes: st.SpoolBytes, Lost: st.Lost, Refused: st.Refused, Alarm: st.Alarm != nil}
}

// ControlStatus is what /status shows of control.
type ControlStatus struct {
	Connected bool      `json:"connected"`
	Confirmed time.Time `json:"confirmed"` // when it last said that the live data is the newest
	LiveEpoch int64     `json:"live_epoch"`
	PolicySet string    `json:"policy_set"`
	Tenant    string    `json:"tenant"`
	Shared    bool      `json:"shared"`
	AheadMS   int64     `json:"clock_ahead_ms"` // of control's clock
	Refused   string    `json:"refused,omitempty"`

	Generation int64 `json:"generation"`
}

func (m *control) status() *ControlStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &ControlStatus{
		Connected: m.line.Up(), Confirmed: m.app.live.Confirmed(), LiveEpoch: m.app.live.State().Epoch,
		PolicySet: m.welcome.GetPolicySet(), Tenant: m.welcome.GetTenant(), Shared: m.welcome.GetShared(),
		AheadMS: m.clock.ahead(m.app.opts.Now()).Milliseconds(), Generation: m.have.Generation,
		Refused: m.refused.GetReason(),
	}
}

// allowedPerSecond bounds the records of allowed requests that go up in one
// second; refusals all do, as far as the line takes them.
const allowedPerSecond = 200

// record sends a decision up. It is called by the records' one goroutine.
func (m *control) record(d *telemetry.Decision, text []byte) {
	if d.Allowed && !d.WouldDeny {
		if second := d.Time.Unix(); second != m.second {
			m.second, m.allowed = second, 0
		}
		if m.allowed++; m.allowed > allowedPerSecond {
			m.app.metrics.RecordsNotSent(1)
			return
		}
	}
	m.line.Record(bytes.Clone(text))
}

func (m *control) standing() telemetry.Line {
	m.mu.Lock()
	defer m.mu.Unlock()
	return telemetry.Line{
		Connected: m.line.Up(), Confirmed: m.app.live.Confirmed(), LiveEpoch: m.app.live.State().Epoch, Generation: m.have.Generation,
	}
}

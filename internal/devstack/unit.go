package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"gatehouse/api/v1/client"
	"gatehouse/internal/config"
	"gatehouse/internal/operator"
	"gatehouse/internal/revision"
	"gatehouse/internal/snapshot"
	"gatehouse/internal/wholefile"
)

// What a stack's sidecars are registered with: the policy set that they follow,
// the tenant and project that they serve, and the agent that their workloads are.
const (
	PolicySet = "dev"
	Tenant    = "org1"
	Project   = "proj1"
	Agent     = "dev-agent"
)

// unit is one sidecar and its Envoy.
type unit struct {
	number                   int // from 1
	inbound, outbound, debug string
}

// suffix tells the names of further units from those of the first.
func (u unit) suffix() string {
	if u.number == 1 {
		return ""
	}
	return "-" + strconv.Itoa(u.number)
}

func (u unit) name() string { return "dev" + u.suffix() }

func (l *layout) sidecarFile(u unit) string    { return l.path("sidecar" + u.suffix() + ".yaml") }
func (l *layout) credentialFile(u unit) string { return l.path("keys", "sidecar"+u.suffix()+".json") }
func (l *layout) socket(u unit) string         { return l.path("run"+u.suffix(), "gate.sock") }
func (l *layout) state(u unit) string          { return l.path("state" + u.suffix()) }
func (l *layout) bootstrap(u unit) string      { return l.path("state"+u.suffix(), "envoy.yaml") }

// admin is control's API, for the admin that every stack has.
func admin(ctx context.Context, api string) (*operator.Client, error) {
	c, err := operator.New(operator.Options{URL: "http://" + api})
	if err != nil {
		return nil, err
	}
	t, err := c.Login(ctx, "admin", "admin123")
	if err != nil {
		return nil, fmt.Errorf("the admin's login: %w", err)
	}
	return c.With(t.AccessToken)
}

// publish puts the policy set of the folder in force at control.
func (s *Stack) publish(ctx context.Context, c *operator.Client) error {
	files, err := snapshot.Read(s.layout.policies, os.Geteuid())
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	rev, _, err := c.Push(ctx, PolicySet, files, "pushed by gatehouse dev")
	if err != nil {
		if operator.IsCode(err, "validation.invalid") {
			err = fmt.Errorf("%w: %w", errRefused, err)
		}
		return err
	}
	_, err = c.Activate(ctx, PolicySet, rev.Id)
	return err
}

// register gives a unit a credential of its own; one of an earlier run dies.
func (s *Stack) register(ctx context.Context, c *operator.Client, u unit) error {
	agent, err := makeAgent(ctx, c)
	if err != nil {
		return err
	}
	r, err := c.Register(ctx, client.SidecarRegister{
		Name: u.name(), TenantId: Tenant, ProjectId: new(Project), AgentId: &agent, PolicySet: PolicySet,
	})
	if err != nil {
		return fmt.Errorf("registering sidecar %s: %w", u.name(), err)
	}
	text, err := json.Marshal(r.Credential)
	if err != nil {
		return err
	}
	return wholefile.Replace(s.layout.credentialFile(u), text, 0o600)
}

// makeAgent returns the id of the agent of the stack's workloads.
func makeAgent(ctx context.Context, c *operator.Client) (string, error) {
	r, err := c.API().CreateAgentWithResponse(ctx, client.AgentCreate{
		Name: Agent, Role: "developer", TenantId: Tenant, ProjectId: new(Project),
	})
	if err := operator.Done(r, err); err != nil && !operator.IsCode(err, "state.conflict") {
		return "", fmt.Errorf("making agent %s: %w", Agent, err)
	}
	return c.AgentID(ctx, Tenant, Agent)
}

func (s *Stack) startUnit(ctx context.Context, p programs, u unit, mesh string, credentials []credential) error {
	if err := s.startSidecar(p.sidecar, u, mesh, credentials); err != nil {
		return err
	}
	return s.startEnvoy(ctx, p.envoy, u)
}

func (s *Stack) startSidecar(path string, u unit, mesh string, credentials []credential) error {
	config := s.layout.sidecarFile(u)
	err := writeSidecar(config, sidecarValues{
		Name: u.name(), Socket: s.layout.socket(u), State: s.layout.state(u), EnvoyUID: s.uids.envoy,
		Inbound: u.inbound, Outbound: u.outbound, Debug: u.debug, Credentials: credentials,
		Control: mesh, CA: s.layout.path("keys", caFile), Credential: s.layout.credentialFile(u),
	})
	if err != nil {
		return err
	}
	return s.run(program{
		name: "sidecar" + u.suffix(), path: path, uid: ownUID, env: withCredentials(os.Environ(), credentials, s.keys),
		args: []string{"--config", config, "--log-level", "warn"},
	})
}

// startEnvoy waits for the socket, which the sidecar opens last: an Envoy that
// finds none tries again only after a while.
func (s *Stack) startEnvoy(ctx context.Context, path string, u unit) error {
	if err := poll(ctx, s.died, exists(s.layout.socket(u))); err != nil {
		return s.notReady(err)
	}
	return s.run(program{
		name: "envoy" + u.suffix(), path: path, uid: s.uids.envoy,
		args: []string{
			"-c", s.layout.bootstrap(u), "--disable-hot-restart", "--concurrency", "1",
			"--drain-strategy", "immediate", "--log-level", "warning",
		},
	})
}

// serving looks whether a unit has taken what control sent, is ready, and
// whether both its listeners take connections.
func serving(u unit) func(context.Context) error {
	client := &http.Client{Timeout: probeTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	return func(ctx context.Context) error {
		if err := taken(ctx, client, "http://"+u.debug+"/status"); err != nil {
			return err
		}
		if _, err := probe(ctx, client, "http://"+u.debug+"/readyz"); err != nil {
			return err
		}
		return errors.Join(connects(ctx, u.inbound), connects(ctx, u.outbound))
	}
}

// taken looks whether the sidecar has refused the policy set, and whether
// control has been heard. It may be ready before: with what it had saved.
func taken(ctx context.Context, client *http.Client, url string) error {
	text, err := probe(ctx, client, url)
	if err != nil {
		return err
	}
	var status struct {
		Loaded struct {
			Error string `json:"error"`
		} `json:"loaded"`
		Control struct {
			Connected bool      `json:"connected"`
			Confirmed time.Time `json:"confirmed"`
		} `json:"control"`
	}
	if err := json.Unmarshal(text, &status); err != nil {
		return fmt.Errorf("the sidecar's status: %w", err)
	}
	if e := status.Loaded.Error; e != "" {
		return fmt.Errorf("%w:\n%s", errRefused, e)
	}
	if !status.Control.Connected || status.Control.Confirmed.IsZero() {
		return errors.New("the sidecar has not heard control yet")
	}
	return nil
}

// readSet reads the configuration of a policy set, nil where it has faults.
func readSet(dir string) *config.PolicySet {
	files, err := snapshot.Read(dir, os.Geteuid())
	if err != nil {
		return nil
	}
	set, err := config.ParseSet(revision.ConfigFile, files[revision.ConfigFile])
	if err != nil {
		return nil
	}
	return set
}

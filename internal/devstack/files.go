package devstack

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"gatehouse/internal/config"
	"gatehouse/internal/revision"
	"gatehouse/internal/wholefile"
	"gatehouse/policies"
)

//go:embed templates
var templateFiles embed.FS

func render(name string, data any) ([]byte, error) {
	t, err := template.ParseFS(templateFiles, "templates/"+name)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = t.Execute(&text, data)
	return text.Bytes(), err
}

// setValues are what the policy set's template needs. Paths are absolute.
type setValues struct {
	Data, Policies, SidecarFile, JWKS, App, Provider string
}

func (setValues) Issuer() string   { return Issuer }
func (setValues) Control() string  { return ControlIssuer }
func (setValues) Audience() string { return Audience }

// writeSet writes the policy set: gatehouse.yaml, and the shipped Rego with
// its tests.
func writeSet(v setValues) error {
	text, err := render("gatehouse.yaml.tmpl", v)
	if err != nil {
		return err
	}
	shipped := policies.Shipped()
	rego, err := fs.Glob(shipped, "*.rego")
	if err != nil {
		return err
	}
	for _, name := range rego {
		text, err := fs.ReadFile(shipped, name)
		if err == nil {
			err = wholefile.Replace(filepath.Join(v.Policies, name), text, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return wholefile.Replace(filepath.Join(v.Policies, revision.ConfigFile), text, 0o644)
}

// credential is one credential of the sidecar and where its value comes from.
type credential struct{ Name, Env string }

// credentialOf is the credential of a name.
func credentialOf(name string) credential {
	return credential{Name: name, Env: "GATEHOUSE_DEV_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "_KEY"}
}

// CredentialValue is what the sidecar of a stack adds for a credential that is
// not the provider's: what the environment of this process has for it, or a demo
// value.
func CredentialValue(name string) string { return providerKeys(nil).valueOf(name) }

// credentialsOf lists the credentials that a set names; for each the stack
// provides a demo value. A set that can't be read has none here: the sidecar
// says what is wrong with it.
func credentialsOf(set *config.PolicySet) []credential {
	if set == nil {
		return nil
	}
	var all []credential
	for _, u := range set.Upstreams {
		c := credentialOf(u.Credential)
		if c.Name != "" && !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b credential) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// withCredentials adds the credentials' values to an environment.
func withCredentials(env []string, credentials []credential, keys providerKeys) []string {
	env = slices.Clone(env)
	for _, c := range credentials {
		env = append(env, c.Env+"="+keys.valueOf(c.Name)) // the last of a name counts
	}
	return env
}

// sidecarValues are what the template of sidecar.yaml needs.
type sidecarValues struct {
	Name, Socket, State, Inbound, Outbound, Debug string

	Control, CA, Credential string // of the service for sidecars

	EnvoyUID    int // ownUID leaves it out
	Credentials []credential
}

func writeSidecar(path string, v sidecarValues) error {
	text, err := render("sidecar.yaml.tmpl", v)
	if err != nil {
		return err
	}
	if _, err := config.ParseSidecar(path, text); err != nil {
		return fmt.Errorf("the stack's own sidecar.yaml: %w", err)
	}
	return wholefile.Replace(path, text, 0o644)
}

package control

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"gatehouse/control/auth"
	"gatehouse/control/httpapi"
	"gatehouse/internal/seal"
)

// Config is what the process is told by its environment.
type Config struct {
	Database    string
	Box         *seal.Box
	Address     string
	Issuer      string
	CORSOrigins []string
	Lockout     auth.Rule
	CertFile    string
	KeyFile     string

	Redis        string
	Mesh         string // address of the service for sidecars; "" without a certificate for it
	MeshCertFile string
	MeshKeyFile  string
	Debug        string          // address of the debug listener; "" for none
	Limits       *httpapi.Limits // nil for the API's own
}

// Defaults of the environment.
const (
	defaultHost     = "0.0.0.0"
	defaultPort     = "8000"
	defaultMeshPort = "8443"
)

// FromEnvironment reads the configuration. All faults are reported at once,
// and no value is repeated: most are secrets or hold one.
func FromEnvironment(env func(string) string) (Config, error) {
	c := Config{
		Database: env("DATABASE_URL"), Redis: env("REDIS_URL"), CertFile: env("TLS_CERT_FILE"), KeyFile: env("TLS_KEY_FILE"),
		MeshCertFile: cmp.Or(env("MESH_CERT_FILE"), env("TLS_CERT_FILE")), MeshKeyFile: cmp.Or(env("MESH_KEY_FILE"), env("TLS_KEY_FILE")),
		Debug: env("DEBUG_ADDRESS"),
	}
	var faults []error
	fault := func(err error) {
		if err != nil {
			faults = append(faults, err)
		}
	}
	if c.Database == "" {
		fault(errors.New("DATABASE_URL is not set"))
	}
	if c.Redis == "" {
		fault(errors.New("REDIS_URL is not set"))
	}
	var err error
	c.Box, err = box(env("JWT_SECRET"), env("JWT_SECRET_PREVIOUS"))
	fault(err)
	c.Address, err = address(cmp.Or(env("HOST"), defaultHost), cmp.Or(env("PORT"), defaultPort))
	fault(err)
	c.Mesh, err = address(cmp.Or(env("HOST"), defaultHost), cmp.Or(env("MESH_PORT"), defaultMeshPort))
	fault(wrap("MESH_PORT", err))
	if c.MeshCertFile == "" {
		c.Mesh = ""
	}
	c.Limits, err = limits(env("API_LIMITS_FILE"))
	fault(wrap("API_LIMITS_FILE", err))
	c.Lockout, err = lockout(env)
	fault(err)
	c.Issuer = cmp.Or(env("GATEHOUSE_ISSUER"), auth.DefaultIssuer)
	for origin := range strings.SplitSeq(env("CORS_ALLOW_ORIGINS"), ",") {
		if origin = strings.TrimSpace(origin); origin != "" {
			c.CORSOrigins = append(c.CORSOrigins, origin)
		}
	}
	return c, errors.Join(faults...)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// limits reads the API's limits, where a file says them.
func limits(path string) (*httpapi.Limits, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	l, err := httpapi.ParseLimits(text)
	return &l, err
}

func box(current, previous string) (*seal.Box, error) {
	if current == "" {
		return nil, errors.New("JWT_SECRET is not set; make one with: openssl rand -hex 32")
	}
	var before []byte
	if previous != "" {
		before = []byte(previous)
	}
	b, err := seal.New([]byte(current), before)
	if err != nil {
		return nil, fmt.Errorf("JWT_SECRET: %w", err)
	}
	return b, nil
}

func address(host, port string) (string, error) {
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "", errors.New("the PORT is no number between 0 and 65535")
	}
	return net.JoinHostPort(host, port), nil
}

// lockout is the rule of failed logins, as LOGIN_MAX_ATTEMPTS and
// LOGIN_LOCKOUT_TTL_SECONDS say.
func lockout(env func(string) string) (auth.Rule, error) {
	r := auth.DefaultRule()
	attempts, err := positive(env, "LOGIN_MAX_ATTEMPTS", r.MaxFailures, maxAttempts)
	if err != nil {
		return r, err
	}
	seconds, err := positive(env, "LOGIN_LOCKOUT_TTL_SECONDS", int(r.Lockout/time.Second), int(maxLock/time.Second))
	if err != nil {
		return r, err
	}
	r.MaxFailures = attempts
	r.Window, r.Lockout = time.Duration(seconds)*time.Second, time.Duration(seconds)*time.Second
	return r, nil
}

// Bounds of the rule of failed logins.
const (
	maxAttempts = 100
	maxLock     = 24 * time.Hour
)

func positive(env func(string) string, name string, otherwise, limit int) (int, error) {
	text := env(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > limit {
		return 0, fmt.Errorf("%s is no number between 1 and %d", name, limit)
	}
	return n, nil
}

package devstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"gatehouse/internal/pgserver"
	"gatehouse/internal/wholefile"
)

// ControlIssuer is the claim iss of control's tokens.
const ControlIssuer = "https://gatehouse.internal"

// secretFile keeps what control seals its signing keys with. The database of
// a data folder is of no use to another secret.
const secretFile = "jwt-secret"

// keySetPath is where control publishes its signing keys: it answers when they
// are there.
const keySetPath = "/.well-known/jwks.json"

// startDatabase starts the stack's own Postgres, unless another is named, and
// returns its URL. ctx bounds the start.
func (s *Stack) startDatabase(ctx context.Context, bin string) (string, error) {
	if s.opts.Postgres != "" {
		return s.opts.Postgres, nil
	}
	db, err := pgserver.Start(ctx, pgserver.Options{Dir: s.layout.path("postgres"), Bin: bin, Cache: cacheDir()})
	if err != nil {
		return "", fmt.Errorf("the stack did not come up: %w", err)
	}
	s.mu.Lock()
	s.database = db
	s.mu.Unlock()
	s.watchers.Go(func() {
		<-db.Done()
		s.buried("postgres", obituary("postgres", "", db.Log()))
	})
	return db.URL(), nil
}

// cacheDir is where the template of new databases is kept; "" where there is
// no place for it, which costs a cold start each time.
func cacheDir() string {
	user, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	dir := filepath.Join(user, "gatehouse", "postgres")
	if os.MkdirAll(dir, 0o700) != nil {
		return ""
	}
	return dir
}

// startControl starts Postgres, Redis and control, and returns when control
// answers.
func (s *Stack) startControl(ctx context.Context, p programs, a addresses) error {
	database, err := s.startDatabase(ctx, p.postgres)
	if err != nil {
		return err
	}
	redis, err := s.startRedis()
	if err != nil {
		return err
	}
	env, err := s.controlEnv(a, database, redis)
	if err != nil {
		return err
	}
	err = s.run(program{name: "control", path: p.control, uid: s.uids.control, args: []string{"--dev", "--log-level", "warn"}, env: env})
	if err != nil {
		return err
	}
	if err := poll(ctx, s.died, answering("http://"+a.api+keySetPath)); err != nil {
		return s.notReady(err)
	}
	return nil
}

func (s *Stack) controlEnv(a addresses, database, redis string) ([]string, error) {
	host, port, err := net.SplitHostPort(a.api)
	if err != nil {
		return nil, err
	}
	_, mesh, err := net.SplitHostPort(a.mesh)
	if err != nil {
		return nil, err
	}
	secret, err := s.layout.secret()
	if err != nil {
		return nil, err
	}
	return []string{
		"API_LIMITS_FILE=" + os.Getenv("API_LIMITS_FILE"),
		"DATABASE_URL=" + database, "REDIS_URL=" + redis, "JWT_SECRET=" + secret, "GATEHOUSE_ISSUER=" + ControlIssuer,
		"HOST=" + host, "PORT=" + port, "MESH_PORT=" + mesh,
		"MESH_CERT_FILE=" + s.layout.path("control", certFile), "MESH_KEY_FILE=" + s.layout.path("control", certKeyFile),
	}, s.layout.writeCertificates(s.uids.control)
}

// answering looks whether a URL is answered with 200.
func answering(url string) func(context.Context) error {
	client := &http.Client{Timeout: probeTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	return func(ctx context.Context) error {
		_, err := probe(ctx, client, url)
		return err
	}
}

// secret loads the folder's secret, or makes it: 260 random bits.
func (l *layout) secret() (string, error) {
	path := l.path("keys", secretFile)
	text, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("control's secret: %w", err)
	}
	secret := rand.Text() + rand.Text()
	return secret, wholefile.Replace(path, []byte(secret+"\n"), 0o600)
}

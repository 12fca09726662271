package devstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gatehouse/internal/config"
	"gatehouse/internal/pgserver"
)

// ControlIssuer is the claim iss of control's tokens.
const ControlIssuer = "https://gatehouse.internal"

// secretFile keeps what control seals its signing keys with. The database of
// a data folder is of no use to another secret.
const secretFile = "jwt-secret"

// keySetPath is where control publishes its signing keys.
const keySetPath = "/.well-known/jwks.json"

func keySetURL(api string) string { return "http://" + api + keySetPath }

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

// startControl returns when control has published its keys. The sidecar must
// not start before: after a failed fetch it waits for ten seconds.
func (s *Stack) startControl(ctx context.Context, path, api, database string) error {
	host, port, err := net.SplitHostPort(api)
	if err != nil {
		return err
	}
	secret, err := s.layout.secret()
	if err != nil {
		return err
	}
	err = s.run(program{
		name: "control", path: path, uid: s.uids.control, args: []string{"--dev", "--log-level", "warn"},
		env: []string{
			"DATABASE_URL=" + database, "JWT_SECRET=" + secret, "HOST=" + host, "PORT=" + port,
			"GATEHOUSE_ISSUER=" + ControlIssuer,
		},
	})
	if err != nil {
		return err
	}
	if err := poll(ctx, s.died, answering(keySetURL(api))); err != nil {
		return s.notReady(err)
	}
	return nil
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
	return secret, writeFile(path, []byte(secret+"\n"), 0o600)
}

// wantedAPIPort is the port at which a set expects control on this machine,
// and whether it expects it anywhere there.
func wantedAPIPort(set *config.PolicySet) (port int, expected bool) {
	if set == nil {
		return apiPort, false
	}
	for _, i := range set.Issuers {
		u, err := url.Parse(i.JWKS.URL)
		if err != nil || i.Issuer != ControlIssuer {
			continue
		}
		ip, err := netip.ParseAddr(u.Hostname())
		n, portErr := strconv.Atoi(u.Port())
		if err == nil && portErr == nil && ip.IsLoopback() {
			return n, true
		}
	}
	return apiPort, false
}

// awaitedKeys is the key set that the sidecar must have before the stack is
// ready: control's, where the policy set names it, else "".
func awaitedKeys(set *config.PolicySet, api string) string {
	keys := keySetURL(api)
	if set == nil || !slices.ContainsFunc(set.Issuers, func(i config.Issuer) bool { return i.JWKS.URL == keys }) {
		return ""
	}
	return keys
}

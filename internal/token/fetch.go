package token

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// Bounds of a fetch, next to loadTimeout and maxSetBytes.
const (
	dialTimeout    = 3 * time.Second
	maxHeaderBytes = 16 << 10
)

// newFetcher returns the loader of a key set URL. The URL comes from the
// configuration and is https, or http to a loopback address. Each URL has its
// own transport: no proxy, no redirects, no connection kept, TLS verified
// against roots (nil means the system's).
func newFetcher(rawURL string, roots *x509.CertPool) (func(context.Context) ([]byte, error), error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("key set URL is malformed")
	}
	if u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, errors.New("key set URL needs a host, and has no user and no fragment")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return nil, errors.New("key set URL is neither https nor http to a loopback address")
	}
	client := &http.Client{
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    dialTimeout,
			MaxResponseHeaderBytes: maxHeaderBytes,
			DisableKeepAlives:      true,
			DisableCompression:     true, // the size limit is on what was sent
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context) ([]byte, error) { return fetch(ctx, client, u.String()) }, nil
}

// isLoopback wants a literal address: what a name resolves to may change.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

func fetch(ctx context.Context, client *http.Client, target string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch key set: %w", err)
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch key set: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch key set: status %d", resp.StatusCode)
	}
	return readLimited(resp.Body)
}

// readLimited reads a document of at most maxSetBytes.
func readLimited(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSetBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read key set: %w", err)
	}
	if len(b) > maxSetBytes {
		return nil, errors.New("key set is too large")
	}
	return b, nil
}

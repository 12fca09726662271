// Package operator calls control's API the way the tools of an operator do: it
// logs in and keeps the session, pushes policy sets and says where they are in
// force, registers sidecars, follows decisions, and turns what the API refuses
// into an Error that says what to do. Everything else is the generated client's,
// which API gives.
//
// It keeps passwords no longer than a call, and sends a token to the API that
// issued it alone. A Client is safe for concurrent use; a Keeper is safe for
// concurrent use by any number of processes.
package operator

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"gatehouse/api/v1/client"
)

// Bounds of a call.
const (
	callTimeout  = 30 * time.Second
	maxAnswer    = 16 << 20
	maxRefusal   = 1 << 20 // of a tail that was refused
	listPageSize = 200     // what the API gives at most
	maxListed    = 100_000 // items of one list that All keeps
)

// Options are what New needs.
type Options struct {
	URL   string // of the API, such as https://control.example:8000
	CA    []byte // PEM, of who may vouch for the API; nil is the system's bundle
	Token string // an access token; "" for none yet
}

// Client calls one control.
type Client struct {
	api  *client.ClientWithResponses
	tail *client.API // without a bound on how long an answer takes
	o    Options
}

// New makes a client. Nothing is called.
func New(o Options) (*Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if o.CA != nil {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(o.CA) {
			return nil, errors.New("the file of certificates holds none in PEM")
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	transport.ResponseHeaderTimeout = callTimeout
	bearer := client.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		if o.Token != "" {
			r.Header.Set("authorization", "Bearer "+o.Token)
		}
		return nil
	})
	via := func(timeout time.Duration) client.ClientOption {
		return client.WithHTTPClient(&http.Client{Transport: bounded{transport}, Timeout: timeout, CheckRedirect: stay})
	}
	api, err := client.NewClientWithResponses(o.URL, via(callTimeout), bearer)
	if err != nil {
		return nil, fmt.Errorf("API %s: %w", o.URL, err)
	}
	tail, err := client.NewClient(o.URL, via(0), bearer)
	if err != nil {
		return nil, fmt.Errorf("API %s: %w", o.URL, err)
	}
	return &Client{api: api, tail: tail, o: o}, nil
}

// stay follows no redirect: a token goes nowhere else.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// With returns a client that calls with another token.
func (c *Client) With(token string) (*Client, error) {
	o := c.o
	o.Token = token
	return New(o)
}

// API is the generated client. Results and errors are for Answer.
func (c *Client) API() *client.ClientWithResponses { return c.api }

// bounded bounds an answer.
type bounded struct{ http.RoundTripper }

// RoundTrip bounds the answer's body.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil && resp.Header.Get("content-type") != "text/event-stream" {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// Login proves a user.
func (c *Client) Login(ctx context.Context, user, password string) (*client.Token, error) {
	r, err := c.api.LoginWithResponse(ctx, client.LoginRequest{Username: user, Password: password})
	return Answer(r, err, func(r *client.LoginResponse) *client.Token { return r.JSON200 })
}

// maxPages bounds a list that is read to its end.
const maxPages = 10_000

// each reads a list page by page: page is given a cursor, nil at first, and
// returns the next one, nil at the end.
func each(page func(cursor *string) (*string, error)) error {
	var cursor *string
	for range maxPages {
		next, err := page(cursor)
		if err != nil || next == nil || *next == "" {
			return err
		}
		cursor = next
	}
	return fmt.Errorf("the list has more than %d pages", maxPages)
}

// All reads a list to its end. page returns one part and the next cursor.
func All[T any](page func(limit int, cursor *string) ([]T, *string, error)) ([]T, error) {
	all := []T{}
	err := each(func(cursor *string) (*string, error) {
		items, next, err := page(listPageSize, cursor)
		if all = append(all, items...); err == nil && len(all) > maxListed {
			err = fmt.Errorf("the list has more than %d items; name a tenant to see a part", maxListed)
		}
		return next, err
	})
	return all, err
}

package demo

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"gatehouse/internal/demoapp"
	"gatehouse/internal/devstack"
)

const (
	requestTimeout = 10 * time.Second
	maxAnswer      = 4 << 20
)

// probe sends the requests of one demo.
type probe struct {
	key    *devstack.Key
	forger *devstack.Key // another key under the same name
	ready  devstack.Ready
	client *http.Client
	tokens map[string]string // from control, by user
	denied string            // id of a decision
	limit  string            // id of the demo's own limit of tokens; "" for none
	flight *http.Response    // of a call that goes on while other rows run; nil for none
}

func newProbe(s *devstack.Stack) (*probe, error) {
	forger, err := devstack.NewKey(s.Key().KeyID())
	if err != nil {
		return nil, err
	}
	p := &probe{
		key: s.Key(), forger: forger, ready: s.Ready(), tokens: map[string]string{},
		client: &http.Client{Timeout: requestTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 1}},
	}
	return p, nil
}

// answer is what came back to a request.
type answer struct {
	status int             // 0: none came
	code   string          // error_code of a refusal, or why none came
	header http.Header     // of the answer
	seen   demoapp.Request // what the upstream echoes; zero for a refusal
	text   string          // of a refusal, of control's answer, or what a model said
	note   string          // what is worth saying of it
}

func (a answer) String() string {
	switch {
	case a.code == "":
		return strconv.Itoa(a.status)
	case a.status == 0:
		return a.code
	}
	return fmt.Sprintf("%d %s", a.status, a.code)
}

// try is one request to be sent.
type try struct {
	method   string // GET where ""
	outbound bool   // to the outbound listener, not the inbound one
	base     string // to another listener, where not ""
	path     string
	header   map[string]string
	body     string
}

func (p *probe) base(outbound bool) string {
	if outbound {
		return p.ready.Outbound
	}
	return p.ready.Inbound
}

// do sends a request as any client would.
func (p *probe) do(ctx context.Context, t try) (answer, error) {
	method := cmp.Or(t.method, http.MethodGet)
	req, err := http.NewRequestWithContext(ctx, method, cmp.Or(t.base, p.base(t.outbound))+t.path, bytes.NewBufferString(t.body))
	if err != nil {
		return answer{}, err
	}
	for name, value := range t.header {
		req.Header.Set(name, value)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	return readAnswer(resp)
}

// raw sends a path as it is, which a proper client would have cleaned.
func (p *probe) raw(ctx context.Context, path, token string) (answer, error) {
	u, err := url.Parse(p.ready.Inbound)
	if err != nil {
		return answer{}, err
	}
	conn, err := (&net.Dialer{Timeout: requestTimeout}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	err = conn.SetDeadline(time.Now().Add(requestTimeout))
	if err == nil {
		_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nhost: %s\r\nauthorization: Bearer %s\r\nconnection: close\r\n\r\n", path, u.Host, token)
	}
	if err != nil {
		return answer{}, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return answer{}, err
	}
	return readAnswer(resp)
}

func readAnswer(resp *http.Response) (answer, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, err
	}
	a := answer{status: resp.StatusCode, header: resp.Header}
	if resp.StatusCode == http.StatusOK {
		return a, wrap("the upstream's echo", json.Unmarshal(body, &a.seen))
	}
	var refusal struct {
		Code string `json:"error_code"`
	}
	err = json.Unmarshal(body, &refusal)
	a.code, a.text = refusal.Code, string(body)
	return a, wrap("the refusal's body", err)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// total is how many requests the upstreams have counted: the app, and the
// provider of models.
func (p *probe) total(ctx context.Context) (int64, error) {
	var c demoapp.Count
	if err := p.getJSON(ctx, p.ready.AppCounters+"/count", &c); err != nil {
		return 0, err
	}
	var l modelLedger
	err := p.getJSON(ctx, p.ready.LLMLedger, &l)
	return c.Total + l.Totals.Calls, err
}

func (p *probe) getJSON(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(url + ": " + resp.Status)
	}
	return wrap(url, json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into))
}

package operator

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"gatehouse/api/v1/client"
)

// Bounds of a tail.
const (
	maxEvent  = 1 << 20          // bytes of one event
	tailQuiet = 35 * time.Second // without the sign of life that comes every 10 s
)

// Bounds of coming back to a tail that ended.
const (
	firstPause     = time.Second
	longestPause   = 30 * time.Second
	maxFailures    = 20 // in a row
	failureForgets = time.Minute
)

// Follow calls each with the decisions that are stored from now on, until ctx
// ends, each fails, or the API refuses or is away for long. connect gives the
// client of each connection, as a tail outlives an access token; told is told
// why one ended early. Nothing between two connections is missed.
func Follow(ctx context.Context, connect func(context.Context) (*Client, error), p client.TailDecisionsParams, told func(error), each func(client.Decision) error) error {
	pause, failures := firstPause, 0
	for {
		begun := time.Now()
		err := followOnce(ctx, connect, &p, each)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !passing(err):
			return err
		case err == nil || time.Since(begun) > failureForgets:
			pause, failures = firstPause, 0
		}
		if err != nil {
			if failures++; failures > maxFailures {
				return err
			}
			told(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// passing reports whether a tail may go on later: the network, or a service
// that is not well or has no room.
func passing(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status == http.StatusTooManyRequests || e.Status >= http.StatusInternalServerError || e.Status == 0
	}
	return Unreachable(err) || errors.Is(err, errBroken)
}

// errBroken is a connection that ended other than it should.
var errBroken = errors.New("the tail broke off")

// followOnce follows one connection to its end. p.LastEventID moves on.
func followOnce(ctx context.Context, connect func(context.Context) (*Client, error), p *client.TailDecisionsParams, each func(client.Decision) error) error {
	c, err := connect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := c.tail.TailDecisions(ctx, p)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
		return errors.Join(refusal(refused{resp.StatusCode, body}), err)
	}
	quiet := time.AfterFunc(tailQuiet, cancel)
	defer quiet.Stop()
	return readEvents(resp.Body, func() { quiet.Reset(tailQuiet) }, func(e event) error {
		return heed(e, p, each)
	})
}

type refused struct {
	status int
	body   []byte
}

// StatusCode is the answer's status.
func (r refused) StatusCode() int { return r.status }

// GetBody is the answer's body.
func (r refused) GetBody() []byte { return r.body }

// heed acts on an event. The place moves on behind what each has taken.
func heed(e event, p *client.TailDecisionsParams, each func(client.Decision) error) error {
	switch e.name {
	case "decision":
		var d client.Decision
		if err := json.Unmarshal(e.data, &d); err != nil {
			return fmt.Errorf("a decision of the tail can't be read: %w", err)
		}
		if err := each(d); err != nil {
			return err
		}
	case "error":
		return refusal(refused{0, e.data})
	}
	if e.id != "" {
		p.LastEventID = &e.id
	}
	return nil
}

// event is one server-sent event, or a sign of life that only has a place.
type event struct {
	name, id string
	data     []byte
}

// readEvents reads server-sent events (HTML, 9.2.6) until they end. alive is
// called with each line. An event that has no end does not count.
func readEvents(r io.Reader, alive func(), each func(event) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 16<<10), maxEvent)
	var e event
	for lines.Scan() {
		alive()
		line := bytes.TrimSuffix(lines.Bytes(), []byte("\r"))
		if len(line) > 0 {
			if e.add(line); len(e.data) > maxEvent {
				return fmt.Errorf("an event of the tail has more than %d bytes", maxEvent)
			}
			continue
		}
		if err := each(e); err != nil {
			return err
		}
		e = event{}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	return nil
}

// add takes one line of an event; comments and unknown fields are passed over.
func (e *event) add(line []byte) {
	field, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(field) {
	case "event":
		e.name = string(value)
	case "id":
		e.id = string(value)
	case "data":
		if e.data != nil {
			e.data = append(e.data, '\n')
		}
		e.data = append(e.data, value...)
	}
}

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const denied = `{"kind":"decision","time":"2026-01-02T03:04:05Z","decision_id":"d-1","request_id":"q-1","revision":"9f86d081","route":"tasks","listener":"inbound","method":"DELETE","path":"/tasks/1",` +
	`"principal":{"kind":"user","issuer":"https://gatehouse.internal","subject":"alice","tenant":"org1","project":"proj1","agent":"","role":"observer"},"permission":"task.delete","allowed":false,"would_deny":false,` +
	`"mode":"enforce","class":"policy","error_code":"auth.forbidden","rule_id":"role_lacks_permission","reason":"role observer lacks task.delete","limits":["reads","writes"],"latency_us":1200,"new_member":{"a":1}}`

func decisionOf(record string) string {
	return `{"id": "d-1", "tenant_id": "org1", "sidecar_id": "8f14e45f-ceea-467f-a1d6-91a1b5c8f004", "at": "2026-01-02T03:04:05Z", "place": "AAEC", "record": ` + record + `}`
}

func TestExplain(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.says("getDecision", 200, decisionOf(denied))
	r := a.shell().run(t, "explain", "d-1")
	r.want(t, ExitOK)
	const want = `DENIED: DELETE /tasks/1

  decided at  2026-01-02T03:04:05Z
  who         user alice, role observer, tenant org1, project proj1, issuer https://gatehouse.internal
  route       tasks (inbound)
  needs       permission task.delete
  rule        role_lacks_permission: role observer lacks task.delete
  refused by  the check of policy
  answered    auth.forbidden
  mode        enforce
  limits      reads, writes
  revision    9f86d081
  took        1.2ms
  sidecar     8f14e45f-ceea-467f-a1d6-91a1b5c8f004
  decision    d-1
  request     q-1
  new_member  {"a":1}

next: role observer lacks the permission task.delete that route tasks needs: call with a role that has it, or change the policy; then gatehouse policy push
`
	if r.stdout != want {
		t.Errorf("got:\n%s\nwant:\n%s", r.stdout, want)
	}
	r = a.shell().run(t, "explain", "d-1", "-o", "json")
	r.want(t, ExitOK)
	wantJSON(t, r.stdout, decisionOf(denied))
}

func TestExplainSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ record, want string }{
		{`{"allowed": true}`, "nothing; the request was allowed"},
		{`{"allowed": true, "would_deny": true, "class": "limit", "limits": ["reads"]}`, "raise the limit (reads)"},
		{`{"allowed": false, "class": "identity"}`, "get a new one"},
		{`{"allowed": false, "class": "method", "method": "PUT", "route": "r"}`, "route r does not list PUT"},
		{`{"allowed": false, "class": "hygiene"}`, "in another form"},
		{`{"allowed": false, "class": "unavailable"}`, "gatehouse proxy status"},
		{`{"allowed": false, "class": "fault", "request_id": "q-7"}`, "request q-7"},
		{`{"allowed": false, "class": "policy", "rule_id": "mine"}`, "rule mine of the policy set"},
		{`{"allowed": false, "limits": 5, "latency_us": "x", "principal": []}`, "rule - of the policy set"},
		{`{"allowed": false, "path": "/\u001b[2J"}`, `DENIED:  /\x1b[2J`},
	} {
		a := newAPI(t)
		a.says("getDecision", 200, decisionOf(tt.record))
		r := a.shell().run(t, "explain", "d-1")
		r.want(t, ExitOK)
		if !strings.Contains(r.stdout, tt.want) {
			t.Errorf("%s: got\n%s\nwant %q", tt.record, r.stdout, tt.want)
		}
	}
}

func TestDecisionsAskWithTheirFilters(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	query := ""
	a.does("listDecisions", func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		w.Header().Set("content-type", "application/json")
		_, _ = io.WriteString(w, `{"items": [`+decisionOf(denied)+`,`+decisionOf(`{"allowed": true, "would_deny": true, "rule_id": "a\tb"}`)+`]}`)
	})
	r := a.shell().run(t, "decisions", "--denied", "--subject", "alice", "--route", "tasks", "--rule", "x", "--tenant", "org1")
	r.want(t, ExitOK)
	r.wantStdout(t, `TIME .*`, `2026-01-02T03:04:05Z +d-1 +DENIED +role_lacks_permission +alice +tasks +DELETE /tasks/1`, `2026-01-02T03:04:05Z +d-1 +WOULD DENY +a\\tb +- +- +`)
	if want := "allowed=false&limit=20&route=tasks&rule_id=x&subject=alice&tenant_id=org1"; sortedQuery(query) != want {
		t.Errorf("asked %s, want %s", sortedQuery(query), want)
	}
}

func sortedQuery(text string) string {
	r, err := http.NewRequest(http.MethodGet, "/?"+text, nil)
	if err != nil {
		return err.Error()
	}
	return r.URL.Query().Encode()
}

// cutting ends a command when it has printed enough lines.
type cutting struct {
	bytes.Buffer
	lines int
	cut   context.CancelFunc
}

func (c *cutting) Write(b []byte) (int, error) {
	n, err := c.Buffer.Write(b)
	if bytes.Count(c.Bytes(), []byte("\n")) >= c.lines {
		c.cut()
	}
	return n, err
}

func TestFollow(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.does("tailDecisions", func(w http.ResponseWriter, r *http.Request) {
		if got := sortedQuery(r.URL.RawQuery); got != "allowed=false&subject=alice" {
			t.Errorf("asked %s", got)
		}
		w.Header().Set("content-type", "text/event-stream")
		for range 2 {
			fmt.Fprintf(w, "event: decision\nid: p\ndata: %s\n\n", strings.ReplaceAll(decisionOf(denied), "\n", ""))
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	for _, form := range []string{"table", "json"} {
		ctx, cancel := context.WithCancel(t.Context())
		out := &cutting{lines: 2, cut: cancel}
		a.shell().runIn(ctx, out, "decisions", "--follow", "--denied", "--subject", "alice", "-o", form).want(t, ExitOK)
		first, _, _ := strings.Cut(out.String(), "\n")
		switch form {
		case "table":
			if want := "2026-01-02T03:04:05Z  d-1                         DENIED      role_lacks_permission   alice             tasks           DELETE /tasks/1"; first != want {
				t.Errorf("got  %q\nwant %q", first, want)
			}
		default:
			wantJSON(t, first, decisionOf(denied))
		}
	}
}

func TestCredentialIsWrittenAndNotShown(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	var registered struct {
		Credential json.RawMessage `json:"credential"`
	}
	noError(t, json.Unmarshal([]byte(a.shown["registerSidecar"]), &registered))
	out := filepath.Join(t.TempDir(), "app-1.json")
	for _, args := range []string{
		"sidecars register app-1 --tenant org1 --set main --project proj1 --agent builder --role developer --shared --out " + out,
		"sidecars rotate app-1 --tenant org1 --out " + out,
		"sidecars rotate app-1 --tenant org1 -o json --out " + out,
	} {
		noError(t, os.WriteFile(out, []byte("old"), 0o644))
		r := a.shell().run(t, strings.Fields(args)...)
		r.want(t, ExitOK)
		if strings.Contains(r.stdout+r.stderr, "ghsc_") {
			t.Errorf("%s prints the credential:\n%s", args, r.stdout)
		}
		text, err := os.ReadFile(out)
		noError(t, err)
		wantJSON(t, string(text), string(registered.Credential))
		if info, err := os.Stat(out); err != nil || info.Mode().Perm() != fs.FileMode(0o600) {
			t.Errorf("the file: %v, %v", info.Mode(), err)
		}
	}
	a.wantBody("registerSidecar", `{"name": "app-1", "tenant_id": "org1", "project_id": "proj1", "agent_id": "`+agentID+`", "role": "developer", "policy_set": "main", "shared": true}`)
	a.wantAsked("listAgents", "registerSidecar", "listSidecars", "rotateSidecar", "listSidecars", "rotateSidecar")
	r := a.shell().run(t, "sidecars", "register", "app-1", "--tenant", "org1", "--set", "main", "--out", "-")
	r.want(t, ExitOK)
	wantJSON(t, r.stdout, string(registered.Credential))
}

func TestCredentialThatCantBeWritten(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.shell().run(t, "sidecars", "register", "app-1", "--tenant", "org1", "--set", "main", "--out", "/nowhere/x").want(t, ExitFindings, "--out /nowhere/x")
	a.wantAsked() // or it would be lost
	dir := t.TempDir()
	noError(t, os.Mkdir(filepath.Join(dir, "x"), 0o700))
	a.shell().run(t, "sidecars", "register", "app-1", "--tenant", "org1", "--set", "main", "--out", filepath.Join(dir, "x")).
		want(t, ExitFindings, "is lost", "gatehouse sidecars rotate app-1 --tenant org1")
	a.refuses("registerSidecar", 409, "state.conflict", `{"reason": "already_exists"}`)
	a.shell().run(t, "sidecars", "register", "app-1", "--tenant", "org1", "--set", "main", "--out", "-").
		want(t, ExitFindings, "already_exists", "gatehouse sidecars rotate app-1 --tenant org1")
}

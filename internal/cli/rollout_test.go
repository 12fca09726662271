package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	revisionID = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	sidecarIs  = `"id": "8f14e45f-ceea-467f-a1d6-91a1b5c8f004", "tenant_id": "org1", "project_id": "", "agent_id": "", "role": "developer", "shared": false, "policy_set": "main", "revoked": false, "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z", "version": 1`
	holding    = `{` + sidecarIs + `, "name": "app-1", "connected": true, "revision": "` + revisionID + `", "generation": 3}`
	refusing   = `{` + sidecarIs + `, "name": "app-2", "connected": true, "revision": "0", "generation": 2, "refused": {"generation": 3, "revision": "` + revisionID + `", "reason": "no such\u001b cluster", "at": "2026-01-02T03:04:05Z"}}`
	behind     = `{` + sidecarIs + `, "name": "app-3", "connected": true, "revision": "0", "generation": 2}`
	away       = `{` + sidecarIs + `, "name": "app-4", "connected": false}`
)

func TestPush(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	r := a.shell().run(t, "policy", "push", shippedSet, "--set", "main", "--note", "why")
	r.want(t, ExitOK)
	r.wantStdout(t, `revision    `+revisionID+` \(pushed\)`, `generation  3 \(activate\)`, `in force at 1 of 1 sidecars`)
	a.wantAsked("pushRevision", "activateRevision", "listSidecars")
	a.wantBody("activateRevision", `{"revision_id": "`+revisionID+`"}`)
	if body := a.bodies["pushRevision"]; !strings.Contains(body, `"gatehouse.yaml":`) || !strings.Contains(body, `"authz.rego":`) || !strings.Contains(body, `"note":"why"`) {
		t.Errorf("pushed %s", body)
	}
	a.says("pushRevision", 200, a.shown["pushRevision"])
	r = a.shell().run(t, "policy", "push", shippedSet, "--set", "main", "-o", "json")
	r.want(t, ExitOK)
	wantJSON(t, r.stdout, a.expected(`{"revision": `+a.shown["pushRevision"]+`, "policy_set": activateRevision, "sidecars": listSidecars}`))
	r = a.shell().run(t, "policy", "push", shippedSet, "--set", "main", "--no-activate")
	r.want(t, ExitOK)
	r.wantStdout(t, `revision    `+revisionID+` \(pushed before\)`, `not in force; put it in force with: gatehouse policy activate main 9f86d081884c`)
}

func TestPushWaitsForTheSidecars(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.says("listSidecars", 200, `{"items": [`+strings.Join([]string{holding, refusing, behind, away}, ",")+`]}`)
	r := a.shell().run(t, "policy", "push", shippedSet, "--set", "main", "--wait", "0")
	r.says(t, ExitFindings, "not in force at 3 sidecars", `app-2 (tenant org1) refused it: no such\x1b cluster`, "app-3 (tenant org1) is connected, but still at generation 2", "app-4 (tenant org1) is not connected; last seen: -")
	if !strings.HasSuffix(r.stdout, "in force at 1 of 4 sidecars\n") {
		t.Errorf("printed %s", r.stdout)
	}
	a.says("listSidecars", 200, `{"items": []}`)
	r = a.shell().run(t, "policy", "push", shippedSet, "--set", "main")
	r.want(t, ExitOK)
	if !strings.HasSuffix(r.stdout, "in force at 0 of 0 sidecars\n") {
		t.Errorf("printed %s", r.stdout)
	}
}

func TestARefusedPushSaysWhere(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.refuses("pushRevision", 422, "validation.invalid", `{"errors": [
		{"pointer": "/files/authz.rego", "code": "rego_invalid", "message": "authz.rego:3:7: var x is unsafe"},
		{"pointer": "/files/lib~1a~0b.rego", "code": "rego_invalid", "message": "lib/a~b.rego: too large"},
		{"pointer": "/files", "code": "test_failed", "message": "and 4 more"}]}`)
	r := a.shell().run(t, "policy", "push", shippedSet, "--set", "main")
	r.want(t, ExitFindings, shippedSet+" was refused:\n"+shippedSet+"/authz.rego:3:7: var x is unsafe\n"+shippedSet+"/lib/a~b.rego: too large\nfiles: and 4 more\n",
		"Nothing has changed", "gatehouse policy test "+shippedSet)
	a.wantAsked("pushRevision")
	a.refuses("pushRevision", 403, "auth.forbidden", "")
	a.shell().run(t, "policy", "push", shippedSet, "--set", "main").want(t, ExitDenied, "auth.forbidden")
}

func TestPushFailures(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.shell().run(t, "policy", "push", "/nowhere", "--set", "main").want(t, ExitFindings, "/nowhere", "gatehouse check-config /nowhere")
	a.wantAsked()
	a.refuses("activateRevision", 500, "internal.error", "")
	a.shell().run(t, "policy", "push", shippedSet, "--set", "main").want(t, ExitFindings, "is pushed, but not in force", "gatehouse policy activate main 9f86d081884c")
	a.says("activateRevision", 200, `{"name": "main", "sidecars": 0, "in_force": 0, "created_at": "2026-01-02T03:04:05Z", "version": 1}`)
	a.shell().run(t, "policy", "push", shippedSet, "--set", "main").want(t, ExitFindings, "gatehouse policy list")
}

func TestActivateWhatWasBefore(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.refuses("activateRevision", 409, "state.conflict", `{"reason": "use_rollback"}`)
	a.shell().run(t, "policy", "activate", "main", "9f86d081").want(t, ExitOK)
	a.wantAsked("activateRevision", "rollbackPolicySet", "listSidecars")
	a.wantBody("rollbackPolicySet", `{"revision_id": "9f86d081"}`)
}

func TestProxyStatusMarksWhatLags(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	gone := strings.NewReplacer("app-4", "app-5", `"revoked": false`, `"revoked": true`).Replace(away)
	lost := strings.NewReplacer("app-4", "app-6", `"policy_set": "main"`, `"policy_set": "none"`).Replace(away)
	a.says("listSidecars", 200, `{"items": [`+strings.Join([]string{holding, refusing, behind, away, gone, lost}, ",")+`]}`)
	r := a.shell().run(t, "proxy", "status")
	r.says(t, ExitFindings, "not in force at 4 sidecars", "app-6 (tenant org1) has no policy")
	r.wantStdout(t, ` +NAME .*`, ` +app-1 .* in force .*`, `! +app-2 .* refused .* generation 3: no such\\x1b cluster`, `! +app-3 .* stale .*`, `! +app-4 .* away .*`,
		` +app-5 .* revoked .*`, `! +app-6 .* no set .*`)
	a.shell().run(t, "proxy", "status", "app-1").want(t, ExitOK)
	a.shell().run(t, "proxy", "status", "app-2", "-o", "json").says(t, ExitFindings, "app-2")
}

func TestPolicyTest(t *testing.T) {
	t.Parallel()
	r := run(t, "policy", "test", shippedSet)
	r.want(t, ExitOK)
	r.wantStdout(t, `ok: \d+ tests passed, 0 skipped`)
	dir := changedSet(t, map[string]string{"my_test.rego": "package my_test\n\ntest_no if false\n"})
	run(t, "policy", "test", dir).want(t, ExitFindings, dir+"/my_test.rego:3: data.my_test.test_no")
}

func TestPolicyFmt(t *testing.T) {
	t.Parallel()
	r := run(t, "policy", "fmt", shippedSet, "--check")
	r.want(t, ExitOK)
	dir := changedSet(t, map[string]string{"my.rego": "package my\nx   :=   1\n", "real": "package other\ny  := 1\n"})
	link := filepath.Join(dir, "linked.rego")
	noError(t, os.Symlink("real", link))
	run(t, "policy", "fmt", dir, "--check").want(t, ExitFindings, "2 files are not formatted:\n"+link+"\n"+dir+"/my.rego\n", "gatehouse policy fmt "+dir)
	r = run(t, "policy", "fmt", dir)
	r.want(t, ExitOK)
	if want := link + "\n" + dir + "/my.rego\n"; r.stdout != want {
		t.Errorf("printed %q, want %q", r.stdout, want)
	}
	for name, want := range map[string]string{"my.rego": "package my\n\nx := 1\n", "real": "package other\n\ny := 1\n"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		noError(t, err)
		if string(got) != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is one no longer: %v", err)
	}
	run(t, "policy", "fmt", dir, "--check").want(t, ExitOK)
	dir = changedSet(t, map[string]string{"a.rego": "package a\nx if if\n", "b.rego": "package b\nx   := 1\n"})
	run(t, "policy", "fmt", dir).want(t, ExitFindings, dir+"/a.rego:2:")
	if got, err := os.ReadFile(filepath.Join(dir, "b.rego")); err != nil || string(got) != "package b\nx   := 1\n" {
		t.Errorf("beside a file that can't be read another was changed: %q, %v", got, err)
	}
	run(t, "policy", "fmt", "/nowhere").want(t, ExitFindings, "/nowhere")
}

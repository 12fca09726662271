package cli

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// letsIn makes the API issue the token that it knows.
func (a *api) letsIn() {
	for _, op := range []string{"login", "refresh"} {
		a.says(op, 200, `{"access_token": "`+access+`", "token_type": "Bearer", "expires_in": 600, "refresh_token": "r-`+op+`", "role": "admin", "tenant_id": "*"}`)
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.letsIn()
	sh := fresh(t)
	sh.stdin = "a long enough password\nmore"
	r := sh.run(t, "login", "--api", a.URL+"/", "--user", "ada", "--password-stdin")
	r.want(t, ExitOK)
	if want := "logged in to " + a.URL + " as ada: role admin, tenant *\n"; r.stdout != want {
		t.Errorf("got %q, want %q", r.stdout, want)
	}
	a.wantBody("login", `{"username": "ada", "password": "a long enough password"}`)
	file := sh.env[configVariable]
	var kept map[string]string
	text, err := os.ReadFile(file)
	noError(t, err)
	noError(t, json.Unmarshal(text, &kept))
	if kept["api"] != a.URL || kept["refresh_token"] != "r-login" || kept["expires"] != "2026-01-02T12:10:00Z" || strings.Contains(string(text), "password") {
		t.Errorf("kept:\n%s", text)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}
	a.wantAsked("login")
	sh.run(t, "tenants", "list").want(t, ExitOK)
	a.wantAsked("listTenants")

	sh.now = sh.now.Add(time.Hour) // the token is over
	sh.run(t, "tenants", "list").want(t, ExitOK)
	a.wantAsked("refresh", "listTenants")
	a.wantBody("refresh", `{"refresh_token": "r-login"}`)

	r = sh.run(t, "logout")
	r.want(t, ExitOK)
	a.wantAsked("logout")
	a.wantBody("logout", `{"refresh_token": "r-refresh"}`)
	sh.run(t, "logout").want(t, ExitDenied, "not logged in", "gatehouse login --api URL")
	sh.run(t, "tenants", "list").want(t, ExitDenied, "not logged in", "gatehouse login --api URL")
}

func TestCommandsAtOnceRefreshOnce(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.letsIn()
	sh := fresh(t)
	sh.env[passwordVariable] = "a long enough password"
	sh.run(t, "login", "--api", a.URL, "--user", "ada").want(t, ExitOK)
	a.wantAsked("login")
	sh.now = sh.now.Add(time.Hour)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { sh.run(t, "tenants", "list").want(t, ExitOK) })
	}
	wg.Wait()
	refreshes := 0
	for _, op := range a.asked {
		if op == "refresh" {
			refreshes++
		}
	}
	if refreshes != 1 || len(a.asked) != 5 {
		t.Errorf("asked %q, want one refresh and four lists", a.asked)
	}
}

func TestLoginOverTLS(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.letsIn()
	tls := httptest.NewUnstartedServer(a.Config.Handler)
	tls.Config.ErrorLog = log.New(io.Discard, "", 0) // that one client does not trust it is the test
	tls.StartTLS()
	defer tls.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	noError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw}), 0o600))
	sh := fresh(t)
	sh.env[passwordVariable] = "a long enough password"
	sh.run(t, "login", "--api", tls.URL, "--user", "ada").want(t, ExitUnreachable, "certificate", "can't be reached")
	sh.run(t, "login", "--api", tls.URL, "--user", "ada", "--ca", ca).want(t, ExitOK)
	sh.run(t, "tenants", "list").want(t, ExitOK) // the file keeps who vouches
	sh.env = map[string]string{apiVariable: tls.URL, tokenVariable: access, caVariable: ca}
	sh.run(t, "tenants", "list").want(t, ExitOK)
	sh.env[caVariable] = "/nowhere"
	sh.run(t, "tenants", "list").want(t, ExitFindings, "/nowhere")
}

func TestLoginIsRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.refuses("login", 401, "auth.invalid_credentials", "")
	sh := fresh(t)
	sh.env[passwordVariable] = "wrong"
	sh.run(t, "login", "--api", a.URL, "--user", "ada").want(t, ExitDenied, "auth.invalid_credentials", "check the name and the password")
	if _, err := os.Stat(sh.env[configVariable]); !os.IsNotExist(err) {
		t.Errorf("a refused login left a file: %v", err)
	}
	a.letsIn()
	sh.stdin = strings.Repeat("x", maxPassword+1)
	sh.run(t, "login", "--api", a.URL, "--user", "ada", "--password-stdin").want(t, ExitFindings, "more than")
	sh.stdin = "\n"
	sh.run(t, "login", "--api", a.URL, "--user", "ada", "--password-stdin").want(t, ExitFindings, "empty")
	for _, args := range [][]string{
		{"login"}, {"login", "--api", "ftp://x"}, {"login", "--api", "https://u:p@x"}, {"login", "--api", "localhost:8000"},
		{"login", "--api", a.URL}, {"login", "--api", a.URL, "more"},
	} {
		sh.run(t, args...).want(t, ExitUsage)
	}
	sh.run(t, "login", "--api", "http://control.example", "--user", "ada").want(t, ExitUsage, "must begin with https://")
}

func TestWhichAPI(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.letsIn()
	sh := fresh(t)
	sh.env[passwordVariable] = "a long enough password"
	sh.run(t, "login", "--api", a.URL, "--user", "ada").want(t, ExitOK)
	sh.run(t, "tenants", "list", "--api", a.URL).want(t, ExitOK)
	sh.run(t, "tenants", "list", "--api", "http://127.0.0.1:1").want(t, ExitDenied, "not logged in at http://127.0.0.1:1") // and no token goes there
	sh.env[apiVariable] = "http://127.0.0.1:1"
	sh.run(t, "tenants", "list").want(t, ExitDenied, "not logged in at http://127.0.0.1:1")
	sh.run(t, "tenants", "list", "--api", a.URL).want(t, ExitOK)
	sh.env[tokenVariable] = "other"
	sh.run(t, "tenants", "list").want(t, ExitUnreachable, "can't be reached")
	sh.run(t, "tenants", "list", "--api", a.URL).want(t, ExitDenied, "token is no good", tokenVariable)
	delete(sh.env, apiVariable)
	sh.run(t, "tenants", "list").want(t, ExitUsage, apiVariable)
	sh.env = map[string]string{}
	sh.run(t, "tenants", "list").want(t, ExitFindings, configVariable)
}

func TestWhereALoginIsKept(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"HOME": "/h"}, "/h/.config/gatehouse/login.json"},
		{map[string]string{"HOME": "/h", "XDG_CONFIG_HOME": "/x"}, "/x/gatehouse/login.json"},
		{map[string]string{"HOME": "/h", "XDG_CONFIG_HOME": "x"}, "/h/.config/gatehouse/login.json"},
		{map[string]string{"HOME": "/h", configVariable: "/f"}, "/f"},
	} {
		k, err := world{env: func(name string) string { return tt.env[name] }}.keeper()
		if err != nil || k.Path != tt.want {
			t.Errorf("%v: got %s, %v, want %s", tt.env, k.Path, err, tt.want)
		}
	}
}

// TestNobodyToAsk has no terminal: what is said names only what the command takes.
func TestNobodyToAsk(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	const create = "there is no terminal to ask at: give the password by --password-stdin\n"
	a.shell().run(t, "users", "create", "ada", "--tenant", "org1", "--role", "developer").want(t, ExitUsage, create)
	const login = "there is no terminal to ask at: give --user, and the password by --password-stdin or GATEHOUSE_PASSWORD\n"
	fresh(t).run(t, "login", "--api", a.URL).want(t, ExitUsage, login)
	fresh(t).run(t, "login", "--api", a.URL, "--user", "ada").want(t, ExitUsage, login)
}

package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// app is a set whose one upstream is named app.
func app(upstream string) string {
	return "upstreams: {app: {" + upstream + "}}\n" +
		"routes: [{name: r, match: {listener: inbound, prefix: /}, upstream: app, permission: task.view}]\n"
}

func TestUpstreams(t *testing.T) {
	t.Parallel()
	checkRows(t, []row{
		{"none", "upstreams: {}\nroutes: [{name: r, match: {listener: inbound, prefix: /}, upstream: app, permission: task.view}]\n", []string{
			"f:1:12: upstreams: is an empty map"}},
		{"no url", app(""), []string{`f:1:18: upstreams.app: "url" is missing`}},
		{"all wrong", app("url: 80, ca_file: ca.pem, credential: sk-SECRET, private: yes, fromat: openai"), []string{
			"f:1:24: upstreams.app.url: must be text, is a number",
			"f:1:37: upstreams.app.ca_file: must be an absolute path in its shortest form",
			"f:1:57: upstreams.app.credential: is not the name of a credential: a-z, 0-9, _ and -, at most 63",
			"f:1:77: upstreams.app.private: must be true or false, is text",
			`f:1:82: upstreams.app: unknown key "fromat", did you mean "format"?`}},
		{"breaker", app("url: 'http://a.example', breaker: {failures: 0, recovery: 2h, window: 1s}"), []string{
			"f:1:64: upstreams.app.breaker.failures: must be from 1 to 1000",
			"f:1:77: upstreams.app.breaker.recovery: must be from 1s to 1h",
			`f:1:81: upstreams.app.breaker: unknown key "window"`}},
		{"names", app("url: 'http://a.example'}, gate: {url: 'http://a.example'}, A.b: {url: 'http://a.example'"), []string{
			`f:1:45: upstreams: the name "gate" is reserved`,
			`f:1:78: upstreams: "A.b" is not a name: a-z, 0-9, _ and -, at most 63, the first no _ or -`}},
		{"same name", app("url: 'http://a.example'}, app: {url: 'http://b.example'"), []string{
			`f:1:45: upstreams: key "app" stands twice, first in line 1`}},
		{"ca_file over http", app("url: 'http://a.example', ca_file: /ca.pem"), []string{
			"f:1:53: upstreams.app.ca_file: needs an https url"}},
		{"credential over http", app("url: 'http://a.example', credential: key"), []string{
			"f:1:56: upstreams.app.credential: needs an https url or a literal loopback address"}},
		{"credential over http to localhost", app("url: 'http://localhost', credential: key"), []string{
			"f:1:56: upstreams.app.credential: needs an https url or a literal loopback address"}},
		{"credential over http to loopback", app("url: 'http://127.9.9.9', credential: key"), nil},
		{"credential over http to IPv6 loopback", app("url: 'http://[::1]:80', credential: key"), nil},
		{"url with a password", app("url: 'https://user:hunter2@a.example'"), []string{
			"f:1:24: upstreams.app.url: must not carry user information"}},
	})
}

func TestUpstreamsAreRead(t *testing.T) {
	t.Parallel()
	set, err := ParseSet("f", []byte("upstreams:\n"+
		"  app: {url: http://127.0.0.1:9000}\n"+
		"  b: {url: HTTPS://B.Example/, ca_file: /etc/ca.pem, credential: key, private: true, format: anthropic, breaker: {}}\n"+
		"  c: {url: http://c, breaker: {failures: 1000, recovery: 1s}}\n"+strings.SplitAfterN(app(""), "\n", 2)[1]))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Upstream{
		"app": {URL: "http://127.0.0.1:9000", Scheme: "http", Host: "127.0.0.1", Port: 9000},
		"b": {URL: "HTTPS://B.Example/", Scheme: "https", Host: "b.example", Port: 443,
			CAFile: "/etc/ca.pem", Credential: "key", Private: true, Format: "anthropic", Breaker: &Breaker{5, 30 * time.Second}},
		"c": {URL: "http://c", Scheme: "http", Host: "c", Port: 80, Breaker: &Breaker{1000, time.Second}},
	}
	if diff := cmp.Diff(want, set.Upstreams); diff != "" {
		t.Errorf("upstreams: -want +got\n%s", diff)
	}
}

func TestUpstreamURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]Upstream{
		"http://a":                            {Scheme: "http", Host: "a", Port: 80},
		"https://a.example:8443/":             {Scheme: "https", Host: "a.example", Port: 8443},
		"http://xn--bcher-kva.example":        {Scheme: "http", Host: "xn--bcher-kva.example", Port: 80},
		"http://10.0.0.1:65535":               {Scheme: "http", Host: "10.0.0.1", Port: 65535},
		"https://[2001:DB8::1]":               {Scheme: "https", Host: "2001:db8::1", Port: 443},
		"http://[::1]:1":                      {Scheme: "http", Host: "::1", Port: 1},
		"http://1a.0x1.example":               {Scheme: "http", Host: "1a.0x1.example", Port: 80},
		"https://" + strings.Repeat("a", 63):  {Scheme: "https", Host: strings.Repeat("a", 63), Port: 443},
		"http://a.b-c.d":                      {Scheme: "http", Host: "a.b-c.d", Port: 80},
		"http://255.255.255.254":              {Scheme: "http", Host: "255.255.255.254", Port: 80},
		"http://fe80.example":                 {Scheme: "http", Host: "fe80.example", Port: 80},
		"https://169.254.169.254.example.com": {Scheme: "https", Host: "169.254.169.254.example.com", Port: 443},
	} {
		want.URL = url
		got, err := parseUpstreamURL(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", url, diff)
		}
	}
}

func TestUpstreamURLRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ why, urls string }{
		{"must begin with http", "a.example a.example:80 //a.example ftp://a http:/a http:a ws://a ://a"},
		{"must not carry user information", "http://u@a http://u:p@a http://@a"},
		{"must not carry a path", "http://a/b http://a? http://a/?q http://a# http://a// http://a\\b"},
		{"the host is missing", "http:// http:/// http://:80 http://[] http://[]:80"},
		{"the port must be", "http://a: http://a:0 http://a:65536 http://a:080 http://a:+80 http://a:8a http://[::1]:"},
		{"unmatched bracket", "http://[::1 http://[::1]80 http://[::1]a:80"},
		{"stands in brackets", "http://[127.0.0.1] http://[a.example]"},
		{"stands in brackets", "http://::1 http://2001:db8::1 http://a:80:80 http://[v1.a]"},
		{"neither a DNS name", "http://a..b http://.a http://a. http://-a http://a- http://a_b http://*.a http://a%41 http://" +
			strings.Repeat("a", 64) + " http://" + strings.Repeat("a.", 127) + "a"},
		{"must be ASCII", "http://bücher.example http://a\u2024b"},
		{"must not carry a zone", "http://[fe80::1%25eth0] http://[fe80::1%eth0]"},
		{"readers disagree", "http://0177.0.0.1 http://2130706433 http://127.1 http://0x7f000001 http://0x7f.0.0.1 " +
			"http://1.2.3.4.5 http://a.1 http://a.0x http://256.1.1.1 http://0x http://017700000001 http://127.0.0.01"},
		{"metadata address", "http://169.254.169.254 https://100.100.100.200 http://168.63.129.16 http://[fd00:ec2::254] http://[fd20:ce::254]"},
		{"link-local", "http://169.254.0.1 http://[fe80::1] http://[febf::1] http://[::ffff:169.254.169.254]"},
		{"unspecified", "http://0.0.0.0 http://[::] http://0.1.2.3"},
		{"multicast or broadcast", "http://224.0.0.1 http://239.1.1.1 http://255.255.255.255 http://[ff02::1]"},
		{"carries an IPv4 address", "http://[::ffff:127.0.0.1] http://[::ffff:10.0.0.1] http://[::10.0.0.1] http://[64:ff9b::a9fe:a9fe] http://[64:ff9b:1::1] http://[2002:a9fe:a9fe::1]"},
	} {
		for url := range strings.FieldsSeq(row.urls) {
			_, err := parseUpstreamURL(url)
			if err == nil || !strings.Contains(err.Error(), row.why) {
				t.Errorf("%s: error %v, want one with %q", url, err, row.why)
			}
		}
	}
}

func TestKeysURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"https://a.example/.well-known/jwks.json?v=1": "",
		"http://127.0.0.1:8000/keys":                  "",
		"http://[::1]/keys":                           "",
		"http://localhost/keys":                       "needs https",
		"http://a.example/keys":                       "needs https",
		"https://a.example/keys#frag":                 "fragment",
		"https://a.example/a b":                       "spaces",
		"https://u:p@a.example/keys":                  "user information",
		"https://169.254.169.254/keys":                "metadata",
		"keys.json":                                   "must begin with",
	} {
		err := checkKeysURL(url)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: error %v, want %q", url, err, want)
		}
	}
}

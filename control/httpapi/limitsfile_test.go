package httpapi

import (
	"strings"
	"testing"
)

func TestParseLimits(t *testing.T) {
	t.Parallel()
	some := DefaultLimits()
	some.Admin, some.FailedLogins = 500, 3
	for name, tt := range map[string]struct {
		text string
		want Limits
	}{
		"empty":    {"", DefaultLimits()},
		"comments": {"# limits\n\n   \n\t\n  # more\r\n", DefaultLimits()},
		"some":     {"admin: 500 # a minute\r\nfailed_logins:  3", some},
		"all": {
			"admin: 1\noperator: 2\ndeveloper: 3\nobserver: 4\nanonymous: 5\nprobe: 6\nsessions: 8\nfailed_logins: 1000000\nbudget_requests: 7\nbreaker_resets: 9\n",
			Limits{Admin: 1, Operator: 2, Developer: 3, Observer: 4, Anonymous: 5, Probe: 6, Sessions: 8, FailedLogins: maxLimit, Budget: 7, Breaker: 9},
		},
	} {
		got, err := ParseLimits([]byte(tt.text))
		if err != nil || got != tt.want {
			t.Errorf("%s: got %+v and %v, want %+v", name, got, err, tt.want)
		}
	}
}

func TestParseLimitsRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"admin: 0":                           "line 1: admin",
		"\nadmin: 1000001":                   "line 2: admin",
		"admin: -1":                          "line 1: admin",
		"admin: 010":                         "line 1: admin",
		"admin: 0x10":                        "line 1: admin",
		"admin: 1_000":                       "line 1: admin",
		"admin: 1e3":                         "line 1: admin",
		"admin: \"5\"":                       "line 1: admin",
		"admin:5":                            "line 1: admin",
		"admin:\t5":                          "line 1: admin",
		"admin: 5#":                          "line 1: admin",
		"admin:":                             "line 1: admin",
		"admin":                              "line 1: \"admin\"",
		"Admin: 5":                           "no limit \"Admin\"",
		" admin: 5":                          "no limit \" admin\"",
		"{admin: 5}":                         "no limit \"{admin\"",
		"admin: 5\nprobe: 1\nadmin: 5":       "line 3: admin stands twice",
		"---":                                "line 1: \"---\"",
		strings.Repeat("#", maxLimitsFile+1): "16385 bytes",
	} {
		if got, err := ParseLimits([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || got != (Limits{}) {
			t.Errorf("%.40q: got %+v and %v, want an error with %s", text, got, err, want)
		}
	}
	_, err := ParseLimits([]byte("admn: 1\nprobe: x\nobserver: 0"))
	for _, want := range []string{"line 1", "line 2", "line 3"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %s: %v", want, err)
		}
	}
}

func FuzzParseLimits(f *testing.F) {
	for _, s := range []string{"admin: 5 # x\n", "probe: 1\nprobe: 2", "{}", "a: b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if l, err := ParseLimits(text); err == nil && l.Validate() != nil {
			t.Errorf("%q gives %+v: %v", text, l, l.Validate())
		}
	})
}

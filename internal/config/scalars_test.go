package config

import (
	"strings"
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Rate{
		"1/s":         {1, time.Second},
		"2/second":    {2, time.Second},
		"600/min":     {600, time.Minute},
		"600/minute":  {600, time.Minute},
		"5/h":         {5, time.Hour},
		"5/hour":      {5, time.Hour},
		"1000000/day": {1_000_000, 24 * time.Hour},
	} {
		if got, err := parseRate(text); err != nil || got != want {
			t.Errorf("parseRate(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "600", "600/", "/min", "0/s", "06/s", "-1/s", "+1/s", "1.5/s", "1 / s", "1/S", "1/10s", "1/week", "1000001/s", "9999999999/s", "1/s ",
	} {
		if got, err := parseRate(text); err == nil {
			t.Errorf("parseRate(%q) = %v, want an error", text, got)
		}
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"1KiB": 1 << 10, "64KiB": 64 << 10, "1MiB": 1 << 20, "16GiB": 16 << 30} {
		if got, err := parseSize(text, 1, 16*gib); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "64", "64B", "64KB", "64kib", "64 KiB", "-1KiB", "064KiB", "1.5MiB", "KiB", "0KiB", "17GiB", "999999999999GiB", "9999999999999GiB",
	} {
		if got, err := parseSize(text, 1, 16*gib); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", text, got)
		}
	}
}

func TestSizeText(t *testing.T) {
	t.Parallel()
	for bytes, want := range map[int64]string{1: "1B", 1023: "1023B", 1024: "1KiB", 1025: "1025B", 1 << 20: "1MiB", 3 << 30: "3GiB"} {
		if got := sizeText(bytes); got != want {
			t.Errorf("sizeText(%d) = %s, want %s", bytes, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	parse := duration(time.Millisecond, time.Hour)
	for text, want := range map[string]time.Duration{"1ms": time.Millisecond, "1h": time.Hour, "1m30s": 90 * time.Second, "0.5s": 500 * time.Millisecond} {
		if got, err := parse(text); err != nil || got != want {
			t.Errorf("duration %q = %v, %v; want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"15":       "is not a duration such as 15s",
		"-1s":      "is not a duration such as 15s",
		"+1s":      "is not a duration such as 15s",
		"1d":       "is not a duration such as 15s",
		"1 s":      "is not a duration such as 15s",
		"9999999h": "is not a duration such as 15s",
		"0s":       "must be from 1ms to 1h",
		"999us":    "must be from 1ms to 1h",
		"1h1ns":    "must be from 1ms to 1h",
	} {
		if got, err := parse(text); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("duration %q = %v, %v; want an error with %q", text, got, err, want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "0", "a-b_c", strings.Repeat("a", 63)} {
		if err := checkName(name); err != nil {
			t.Errorf("checkName(%q): %v", name, err)
		}
	}
	for _, name := range []string{"", "-a", "_a", "A", "a.b", "a b", "a/b", "é", "a\n", strings.Repeat("a", 64)} {
		if err := checkName(name); err == nil {
			t.Errorf("checkName(%q) passed, want an error", name)
		}
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/a", "/etc/gatehouse/jwks.json", "/etc/..a", "/" + strings.Repeat("a", maxFilePath-1)} {
		if err := checkFile(path); err != nil {
			t.Errorf("checkFile(%.40q): %v", path, err)
		}
	}
	for _, path := range []string{"a", "./a", "/", "/a/", "//a", "/a/../b", "/a/.", "~/a", "/a b", "/a key_file: /b", "/a\nb", "/é", "/" + strings.Repeat("a", maxFilePath)} {
		if err := checkFile(path); err == nil {
			t.Errorf("checkFile(%.40q) passed, want an error", path)
		}
	}
}

func TestHint(t *testing.T) {
	t.Parallel()
	s := schema{"path": optional, "prefix": required, "methods": optional, "llm": later}
	for key, want := range map[string]string{
		"pth":     `, did you mean "path"?`,
		"paths":   `, did you mean "path"?`,
		"apth":    `, did you mean "path"?`,
		"Prefix":  `, did you mean "prefix"?`,
		"method":  `, did you mean "methods"?`,
		"lllm":    "", // a key of a later build is no help
		"x":       "",
		"":        "",
		"unknown": "",
	} {
		if got := hint(key, s); got != want {
			t.Errorf("hint(%q) = %q, want %q", key, got, want)
		}
	}
}

package pgserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// MinVersion is the oldest major version that is started.
const MinVersion = 14

// ErrMissing is a machine without a Postgres that can be started.
var ErrMissing = errors.New("no PostgreSQL 14 or newer on this machine: install it (Debian: apt-get install postgresql), or name the folder of postgres and initdb with POSTGRES_BIN")

// Find is the folder of postgres and initdb: the one that is named, or, where
// named is "", the first that fits of PATH's, pg_config's and those where
// packages put them, the newest version first. Its error is ErrMissing, or
// says what is wrong with the named one.
func Find(named string) (string, error) {
	if named != "" {
		dir, err := filepath.Abs(named)
		if err == nil {
			err = fits(dir)
		}
		if err != nil {
			return "", fmt.Errorf("POSTGRES_BIN: %w", err)
		}
		return dir, nil
	}
	for _, dir := range places() {
		if fits(dir) == nil {
			return dir, nil
		}
	}
	return "", ErrMissing
}

// places are the folders where the programs may be.
func places() []string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		// The programs look for their files beside where they really are.
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			continue // the patterns are well-formed
		}
		slices.SortFunc(found, func(a, b string) int { return number(b) - number(a) })
		dirs = append(dirs, found...)
	}
	return dirs
}

var digits = regexp.MustCompile(`\d+`)

// number is the first number in a text, 0 where there is none.
func number(s string) int {
	n, err := strconv.Atoi(digits.FindString(s))
	if err != nil {
		return 0
	}
	return n
}

// fits says why the programs of a folder can't be used, or nil.
func fits(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return err
	}
	v, err := version(dir)
	if err == nil && v < MinVersion {
		err = fmt.Errorf("%s has PostgreSQL %d, older than %d", dir, v, MinVersion)
	}
	return err
}

var versionLine = regexp.MustCompile(`^postgres \(PostgreSQL\) (\d+)`)

// version is the major version of a folder's postgres.
func version(dir string) (int, error) {
	program := filepath.Join(dir, "postgres")
	out, err := exec.Command(program, "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("%s --version: %w", program, err)
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("%s --version says %q, which names no version", program, out)
	}
	return number(string(m[1])), nil
}

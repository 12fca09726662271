package devstack

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"gatehouse/internal/pgserver"
)

const (
	sidecarBinary = "gatehouse-sidecar"
	controlBinary = "gatehouse-control"
	envoyVersion  = "1.40.0"
)

// findBeside is one of the project's programs: the one that is named, the one
// beside our own, or the one on PATH.
func findBeside(self, program, named string) (string, error) {
	if named != "" {
		return named, nil
	}
	beside := filepath.Join(filepath.Dir(self), program)
	if isProgram(beside) {
		return beside, nil
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("no %s beside %s or on PATH: build all with `make build`", program, self)
	}
	return filepath.Abs(path)
}

// findPostgres is the folder of Postgres' programs: the one that POSTGRES_BIN
// names, or one of the system's.
func findPostgres(named string) (string, error) {
	bin, err := pgserver.Find(named)
	return bin, noPostgres(err)
}

// noPostgres adds to a missing Postgres what can be done here.
func noPostgres(err error) error {
	if !errors.Is(err, pgserver.ErrMissing) {
		return err
	}
	return fmt.Errorf("%w; as root, scripts/postgres.sh installs it; or use a database that is there: --postgres URL", err)
}

// findEnvoy is Envoy's program: the one that ENVOY names, the one that the
// project has fetched, or the one on PATH.
func findEnvoy(self, named string) (string, error) {
	if named != "" {
		path, err := filepath.Abs(named)
		if err == nil && !isProgram(path) {
			err = fmt.Errorf("ENVOY names %s, which is no program", path)
		}
		return path, err
	}
	fetched := filepath.Join(".tools", "envoy-"+envoyVersion+"-"+machine(), "envoy")
	for dir := filepath.Dir(self); ; dir = filepath.Dir(dir) {
		if path := filepath.Join(dir, fetched); isProgram(path) {
			return path, nil
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	path, err := exec.LookPath("envoy")
	if err != nil {
		return "", fmt.Errorf("no Envoy %s: ENVOY is not set, there is no %s above %s and no envoy on PATH; run scripts/envoy.sh, which fetches one and prints its path, and set ENVOY to that",
			envoyVersion, fetched, self)
	}
	return filepath.Abs(path)
}

// machine is what `uname -m` says.
func machine() string {
	names := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}
	return cmp.Or(names[runtime.GOARCH], runtime.GOARCH)
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// ownProgram is the path of our own binary, without links.
func ownProgram() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", errors.New("where this program lies is unknown: " + err.Error())
	}
	return filepath.EvalSymlinks(path)
}

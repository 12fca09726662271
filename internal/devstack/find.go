package devstack

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

const (
	sidecarBinary = "gatehouse-sidecar"
	envoyVersion  = "1.40.0"
)

// findSidecar is the sidecar's program: beside our own, or on PATH.
func findSidecar(self string) (string, error) {
	beside := filepath.Join(filepath.Dir(self), sidecarBinary)
	if isProgram(beside) {
		return beside, nil
	}
	path, err := exec.LookPath(sidecarBinary)
	if err != nil {
		return "", fmt.Errorf("no %s beside %s or on PATH: build both with `make build`", sidecarBinary, self)
	}
	return filepath.Abs(path)
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

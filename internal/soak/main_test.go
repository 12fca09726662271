package soak

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// What a caller may set. The defaults are for a run among all other tests.
var (
	steadyRuns  = flag.Int("soak.runs", 1, "runs of TestNoOverspend")
	killRounds  = flag.Int("soak.kills", 1, "rounds of TestKills, each with a world of its own")
	killSeconds = flag.Int("soak.seconds", 5, "traffic of each round of TestKills")
	firstSeed   = flag.Uint64("soak.seed", 0, "seed of the first run or round; 0 draws one")
)

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(programDir())
	os.Exit(code)
}

// programDir is this process's own.
func programDir() string {
	return filepath.Join(os.TempDir(), fmt.Sprint("gatehouse-soak-programs-", os.Getpid()))
}

// programs builds control and the sidecar once, and returns their folder.
var programs = sync.OnceValues(func() (string, error) {
	dir := programDir()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir, "gatehouse/cmd/gatehouse-control", "gatehouse/cmd/gatehouse-sidecar").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building the programs: %w\n%s", err, out)
	}
	return dir, nil
})

// seed is that of a run: the first one, or those after it.
func seed(n int) uint64 {
	if *firstSeed == 0 {
		return rand.Uint64N(1 << 32)
	}
	return *firstSeed + uint64(n)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

package pgserver

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// command is a program of the cluster under its uid, with nothing of our
// environment: PG* variables there would change what it does.
func (c *cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + c.bin + ":/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	// A group of its own: Ctrl-C is for us, and the rest follows in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.uid != ownUID {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(c.uid), Gid: uint32(c.uid)}
	}
	return cmd
}

// runToEnd runs a program that ends by itself, and returns what it complains
// of. With ctx the whole group of the program ends.
func runToEnd(ctx context.Context, cmd *exec.Cmd, input string) (string, error) {
	var out bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(input), &out
	name := filepath.Base(cmd.Path)
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	stop := context.AfterFunc(ctx, func() {
		// INVARIANT: Setpgid made the pid the group's id.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	})
	err := cmd.Wait()
	if !stop() {
		err = context.Cause(ctx)
	}
	text := oneLine(out.Bytes())
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", name, err, text)
	}
	return text, err
}

// oneLine is the end of a text, on one line.
func oneLine(text []byte) string {
	text = text[max(0, len(text)-tailBytes):]
	return strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", " | ")
}

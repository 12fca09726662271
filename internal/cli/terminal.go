package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const terminal = "/dev/tty"

// ask asks a person at the terminal. Without one the error says what the command
// takes instead.
func (w world) ask(ctx context.Context, prompt string, echo bool, instead string) (string, error) {
	tty, err := os.OpenFile(w.terminal, os.O_RDWR, 0)
	if err != nil {
		return "", usageError{errors.New("there is no terminal to ask at: give " + instead)}
	}
	defer tty.Close()
	return askAt(ctx, tty, prompt, echo)
}

// askAt reads one line from a terminal, which shows what is typed only with
// echo. The end of ctx ends it.
func askAt(ctx context.Context, tty *os.File, prompt string, echo bool) (string, error) {
	if !echo {
		restore, err := silence(tty)
		if err != nil {
			return "", fmt.Errorf("switching the echo off: %w", err)
		}
		defer restore()
	}
	stop := context.AfterFunc(ctx, func() { _ = tty.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(tty, prompt); err != nil {
		return "", err
	}
	text, err := bufio.NewReader(io.LimitReader(tty, maxPassword)).ReadString('\n')
	if !echo {
		_, _ = io.WriteString(tty, "\n") // instead of the one that was not shown
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", fmt.Errorf("reading from the terminal: %w", err)
	}
	return strings.TrimRight(text, "\r\n"), nil
}

// silence switches the echo off (termios(3)). The descriptor stays in the
// poller's hands, so that deadlines go on to work.
func silence(tty *os.File) (restore func(), err error) {
	conn, err := tty.SyscallConn()
	if err != nil {
		return nil, err
	}
	var before *unix.Termios
	set := func(t *unix.Termios) (err error) {
		failed := conn.Control(func(fd uintptr) { err = unix.IoctlSetTermios(int(fd), unix.TCSETS, t) })
		return errors.Join(failed, err)
	}
	failed := conn.Control(func(fd uintptr) { before, err = unix.IoctlGetTermios(int(fd), unix.TCGETS) })
	if err := errors.Join(failed, err); err != nil {
		return nil, err
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO
	return func() { _ = set(before) }, set(&quiet) // the shell sets it anew, too
}

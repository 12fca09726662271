package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a pseudo terminal (pty(7)): what a person
// types and sees, and what the command has.
func openTerminal(t *testing.T) (person, tty *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this machine has no pseudo terminals: %v", err)
	}
	t.Cleanup(func() { _ = person.Close() })
	conn, err := person.SyscallConn()
	noError(t, err)
	var n int
	noError(t, conn.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}))
	noError(t, err)
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this machine has no pseudo terminals: %v", err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	return person, tty
}

func echoes(t *testing.T, tty *os.File) (on bool) {
	t.Helper()
	conn, err := tty.SyscallConn()
	noError(t, err)
	var state *unix.Termios
	noError(t, conn.Control(func(fd uintptr) { state, err = unix.IoctlGetTermios(int(fd), unix.TCGETS) }))
	noError(t, err)
	return state.Lflag&unix.ECHO != 0
}

func TestAPasswordIsNotShown(t *testing.T) {
	t.Parallel()
	person, tty := openTerminal(t)
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		text, err := askAt(t.Context(), tty, "Password: ", false)
		answers <- answer{text, err}
	}()
	screen := bufio.NewReader(person)
	prompt, err := screen.ReadString(':')
	noError(t, err)
	if prompt != "Password:" || echoes(t, tty) {
		t.Errorf("the prompt is %q, echo %v", prompt, echoes(t, tty))
	}
	_, err = person.WriteString("s3cret\n")
	noError(t, err)
	if got := <-answers; got.err != nil || got.text != "s3cret" {
		t.Errorf("got %q, %v", got.text, got.err)
	}
	shown, err := screen.ReadString('\n')
	noError(t, err)
	if shown != " \r\n" || !echoes(t, tty) {
		t.Errorf("the screen shows %q, echo %v; want a new line, and the echo as before", shown, echoes(t, tty))
	}
}

func TestAQuestionEndsWithItsContext(t *testing.T) {
	t.Parallel()
	person, tty := openTerminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := askAt(ctx, tty, "Password: ", false)
		done <- err
	}()
	_, err := bufio.NewReader(person).ReadString(':')
	noError(t, err)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if !echoes(t, tty) {
		t.Error("the echo stayed off")
	}
}

func TestWhatIsNoTerminalCantHideAPassword(t *testing.T) {
	t.Parallel()
	f, err := os.Open(os.DevNull)
	noError(t, err)
	defer f.Close()
	if _, err := askAt(t.Context(), f, "Password: ", false); err == nil {
		t.Error("a password was asked for in the open")
	}
}

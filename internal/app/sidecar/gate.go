package sidecar

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"gatehouse/internal/config"
)

// gate is the listener of the one socket between Envoy and the sidecar.
//
// INVARIANT: nobody but Envoy's uid gets a connection. Whoever has one could
// read certificates' keys and forge the access log.
type gate struct {
	*net.UnixListener
	uid uint32
	log *slog.Logger
}

// openGate binds the socket beside its path, makes it Envoy's alone, and then
// renames it: it is never there with other rights, and a new sidecar takes
// over from an old one in one step. Until then the folder is the sidecar's:
// what Envoy's uid could swap under its name would be given away with it.
func openGate(sc *config.Sidecar, log *slog.Logger) (*gate, error) {
	dir := filepath.Dir(sc.Socket)
	if err := ownFolder(dir, 0o700, os.Geteuid(), envoyUID(sc)); err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	l, err := bindGate(sc)
	if err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	if err := ownFolder(dir, 0o700, envoyUID(sc), os.Geteuid()); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("gate: %w", err)
	}
	return &gate{UnixListener: l, uid: uint32(envoyUID(sc)), log: log}, nil
}

// bindGate relies on a folder that nobody else can write.
func bindGate(sc *config.Sidecar) (*net.UnixListener, error) {
	fresh := sc.Socket + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(fresh, 0o600)
	if err == nil {
		err = giveTo(sc, fresh)
	}
	if err == nil {
		err = os.Rename(fresh, sc.Socket)
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// Accept returns the next connection of Envoy's uid and closes all others.
func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(conn)
		if err == nil && uid == g.uid {
			return conn, nil
		}
		g.log.Warn("gate: connection refused", "peer_uid", uid, "envoy_uid", g.uid, "error", err)
		_ = conn.Close()
	}
}

func peerUID(conn *net.UnixConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, credErr); err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

// envoyUID is the uid that Envoy runs under.
func envoyUID(sc *config.Sidecar) int {
	if sc.EnvoyUID >= 0 {
		return sc.EnvoyUID
	}
	return os.Geteuid()
}

// prepareFolders makes the socket's folder Envoy's alone and the state folder
// the sidecar's, through which Envoy may pass to its bootstrap.
func prepareFolders(sc *config.Sidecar) error {
	if uid := envoyUID(sc); os.Geteuid() != 0 && uid != os.Geteuid() {
		return fmt.Errorf("envoy_uid %d: only root can serve an Envoy of another uid; this is uid %d", uid, os.Geteuid())
	}
	if err := ownFolder(filepath.Dir(sc.Socket), 0o700, envoyUID(sc), os.Geteuid()); err != nil {
		return err
	}
	return ownFolder(sc.StateDir, 0o711, os.Geteuid(), os.Geteuid())
}

// ownFolder makes a folder, or takes over one that uid or other owns, and
// gives it the mode and the owner uid. A folder of anybody else is refused.
//
// INVARIANT: all of it goes through one descriptor that no link led to.
func ownFolder(path string, mode os.FileMode, uid, other int) error {
	if err := os.MkdirAll(path, mode); err != nil {
		return err
	}
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	info, err := dir.Stat()
	if err != nil {
		return err
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	if owner != uid && owner != other {
		return fmt.Errorf("%s: must be a folder of uid %d", path, uid)
	}
	if owner != uid {
		if err := dir.Chown(uid, -1); err != nil {
			return err
		}
	}
	return dir.Chmod(mode)
}

// giveTo makes Envoy's uid the owner of a file.
func giveTo(sc *config.Sidecar, path string) error {
	if uid := envoyUID(sc); uid != os.Geteuid() {
		return os.Lchown(path, uid, -1)
	}
	return nil
}

// writeFor replaces a file that only Envoy's uid may read.
func writeFor(sc *config.Sidecar, path string, text []byte) error {
	fresh := path + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		return err
	}
	if err := giveTo(sc, fresh); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

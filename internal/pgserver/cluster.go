package pgserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The uids, and gids, that work for a root parent. The server's is nobody's.
// initdb and postgres --single refuse a uid without an account, so that the
// cluster is made under the one that every system has, and then handed over.
const (
	serverUID = 65533
	makerUID  = 65534 // nobody
)

// ownUID stands for "the uid of this process".
const ownUID = -1

// as is the uid to run programs under: another where we are root.
func as(uid int) int {
	if os.Geteuid() != 0 {
		return ownUID
	}
	return uid
}

// hbaRules let the server's own host in, by password, and nobody else.
const hbaRules = "host all all 127.0.0.1/32 scram-sha-256\n"

// cluster is a server's folder, locked and ready to be started.
type cluster struct {
	bin      string
	dir      string
	password string
	uid      int // ownUID, or another
	lock     *os.File
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }
func (c *cluster) data() string            { return c.path("data") }

// openCluster locks the folder, and makes its cluster unless it has one.
func openCluster(ctx context.Context, o Options) (*cluster, error) {
	if o.Dir == "" {
		return nil, errors.New("no folder is named")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	c := &cluster{bin: o.Bin, dir: dir, uid: as(serverUID)}
	if c.lock, err = takeLock(c.path("lock")); err != nil {
		return nil, fmt.Errorf("%s is in use by another server: %w", dir, err)
	}
	if err := c.prepare(ctx, o.Cache); err != nil {
		_ = c.lock.Close() // its content is nothing
		return nil, err
	}
	return c, nil
}

// takeLock locks a file; the kernel drops the lock with its holder.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func (c *cluster) prepare(ctx context.Context, cache string) error {
	if err := os.WriteFile(c.path("pg_hba.conf"), []byte(hbaRules), 0o644); err != nil {
		return err
	}
	password, err := os.ReadFile(c.path("password"))
	if err == nil {
		c.password = strings.TrimSpace(string(password))
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	c.password = rand.Text()
	if err := c.create(ctx, cache); err != nil {
		return fmt.Errorf("making a cluster: %w", err)
	}
	// INVARIANT: the password is written last: a folder with one is complete.
	return os.WriteFile(c.path("password"), []byte(c.password+"\n"), 0o600)
}

// create makes the data folder anew, with the password of this cluster.
func (c *cluster) create(ctx context.Context, cache string) error {
	if err := os.RemoveAll(c.data()); err != nil { // of a start that was broken off
		return err
	}
	maker := &cluster{bin: c.bin, dir: c.dir, uid: as(makerUID)}
	if err := maker.fill(ctx, cache); err != nil {
		return err
	}
	if err := maker.sql(ctx, fmt.Sprintf("ALTER ROLE %s PASSWORD '%s';\n", User, c.password)); err != nil {
		return err
	}
	return chownAll(c.data(), c.uid)
}

// fill puts a cluster into the data folder: a copy of the template, where
// there is one, or a new one, which then becomes the template.
func (c *cluster) fill(ctx context.Context, cache string) error {
	if cache == "" {
		return c.initialize(ctx)
	}
	template, err := templatePath(c.bin, cache)
	if err != nil {
		return err
	}
	err = usable(template)
	if err == nil {
		return copyTree(template, c.data(), c.uid)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := c.initialize(ctx); err != nil {
		return err
	}
	return saveTemplate(c.data(), template)
}

// initialize runs initdb, and makes the database. Nobody can log in: there is
// no password yet.
func (c *cluster) initialize(ctx context.Context) error {
	if err := os.Mkdir(c.data(), 0o700); err != nil {
		return err
	}
	if err := chownAll(c.data(), c.uid); err != nil {
		return err
	}
	initdb := c.command("initdb", "-D", c.data(), "-U", User, "--auth=reject",
		"--encoding=UTF8", "--locale=C", "--wal-segsize=1", "--no-sync", "--no-instructions")
	if _, err := runToEnd(ctx, initdb, ""); err != nil {
		return fmt.Errorf("%w (every folder above must let others pass where we are root)", err)
	}
	return c.sql(ctx, "CREATE DATABASE "+Database+";\n")
}

// sql runs statements, one a line, without a server. What it runs is in no
// error, as it may hold the password.
func (c *cluster) sql(ctx context.Context, statements string) error {
	single := c.command("postgres", "--single", "-F", "-D", c.data(), "-c", "log_min_error_statement=panic", "postgres")
	out, err := runToEnd(ctx, single, statements)
	// The exit status tells nothing of a statement.
	if err == nil && strings.Contains(out, "ERROR:") {
		err = fmt.Errorf("postgres --single: %s", out)
	}
	return err
}

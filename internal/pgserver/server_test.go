package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// childVariable makes this test binary start a server and hang, so that a test
// can kill it.
const childVariable = "GATEHOUSE_TEST_POSTGRES_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		os.Exit(child(dir))
	}
	os.Exit(m.Run())
}

func child(dir string) int {
	s, err := Start(context.Background(), Options{Dir: dir})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(s.PID())
	<-s.Done()
	return 0
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("got error %v, want one that says %q", err, p)
		}
	}
}

// eventually polls; it stands for a notification where there is none.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// publicDir is a folder whose parents let every uid pass.
func publicDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	noError(t, os.Chmod(filepath.Dir(dir), 0o711))
	return dir
}

func started(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), o)
	noError(t, err)
	t.Cleanup(s.Stop)
	return s
}

func connected(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	noError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func query(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	var text string
	noError(t, conn.QueryRow(t.Context(), sql).Scan(&text))
	return text
}

func TestServer(t *testing.T) {
	t.Parallel()
	cache := publicDir(t)
	begin := time.Now()
	lap := func(what string) {
		t.Logf("%s: %s", what, time.Since(begin).Round(time.Millisecond))
		begin = time.Now()
	}
	started(t, Options{Dir: publicDir(t), Cache: cache})
	lap("first start")
	s := started(t, Options{Dir: publicDir(t), Cache: cache})
	lap("start from the template")
	conn := connected(t, s.URL())
	for sql, want := range map[string]string{
		"SELECT current_database()":    "golden_arch",
		"SELECT current_user":          "gatehouse",
		"SHOW listen_addresses":        "127.0.0.1",
		"SHOW unix_socket_directories": "",
		"SHOW fsync":                   "off",
		"SHOW server_encoding":         "UTF8",
		"SHOW TimeZone":                "UTC",
		"SHOW port":                    strconv.Itoa(s.Port()),
		"SELECT rolpassword ~ '^SCRAM-SHA-256' || '' FROM pg_authid WHERE rolname = 'gatehouse'": "true",
	} {
		if got := query(t, conn, sql); got != want {
			t.Errorf("%s: got %q, want %q", sql, got, want)
		}
	}
}

func TestOnlyThePasswordOpens(t *testing.T) {
	t.Parallel()
	s, other := started(t, Options{Dir: publicDir(t)}), started(t, Options{Dir: publicDir(t)})
	if s.password == other.password || len(s.password) < 20 {
		t.Errorf("passwords %q and %q are not random", s.password, other.password)
	}
	for _, url := range []string{
		strings.Replace(s.URL(), s.password, other.password, 1),
		strings.Replace(s.URL(), ":"+s.password, "", 1),
		strings.Replace(s.URL(), User+":"+s.password, "postgres:"+s.password, 1),
	} {
		_, err := pgx.Connect(t.Context(), url)
		if _, ok := errors.AsType[*pgconn.PgError](err); !ok {
			t.Errorf("%s: got %v, want a refusal by Postgres", url, err)
		}
	}
}

func TestFolderIsPrivateAndNotRoots(t *testing.T) {
	t.Parallel()
	dir := publicDir(t)
	s := started(t, Options{Dir: dir})
	uid := os.Geteuid()
	if uid == 0 {
		uid = serverUID
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
	noError(t, err)
	if want := fmt.Sprintf("\nUid:\t%d\t%d\t%d\t%d\n", uid, uid, uid, uid); !strings.Contains(string(status), want) {
		t.Errorf("the server does not run under uid %d:\n%s", uid, status)
	}
	for name, want := range map[string]struct {
		mode os.FileMode
		uid  int
	}{"data": {0o700, uid}, "password": {0o600, os.Geteuid()}, "postgres.log": {0o600, os.Geteuid()}} {
		info, err := os.Stat(filepath.Join(dir, name))
		noError(t, err)
		if got := int(info.Sys().(*syscall.Stat_t).Uid); info.Mode().Perm() != want.mode || got != want.uid {
			t.Errorf("%s: mode %04o of uid %d, want %04o of %d", name, info.Mode().Perm(), got, want.mode, want.uid)
		}
	}
}

func TestDataOutlivesTheServer(t *testing.T) {
	t.Parallel()
	dir := publicDir(t)
	s := started(t, Options{Dir: dir, Durable: true})
	conn := connected(t, s.URL())
	if got := query(t, conn, "SHOW fsync"); got != "on" {
		t.Errorf("durable: fsync is %s", got)
	}
	_, err := conn.Exec(t.Context(), "CREATE TABLE kept (); ")
	noError(t, err)
	_, err = Start(t.Context(), Options{Dir: dir})
	wantError(t, err, dir, "in use by another server")
	noError(t, syscall.Kill(s.PID(), syscall.SIGKILL))
	<-s.Done()
	s.Stop()
	eventually(t, "the killed server's own processes have ended", func() bool {
		again, err := Start(t.Context(), Options{Dir: dir, Port: s.Port()})
		if err == nil {
			t.Cleanup(again.Stop)
		}
		return err == nil
	})
	conn = connected(t, s.URL()) // same port, same password
	if got := query(t, conn, "SELECT to_regclass('kept')::text"); got != "kept" {
		t.Errorf("the table is gone: %q", got)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	s := started(t, Options{Dir: publicDir(t)})
	connected(t, s.URL()) // open connections don't hold it up
	s.Stop()
	s.Stop()
	select {
	case <-s.Done():
	default:
		t.Error("stopped, and not done")
	}
	if _, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port()))); err == nil {
		t.Error("something still listens")
	}
}

func TestPortIsTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	defer l.Close()
	dir := publicDir(t)
	o := Options{Dir: dir, Port: l.Addr().(*net.TCPAddr).Port}
	_, err = Start(t.Context(), o)
	wantError(t, err, "the port is taken", "Address already in use")
	o.Port = 0
	started(t, o) // the folder was let go
}

func TestServerEndsWithItsParent(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childVariable+"="+publicDir(t))
	out, err := cmd.StdoutPipe()
	noError(t, err)
	noError(t, cmd.Start())
	var pid int
	_, err = fmt.Fscan(out, &pid)
	noError(t, errors.Join(err, cmd.Process.Kill()))
	_ = cmd.Wait() // killed on purpose
	eventually(t, "the server has ended", func() bool { return syscall.Kill(pid, 0) != nil })
}

func TestStartIsCanceled(t *testing.T) {
	t.Parallel()
	dir := publicDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Start(ctx, Options{Dir: dir})
	wantError(t, err, "canceled")
	started(t, Options{Dir: dir}) // what it left is no hindrance
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	file := filepath.Join(publicDir(t), "file")
	noError(t, os.WriteFile(file, nil, 0o600))
	open := publicDir(t)
	noError(t, os.Chmod(open, 0o777))
	for _, tt := range []struct {
		name string
		o    Options
		want string
	}{
		{"no folder", Options{}, "no folder is named"},
		{"folder in a file", Options{Dir: filepath.Join(file, "x")}, "not a directory"},
		{"no programs", Options{Dir: publicDir(t), Bin: "/nowhere"}, "/nowhere/initdb"},
		{"cache in a file", Options{Dir: publicDir(t), Cache: filepath.Join(file, "x")}, "not a directory"},
		{"cache of everybody", Options{Dir: publicDir(t), Cache: open}, "only uid"},
	} {
		s, err := Start(t.Context(), tt.o)
		wantError(t, err, tt.want)
		if s != nil {
			t.Errorf("%s: a server came with the error", tt.name)
		}
	}
}

func TestFolderThatTheServerCantReach(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs the server under another uid")
	}
	dir := publicDir(t)
	noError(t, os.Chmod(dir, 0o700))
	_, err := Start(t.Context(), Options{Dir: filepath.Join(dir, "x")})
	wantError(t, err, "initdb", "Permission denied", "let others pass")
}

func TestReady(t *testing.T) {
	t.Parallel()
	file := func(text string) string {
		path := filepath.Join(publicDir(t), "postmaster.pid")
		noError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	full := "7\n/data\n1\n5432\n\n127.0.0.1\n 1 2\n"
	for _, tt := range []struct {
		path string
		want bool
	}{
		{file(full + "ready   \n"), true},
		{file(full + "starting\n"), false},
		{file(full), false},
		{file("8" + full[1:] + "ready   \n"), false},
		{"/nowhere", false},
	} {
		if got := ready(tt.path, 7); got != tt.want {
			t.Errorf("%s: got %t", tt.path, got)
		}
	}
}

func TestSQLErrorIsFound(t *testing.T) {
	t.Parallel()
	bin, err := Find("")
	noError(t, err)
	c := &cluster{bin: bin, dir: publicDir(t), uid: as(makerUID)}
	noError(t, c.initialize(t.Context()))
	err = c.sql(t.Context(), "ALTER ROLE nobody_here PASSWORD 'secret';\n")
	wantError(t, err, "does not exist")
	if err != nil && strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells the password: %v", err)
	}
}

// BenchmarkWarmStart is a new cluster from the template, up to ready.
func BenchmarkWarmStart(b *testing.B) {
	cache, parent := b.TempDir(), b.TempDir()
	if err := os.Chmod(filepath.Dir(parent), 0o711); err != nil {
		b.Fatal(err)
	}
	n := 0
	start := func() *Server {
		n++
		s, err := Start(b.Context(), Options{Dir: filepath.Join(parent, strconv.Itoa(n)), Cache: cache})
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	start().Stop()
	b.ReportAllocs()
	for b.Loop() {
		s := start()
		b.StopTimer()
		s.Stop()
		b.StartTimer()
	}
}

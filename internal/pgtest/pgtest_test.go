package pgtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// childVariable makes this test binary use a server, say where it is, and end.
const childVariable = "GATEHOUSE_TEST_PGTEST"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		h, err := server()
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(h.server.PID(), h.server.Log())
		os.Exit(0) // without any cleanup
	}
	os.Exit(m.Run())
}

// TestDatabasesAreApart shows that each call gives a database of its own, with
// the schema and the default rules, and nothing else in it.
func TestDatabasesAreApart(t *testing.T) {
	t.Parallel()
	a, b := New(t), New(t)
	if _, err := a.Exec(t.Context(), `INSERT INTO tenants (id) VALUES ('org1')`); err != nil {
		t.Fatal(err)
	}
	for sql, want := range map[string]int{
		`SELECT count(*) FROM tenants`:             0,
		`SELECT count(*) FROM learning_governance`: 5,
	} {
		var got int
		if err := b.QueryRow(t.Context(), sql).Scan(&got); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", sql, got, err, want)
		}
	}
}

func TestDatabaseGoesWithItsTest(t *testing.T) {
	t.Parallel()
	var name string
	t.Run("inner", func(t *testing.T) {
		conn, err := pgx.Connect(t.Context(), Empty(t)) // and left open
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.QueryRow(t.Context(), `SELECT current_database()`).Scan(&name); err != nil {
			t.Fatal(err)
		}
		var tables int
		err = conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&tables)
		if err != nil || tables != 0 {
			t.Errorf("an empty database has %d tables, %v", tables, err)
		}
	})
	conn, err := pgx.Connect(t.Context(), Server(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var left int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_database WHERE datname = $1`, name).Scan(&left); err != nil || left != 0 {
		t.Errorf("%s: is still there: %d, %v", name, left, err)
	}
}

// TestNothingIsLeft shows that server and folder go with their process.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var pid int
	var log string
	if _, err := fmt.Fscan(bytes.NewReader(out), &pid, &log); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	deadline := time.After(20 * time.Second)
	for !gone(fmt.Sprintf("/proc/%d", pid)) || !gone(log) {
		select {
		case <-deadline:
			t.Fatalf("server %d or %s is left", pid, log)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func gone(path string) bool {
	_, err := os.Stat(path)
	return os.IsNotExist(err)
}

func BenchmarkDatabase(b *testing.B) {
	URL(b)
	b.ReportAllocs()
	for b.Loop() {
		URL(b)
	}
}

package mesh

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const listen = `LISTEN gatehouse_mesh`

// Bounds of a listener: how long it takes at most to notice that nobody is at
// the other end any more, and how long it takes to leave.
const (
	pingEvery    = 10 * time.Second // of silence
	pingTimeout  = 3 * time.Second
	leaveTimeout = time.Second
)

// Listen calls changed with the name of the table whenever what sidecars are
// told may have changed, by any control: sidecars, live_epoch or
// policy_activations. It calls it with "" once it listens: whatever happened
// before may have been missed. Calls follow each other, in the order of commits.
//
// It holds a connection of its own, beside the pool's, and returns when ctx has
// ended or the connection is lost; the caller tries again then.
func (s *Store) Listen(ctx context.Context, changed func(table string)) error {
	config := s.o.Pool.Config().ConnConfig // a copy
	config.RuntimeParams["application_name"] = "gatehouse mesh"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return answer(fmt.Errorf("listening: %w", err))
	}
	defer leave(ctx, conn)
	if _, err := conn.Exec(ctx, listen); err != nil {
		return answer(fmt.Errorf("listening: %w", err))
	}
	changed("")
	return answer(follow(ctx, conn, pingEvery, changed))
}

// leave works also when ctx has ended.
func leave(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	_ = conn.Close(ctx) // nothing depends on how it ends
}

// follow passes on what a connection is told. After a silence it asks whether
// the server is still there: a lost network sends no word of it.
func follow(ctx context.Context, conn *pgx.Conn, silence time.Duration, changed func(table string)) error {
	for {
		told, err := next(ctx, conn, silence)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("listening: %w", err)
		case told != "":
			changed(told)
		}
	}
}

// next returns what the connection is told, or "" after a silence that the
// server has answered for.
func next(ctx context.Context, conn *pgx.Conn, silence time.Duration) (string, error) {
	wait, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	n, err := conn.WaitForNotification(wait)
	if err == nil {
		return n.Payload, nil
	}
	if wait.Err() == nil || conn.IsClosed() {
		return "", err
	}
	ping, cancelPing := context.WithTimeout(ctx, pingTimeout)
	defer cancelPing()
	return "", conn.Ping(ping)
}

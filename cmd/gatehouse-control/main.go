// Command gatehouse-control is one replica of the control service. As
// "gatehouse-control break-glass" it lets an administrator in when none can log
// in.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"gatehouse/internal/app/control"
	"gatehouse/internal/buildinfo"
)

const hint = ".env.example lists the environment that it reads"

func main() { os.Exit(end(run())) }

// end says what went wrong, and returns the exit code.
func end(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "gatehouse-control:", err)
	}
	return control.ExitCode(err)
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == "break-glass" {
		return control.BreakGlass(ctx, os.Args[2:], os.Getenv, os.Stdout, os.Stderr)
	}
	var o control.Options
	flag.BoolVar(&o.Dev, "dev", false, "migrate the database and make the dev users; never in production")
	flag.TextVar(&o.Level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	version := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	o.Version = buildinfo.Version()
	if *version {
		fmt.Println(o.Version)
		return nil
	}
	if flag.NArg() > 0 {
		return fmt.Errorf("%w: takes no arguments, but the command break-glass\n%s", control.ErrUsage, hint)
	}
	var err error
	if o.Config, err = control.FromEnvironment(os.Getenv); err != nil {
		return fmt.Errorf("%w: %w\n%s", control.ErrUsage, err, hint)
	}
	return control.Run(ctx, o)
}

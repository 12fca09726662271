// Command gatehouse-control is one replica of the control service.
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

// Exit codes.
const (
	failed = 1
	usage  = 2
)

func main() { os.Exit(run()) }

func run() int {
	var o control.Options
	flag.BoolVar(&o.Dev, "dev", false, "migrate the database and make the dev users; never in production")
	flag.TextVar(&o.Level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	version := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	o.Version = buildinfo.Version()
	if *version {
		fmt.Println(o.Version)
		return 0
	}
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "gatehouse-control: takes no arguments; .env.example lists the environment that it reads")
		return usage
	}
	var err error
	if o.Config, err = control.FromEnvironment(os.Getenv); err != nil {
		fmt.Fprintf(os.Stderr, "gatehouse-control: %v\n.env.example lists the environment that it reads\n", err)
		return usage
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := control.Run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "gatehouse-control:", err)
		return failed
	}
	return 0
}

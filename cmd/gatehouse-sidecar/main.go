// Command gatehouse-sidecar is the enforcer beside one Envoy.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"gatehouse/internal/app/sidecar"
	"gatehouse/internal/buildinfo"
)

// Exit codes.
const (
	failed = 1
	usage  = 2
)

func main() { os.Exit(run()) }

func run() int {
	var o sidecar.Options
	flag.StringVar(&o.Config, "config", "", "path of sidecar.yaml")
	flag.StringVar(&o.Policies, "policies", "", "folder of the policy set, where control does not send it; read again on SIGHUP and on change")
	flag.TextVar(&o.Level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	version := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	o.Version = buildinfo.Version()
	if *version {
		fmt.Println(o.Version)
		return 0
	}
	if o.Config == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "gatehouse-sidecar: needs --config FILE, and --policies DIR where control does not send the policy set; see --help")
		return usage
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	if err := sidecar.Run(ctx, o, reload); err != nil {
		fmt.Fprintln(os.Stderr, "gatehouse-sidecar:", err)
		return failed
	}
	return 0
}

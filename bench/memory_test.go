package bench

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	procv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

// openStreams is how many exchanges are open at once while memory is read.
const openStreams = 1000

// BenchmarkOpenStreams reads how much memory an exchange takes that is in the
// middle of a stream of events, beside one of the server that only echoes.
func BenchmarkOpenStreams(b *testing.B) {
	for b.Loop() {
		var echo int64
		for _, p := range processors() {
			each := perStream(b, newContender(b, p))
			fmt.Printf("%-20s %6d bytes resident per open stream\n", p.name, each)
			if p.name == "echo" {
				echo = each
				continue
			}
			b.ReportMetric(float64(each-echo), p.name+"-bytes-beyond-echo")
		}
	}
}

func perStream(b *testing.B, c *contender) int64 {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var streams []procv3.ExternalProcessor_ProcessClient
	open := func(n int) {
		for range n {
			stream, err := c.client.Process(ctx)
			must(b, err)
			s := c.long.script
			must(b, s.request(stream, fmt.Sprintf("%s-%d", c.name, c.ids.Add(1))))
			must(b, stream.Send(s.responseBody(s.frames[1], false)))
			_, err = stream.Recv()
			must(b, err)
			streams = append(streams, stream)
		}
	}
	open(openStreams / 10) // what the first ones need is not each one's
	before := resident(b, c.pid)
	open(openStreams)
	return (resident(b, c.pid) - before) / openStreams
}

// resident is the memory that a process has in use, in bytes (proc(5), statm).
func resident(b *testing.B, pid int) int64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	must(b, err)
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	must(b, err)
	return pages * int64(os.Getpagesize())
}

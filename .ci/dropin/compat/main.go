// Command compat is a program that uses github.com/hashicorp/go-metrics/compat beside
// memberlist, as Nomad, raft and Serf do. It proves that the metrics of the library
// reach the sink that such a program sets, and that the package is there at all: later
// versions of go-metrics have it no more.
package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hashicorp/go-metrics"
	compat "github.com/hashicorp/go-metrics/compat"
	"github.com/hashicorp/memberlist"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "compat:", err)
		os.Exit(1)
	}
}

func run() error {
	config := metrics.DefaultConfig("program")
	config.EnableHostname, config.EnableRuntimeMetrics = false, false
	sink := metrics.NewInmemSink(time.Hour, time.Hour)
	if _, err := metrics.NewGlobal(config, sink); err != nil {
		return err
	}
	compat.IncrCounter([]string{"own"}, 1)

	node := memberlist.DefaultLocalConfig()
	node.BindAddr, node.BindPort, node.LogOutput = "127.0.0.1", 0, io.Discard
	m, err := memberlist.Create(node)
	if err != nil {
		return err
	}
	defer m.Shutdown()
	for _, interval := range sink.Data() {
		for name := range interval.Counters {
			if name == "program.memberlist.msg.alive" {
				fmt.Println("the metrics of memberlist arrived")
				return nil
			}
		}
	}
	return fmt.Errorf("no metrics of memberlist in %v", sink.Data())
}
